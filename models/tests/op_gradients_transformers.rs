//! Every op of the hierarchical transformers and modern convolutional nets: value against a plain
//! loop, gradients against central differences in double precision.

mod common;

use candle_core::Tensor;
use common::gradients::{check, check_rounding, filled};
use common::{max_difference, numbers};
use efficienttrain_models::ops::{self, Scales, Windows};

/// Halves of the last place by which gradients in `bf16` may be off. Where the processor multiplies
/// such numbers as such, the gradient of scores and the probabilities are rounded before they are
/// multiplied, as PyTorch's kernels do, and the result is once more.
fn halves() -> f64 {
    if ops::Bf16Products::detect() == ops::Bf16Products::Single { 1.0 } else { 2.0 }
}

#[test]
fn attention() {
    // The last ones have several tiles of a GPU's kernel, or wide heads.
    let cases = [
        (1, 1, 4),
        (5, 2, 3),
        (17, 3, 8),
        (12, 1, 40),
        (20, 1, 48),
        (37, 1, 33),
        (40, 2, 20),
        (70, 1, 5),
        (150, 2, 16),
        (50, 2, 64),
        (130, 1, 64),
        (66, 1, 72),
    ];
    for (n, heads, d) in cases {
        let qkv = filled("qkv", &[2, n, 3 * heads * d]);
        let name = format!("attention of {n} tokens, {heads} heads of {d}");
        let value = numbers(&ops::attention(&qkv, heads).unwrap().value);
        assert!(max_difference(&value, &plain_attention(&qkv, heads)) < 1e-12, "{name}");
        check_rounding(&name, &[qkv], |t| ops::attention(&t[0], heads), halves());
    }
}

/// Attention by the definition.
fn plain_attention(qkv: &Tensor, heads: usize) -> Vec<f64> {
    let &[b, n, width] = qkv.dims() else { unreachable!() };
    let (c, x) = (width / 3, numbers(qkv));
    let d = c / heads;
    let at = |s: usize, i: usize, part: usize, ch: usize| x[(s * n + i) * width + part * c + ch];
    let mut out = vec![0.0; b * n * c];
    for (s, h, i) in (0..b * heads * n).map(|k| (k / n / heads, k / n % heads, k % n)) {
        let channels = h * d..(h + 1) * d;
        let score =
            |j| channels.clone().map(|ch| at(s, i, 0, ch) * at(s, j, 1, ch)).sum::<f64>() / (d as f64).sqrt();
        let weights: Vec<f64> = (0..n).map(|j| score(j).exp()).collect();
        let mass: f64 = weights.iter().sum();
        for ch in channels {
            out[(s * n + i) * c + ch] = (0..n).map(|j| weights[j] / mass * at(s, j, 2, ch)).sum();
        }
    }
    out
}

/// Windowed attention by the definition: each pair of tokens of the map decides for itself whether
/// they meet.
fn plain_windows(qkv: &Tensor, heads: usize, windows: &[Windows], table: Option<&Tensor>) -> Vec<f64> {
    let &[b, h, w, width] = qkv.dims() else { unreachable!() };
    let (c, x, n) = (width / 3, numbers(qkv), h * w);
    let (d, table) = (c / heads, table.map(numbers));
    let mut out = vec![0.0; b * n * c];
    for (s, head, i) in (0..b * heads * n).map(|k| (k / n / heads, k / n % heads, k % n)) {
        let Windows { size, shift } = windows[head * windows.len() / heads];
        // Position after the roll, along each axis.
        let place = |t: usize| [(t / w + h - shift[0]) % h, (t % w + w - shift[1]) % w];
        let wrapped = |p: [usize; 2]| [p[0] >= h - shift[0], p[1] >= w - shift[1]];
        let a = place(i);
        let score = |j: usize| {
            let other = place(j);
            if a[0] / size[0] != other[0] / size[0] || a[1] / size[1] != other[1] / size[1] {
                return None;
            }
            let at = |t: usize, part: usize, ch: usize| x[(s * n + t) * width + part * c + head * d + ch];
            let dot: f64 = (0..d).map(|ch| at(i, 0, ch) * at(j, 1, ch)).sum();
            let offset = |axis: usize| a[axis] % size[axis] + size[axis] - 1 - other[axis] % size[axis];
            let bias =
                table.as_ref().map_or(0.0, |t| t[(offset(0) * (2 * size[1] - 1) + offset(1)) * heads + head]);
            let mask = if wrapped(a) == wrapped(other) { 0.0 } else { -100.0 };
            Some((dot / (d as f64).sqrt() + bias + mask).exp())
        };
        let weights: Vec<f64> = (0..n).map(|j| score(j).unwrap_or(0.0)).collect();
        let mass: f64 = weights.iter().sum();
        for ch in 0..d {
            let v = |j: usize| x[(s * n + j) * width + 2 * c + head * d + ch];
            out[(s * n + i) * c + head * d + ch] = (0..n).map(|j| weights[j] / mass * v(j)).sum();
        }
    }
    out
}

#[test]
fn attention_in_windows_of_all_kinds() {
    let square = |edge, shift| vec![Windows { size: [edge; 2], shift: [shift; 2] }];
    let stripes =
        |h, w| vec![Windows { size: [h, 1], shift: [0; 2] }, Windows { size: [1, w], shift: [0; 2] }];
    let cases: [([usize; 4], usize, Vec<Windows>, bool); 12] = [
        ([2, 4, 6, 12], 2, square(2, 0), true),
        ([2, 6, 6, 12], 2, square(3, 1), true),
        ([1, 4, 6, 6], 1, vec![Windows { size: [4, 3], shift: [0, 1] }], true),
        ([1, 3, 3, 12], 2, square(3, 0), true),
        ([2, 4, 2, 24], 4, stripes(4, 2), false),
        ([1, 4, 4, 12], 2, square(2, 1), false),
        // Windows that fill a tile of a GPU's kernel, or take two; the third has wide heads.
        ([1, 16, 8, 12], 2, square(8, 3), true),
        ([1, 9, 18, 6], 1, square(9, 4), true),
        ([1, 6, 6, 144], 1, square(3, 1), true),
        ([1, 12, 12, 6], 1, square(6, 2), false),
        // The sizes of groups between.
        ([1, 5, 10, 12], 2, square(5, 2), true),
        ([1, 6, 6, 6], 1, square(6, 1), true),
    ];
    for (shape, heads, windows, biased) in cases {
        let name = format!("attention on {shape:?}, {heads} heads, {windows:?}, bias {biased}");
        let [h, w] = windows[0].size;
        let inputs = [filled("qkv", &shape), filled("bias", &[(2 * h - 1) * (2 * w - 1), heads])];
        let table = biased.then_some(&inputs[1]);
        let value = ops::window_attention(&inputs[0], heads, &windows, table).unwrap().value;
        let off = max_difference(&numbers(&value), &plain_windows(&inputs[0], heads, &windows, table));
        assert!(off < 1e-12, "{name}: off by {off}");
        let op = |t: &[Tensor]| ops::window_attention(&t[0], heads, &windows, t.get(1));
        check_rounding(&name, &inputs[..1 + usize::from(biased)], op, halves());
    }
}

#[test]
fn the_gradient_of_a_bias_sums_over_more_images_than_groups() {
    let inputs = [filled("qkv", &[67, 2, 2, 6]), filled("bias", &[9, 2])];
    let op = |t: &[Tensor]| {
        ops::window_attention(&t[0], 2, &[Windows { size: [2, 2], shift: [0, 0] }], Some(&t[1]))
    };
    // The name is the seed of the cotangent.
    check_rounding("bias over 67 pictures", &inputs, op, halves());
}

#[test]
fn attention_over_other_tokens() {
    for (n, m, heads, d) in [(5, 3, 2, 4), (3, 1, 1, 3), (4, 7, 3, 2), (70, 150, 2, 8)] {
        let c = heads * d;
        let name = format!("attention of {n} tokens over {m}, {heads} heads of {d}");
        let inputs = [filled("q", &[2, n, c]), filled("kv", &[2, m, 2 * c])];
        check_rounding(&name, &inputs, |t| ops::cross_attention(&t[0], &t[1], heads), halves());
        // Queries over their own keys and values are plain attention.
        let own = [filled("q", &[2, n, c]), filled("kv", &[2, n, 2 * c])];
        let packed = Tensor::cat(&own, 2).unwrap();
        let value = ops::cross_attention(&own[0], &own[1], heads).unwrap().value;
        assert!(max_difference(&numbers(&value), &plain_attention(&packed, heads)) < 1e-12, "{name}");
    }
}

/// Depthwise convolution by the definition, `tile` as in the op.
fn plain_depthwise(x: &Tensor, w: &Tensor, bias: &Tensor, pad: usize, tile: [usize; 2]) -> Vec<f64> {
    let (&[n, h, width, c], &[_, _, kh, kw]) = (x.dims(), w.dims()) else { unreachable!() };
    let (xs, ws, bs) = (numbers(x), numbers(w), numbers(bias));
    let (ho, wo) = (h + 2 * pad + 1 - kh, width + 2 * pad + 1 - kw);
    let mut y = Vec::new();
    for (b, oy, ox, ch) in (0..n * ho * wo * c).map(|i| (i / c / wo / ho, i / c / wo % ho, i / c % wo, i % c))
    {
        let mut sum = bs[ch];
        for (ky, kx) in (0..kh * kw).map(|i| (i / kw, i % kw)) {
            let (iy, ix) = ((oy + ky).wrapping_sub(pad), (ox + kx).wrapping_sub(pad));
            let inside = iy < h && ix < width;
            let together =
                tile == [h, width] || (iy / tile[0] == oy / tile[0] && ix / tile[1] == ox / tile[1]);
            if inside && together {
                sum += xs[((b * h + iy) * width + ix) * c + ch] * ws[(ch * kh + ky) * kw + kx];
            }
        }
        y.push(sum);
    }
    y
}

#[test]
fn depthwise_convolution_of_all_kinds() {
    /// (image, kernel, padding, tile)
    type Case = ([usize; 4], [usize; 2], usize, Option<[usize; 2]>);
    let cases: [Case; 11] = [
        ([2, 6, 5, 3], [3, 3], 1, None),
        ([1, 9, 8, 5], [7, 7], 3, None),
        ([1, 2, 3, 2], [7, 7], 3, None),
        ([2, 5, 6, 70], [3, 3], 1, None),
        ([2, 7, 6, 2], [3, 3], 0, None),
        ([1, 4, 5, 2], [2, 3], 1, None),
        ([1, 5, 9, 3], [5, 5], 2, None),
        ([2, 4, 7, 2], [2, 6], 1, None),
        ([1, 4, 6, 3], [3, 2], 1, None),
        ([2, 4, 6, 3], [3, 3], 1, Some([4, 1])),
        ([2, 4, 6, 3], [3, 3], 1, Some([2, 3])),
    ];
    for (shape, [kh, kw], padding, tile) in cases {
        let name = format!("depthwise {shape:?}, kernel {kh}x{kw}, padding {padding}, tile {tile:?}");
        let inputs = [filled("x", &shape), filled("w", &[shape[3], 1, kh, kw]), filled("b", &[shape[3]])];
        let conv = |t: &[Tensor]| ops::depthwise_conv2d(&t[0], &t[1], t.get(2), padding, tile);
        let plain = plain_depthwise(
            &inputs[0],
            &inputs[1],
            &inputs[2],
            padding,
            tile.unwrap_or([shape[1], shape[2]]),
        );
        let off = max_difference(&numbers(&conv(&inputs).unwrap().value), &plain);
        assert!(off < 1e-12, "{name}: off by {off}");
        check(&name, &inputs, conv);
        check(&name, &inputs[..2], conv);
    }
}

/// Factors as a tensor.
fn factors(values: &[f64], device: &candle_core::Device) -> Tensor {
    Tensor::new(values, &candle_core::Device::Cpu)
        .unwrap()
        .to_dtype(candle_core::DType::F32)
        .unwrap()
        .to_device(device)
        .unwrap()
}

#[test]
fn residual_connections_of_all_kinds() {
    let inputs = [filled("x", &[2, 3, 5]), filled("y", &[2, 3, 5]), filled("a", &[5]), filled("g", &[5])];
    for (skip, branch, keep) in (0..8).map(|i| (i & 1 > 0, i & 2 > 0, i & 4 > 0)) {
        let name = format!("residual, skip scale {skip}, branch scale {branch}, dropped {keep}");
        let mut chosen = inputs[..2].to_vec();
        chosen.extend(skip.then(|| inputs[2].clone()));
        chosen.extend(branch.then(|| inputs[3].clone()));
        let op = |t: &[Tensor]| {
            let scales = Scales {
                skip: skip.then(|| t[2].clone()),
                branch: branch.then(|| t[2 + usize::from(skip)].clone()),
                keep: keep.then(|| factors(&[0.0, 1.25], t[0].device())),
            };
            ops::residual(&t[0], &t[1], scales)
        };
        let [x, y, a, g] = [0, 1, 2, 3].map(|i| numbers(&inputs[i]));
        let plain: Vec<f64> = (0..30)
            .map(|i| {
                let kept = if keep { [0.0, 1.25][i / 15] } else { 1.0 };
                let (a, g) = (if skip { a[i % 5] } else { 1.0 }, if branch { g[i % 5] } else { 1.0 });
                x[i] * a + y[i] * g * kept
            })
            .collect();
        let off = max_difference(&numbers(&op(&chosen).unwrap().value), &plain);
        assert!(off < 1e-12, "{name}: off by {off}");
        check(&name, &chosen, op);
    }
    let broken = Tensor::full(f64::NAN, (2, 3, 5), &candle_core::Device::Cpu).unwrap();
    let dropped = Scales { keep: Some(factors(&[0.0; 2], broken.device())), ..Scales::default() };
    let value = ops::residual(&inputs[0], &broken, dropped).unwrap().value;
    assert_eq!(numbers(&value), numbers(&inputs[0]), "a dropped branch counts as zero even where it is NaN");
}

#[test]
fn channels_are_chosen_joined_and_merged() {
    let x = [filled("x", &[2, 4, 6, 5])];
    check("slice", &x, |t| ops::slice_channels(&t[0], 1, 3));
    let pair = [filled("x", &[2, 3, 2]), filled("y", &[2, 3, 4])];
    check("concat", &pair, |t| ops::concat_channels(&[&t[0], &t[1]]));
    check("merge", &x, |t| ops::merge_patches(&t[0]));
    // The definition of the authors: four strided images side by side.
    let merged = numbers(&ops::merge_patches(&x[0]).unwrap().value);
    let pixels = numbers(&x[0]);
    for (i, (dy, dx)) in [(0, 0), (1, 0), (0, 1), (1, 1)].into_iter().enumerate() {
        for (b, y, x, c) in (0..2 * 2 * 3 * 5).map(|k| (k / 30, k / 15 % 2, k / 5 % 3, k % 5)) {
            let got = merged[((b * 2 + y) * 3 + x) * 20 + i * 5 + c];
            assert_eq!(got, pixels[((b * 4 + 2 * y + dy) * 6 + 2 * x + dx) * 5 + c]);
        }
    }
}

#[test]
fn wrong_shapes_are_errors_that_say_what_was_expected() {
    let t = |shape: &[usize]| filled("t", shape);
    let square = |edge, shift| Windows { size: [edge; 2], shift: [shift; 2] };
    let (x, qkv) = (t(&[1, 4, 4, 3]), t(&[1, 4, 4, 6]));
    let w = t(&[3, 1, 3, 3]);
    let cases = [
        (ops::window_attention(&qkv, 2, &[square(3, 0)], None), "windows of 3x3"),
        (ops::window_attention(&qkv, 2, &[square(2, 2)], None), "shifted by less (2, 2)"),
        (ops::window_attention(&qkv, 2, &[], None), "share 2 heads"),
        (ops::window_attention(&qkv, 2, &[square(2, 0)], Some(&t(&[8, 2]))), "[9, 2]"),
        (ops::window_attention(&qkv, 2, &[square(2, 0); 2], Some(&t(&[9, 2]))), "one kind of windows"),
        (ops::cross_attention(&t(&[1, 2, 4]), &t(&[1, 3, 6]), 2), "[1, 3, 8]"),
        (ops::cross_attention(&t(&[1, 2, 4]), &t(&[1, 3, 8]), 3), "3 heads"),
        (ops::depthwise_conv2d(&x, &t(&[4, 1, 3, 3]), None, 1, None), "3 channels"),
        (ops::depthwise_conv2d(&x, &t(&[3, 1, 7, 7]), None, 0, None), "7x7 kernel"),
        (ops::depthwise_conv2d(&x, &w, None, 3, None), "below it"),
        (ops::depthwise_conv2d(&x, &w, None, 1, Some([3, 4])), "tiles of 3x4"),
        (ops::residual(&x, &qkv, Scales::default()), "[1, 4, 4, 3]"),
        (
            ops::residual(&x, &x, Scales { keep: Some(factors(&[1.0; 2], x.device())), ..Scales::default() }),
            "a factor for each sample",
        ),
        (ops::slice_channels(&x, 2, 2), "more than 2 + 2 channels"),
        (ops::concat_channels(&[]), "at least one input"),
        (ops::merge_patches(&t(&[1, 3, 4, 2])), "even H and W"),
        (ops::star_relu(&x, &t(&[2]), &t(&[1])), "[1]"),
        (ops::scale_elements(&x, &factors(&[1.0], x.device())), "1 elements"),
    ];
    for (result, expected) in cases {
        let message = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }
}
