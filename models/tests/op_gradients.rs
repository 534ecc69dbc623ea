//! Every op: its value against a plain loop if there is one, its gradients against central
//! differences in double precision, its single-precision path against the double one.

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::gradients::{check, check_rounded_twice, dot, filled};
use common::{beside, devices, max_difference, numbers};
use efficienttrain_models::Result;
use efficienttrain_models::ops::{self, BatchStatistics, Conv2dConfig, Traced};

const PADDED: Conv2dConfig = Conv2dConfig { stride: 1, padding: 1, dilation: 1, groups: 1 };

#[test]
fn linear() {
    let inputs = [filled("x", &[3, 4, 7]), filled("w", &[5, 7]), filled("b", &[5])];
    check("linear", &inputs, |t| ops::linear(&t[0], &t[1], Some(&t[2])));
    check("linear without bias", &inputs[..2], |t| ops::linear(&t[0], &t[1], None));
    let few = [filled("x", &[9, 140]), filled("w", &[150, 140]), filled("b", &[150])];
    check("linear of few rows", &few, |t| ops::linear(&t[0], &t[1], Some(&t[2])));
}

/// The same mean and variance for each of `c` channels.
fn statistics(mean: f64, variance: f64, c: usize) -> BatchStatistics {
    let all = |x: f64| Tensor::full(x, c, &Device::Cpu).unwrap();
    BatchStatistics::new(all(mean), all(variance), 0)
}

/// On the device of a tensor.
fn statistics_beside(t: &Tensor, s: &BatchStatistics) -> BatchStatistics {
    BatchStatistics::new(beside(t, &s.mean), beside(t, &s.variance), s.count)
}

/// Convolution by the definition.
fn plain_conv(x: &Tensor, w: &Tensor, config: Conv2dConfig) -> Vec<f64> {
    let Conv2dConfig { stride, padding: pad, dilation, groups } = config;
    let (&[n, h, width, c], &[o, part, kh, kw]) = (x.dims(), w.dims()) else { unreachable!() };
    let (xs, ws) = (numbers(x), numbers(w));
    let places = |size: usize, kernel: usize| (size + 2 * pad - dilation * (kernel - 1) - 1) / stride + 1;
    let (ho, wo) = (places(h, kh), places(width, kw));
    let mut y = Vec::new();
    for (b, oy, ox, k) in (0..n * ho * wo * o).map(|i| (i / o / wo / ho, i / o / wo % ho, i / o % wo, i % o))
    {
        let (mut sum, first) = (0.0, k / (o / groups) * part);
        for (ky, kx, ch) in (0..kh * kw * part).map(|i| (i / part / kw, i / part % kw, i % part)) {
            let iy = (oy * stride + ky * dilation).wrapping_sub(pad);
            let ix = (ox * stride + kx * dilation).wrapping_sub(pad);
            if iy < h && ix < width {
                let x = xs[((b * h + iy) * width + ix) * c + first + ch];
                sum += x * ws[((k * part + ch) * kh + ky) * kw + kx];
            }
        }
        y.push(sum);
    }
    y
}

/// Value and gradients of one convolution of an image `x` with `o` results.
fn check_conv(x: [usize; 4], o: usize, [kh, kw]: [usize; 2], config: Conv2dConfig) {
    let name = format!("conv {x:?} to {o}, kernel {kh}x{kw}, {config:?}");
    let w = [o, x[3] / config.groups, kh, kw];
    let inputs = [filled("x", &x), filled("w", &w), filled("b", &[o])];
    let value = ops::conv2d(&inputs[0], &inputs[1], None, config).unwrap().value;
    let off = max_difference(&numbers(&value), &plain_conv(&inputs[0], &inputs[1], config));
    assert!(off < 1e-12, "{name}: off by {off}");
    // cuDNN rounds the sum before it adds the bias, as in PyTorch.
    check_rounded_twice(&name, &inputs, |t| ops::conv2d(&t[0], &t[1], Some(&t[2]), config));
}

#[test]
fn convolution_of_all_kinds() {
    /// (image, outputs, kernel, stride, padding)
    type Case = ([usize; 4], usize, [usize; 2], usize, usize);
    let cases: [Case; 14] = [
        ([2, 6, 5, 3], 4, [3, 3], 1, 1),
        ([2, 7, 4, 2], 3, [3, 3], 2, 1),
        ([1, 9, 9, 3], 4, [7, 7], 2, 3),
        ([3, 4, 5, 6], 5, [1, 1], 1, 0),
        ([2, 5, 6, 4], 3, [1, 1], 2, 0),
        ([2, 8, 8, 3], 6, [4, 4], 4, 0),
        ([1, 3, 3, 2], 2, [5, 5], 1, 2),
        ([1, 5, 7, 2], 2, [2, 3], 1, 1),
        ([2, 2, 2, 3], 4, [3, 3], 2, 1),
        ([1, 1, 1, 3], 2, [3, 3], 1, 1),
        // Few pixels of many channels.
        ([2, 3, 3, 40], 48, [3, 3], 1, 1),
        ([1, 5, 6, 40], 44, [3, 3], 2, 1),
        // Shapes that are computed by Winograd convolution.
        ([1, 8, 9, 16], 32, [3, 3], 1, 1),
        ([2, 9, 8, 32], 16, [3, 3], 1, 0),
    ];
    for (x, o, kernel, stride, padding) in cases {
        check_conv(x, o, kernel, Conv2dConfig { stride, padding, ..Conv2dConfig::default() });
    }
}

#[test]
fn dilated_and_grouped_convolutions() {
    /// (image, outputs, kernel, stride, padding, dilation, groups)
    type Case = ([usize; 4], usize, [usize; 2], [usize; 4]);
    let cases: [Case; 11] = [
        ([2, 7, 6, 3], 4, [3, 3], [1, 2, 2, 1]),
        ([1, 9, 8, 2], 3, [3, 3], [2, 2, 2, 1]),
        ([1, 9, 8, 2], 3, [3, 2], [2, 3, 3, 1]),
        ([1, 10, 11, 2], 3, [3, 3], [3, 1, 2, 1]),
        ([1, 12, 9, 2], 2, [4, 3], [4, 2, 2, 1]),
        ([1, 12, 12, 1], 2, [3, 3], [6, 4, 4, 1]),
        ([2, 4, 5, 1], 3, [1, 1], [1, 0, 3, 1]),
        ([2, 5, 4, 4], 6, [3, 3], [1, 1, 1, 2]),
        ([1, 5, 6, 6], 3, [3, 3], [2, 1, 1, 3]),
        ([1, 7, 7, 4], 4, [3, 3], [1, 2, 2, 4]),
        ([1, 3, 3, 3], 6, [1, 1], [1, 0, 1, 3]),
    ];
    for (x, o, kernel, [stride, padding, dilation, groups]) in cases {
        check_conv(x, o, kernel, Conv2dConfig { stride, padding, dilation, groups });
    }
}

#[test]
fn a_large_convolution_goes_tile_by_tile() {
    // 4 * 40 * 41 rows of 9 * 96 values: more than is unfolded in one piece.
    let (x, w) = (filled("x", &[4, 40, 41, 96]), filled("w", &[5, 96, 3, 3]));
    let traced = ops::conv2d(&x, &w, None, PADDED).unwrap();
    let off = max_difference(&numbers(&traced.value), &plain_conv(&x, &w, PADDED));
    assert!(off < 1e-11, "value: off by {off}");
    // The op is linear in each input: <dy, conv(x, w)> = <dx, x> = <dw, w>.
    let dy = filled("dy", traced.value.dims());
    let grads = (traced.pullback)(&dy, &[true, true]).unwrap();
    let want = dot(&traced.value, &dy);
    for (grad, input) in grads.iter().zip([&x, &w]) {
        let got = dot(grad.as_ref().unwrap(), input);
        assert!((got - want).abs() < 1e-9 * want.abs().max(1.0), "{got} against {want}");
    }
    // And tile by tile is the same as image by image, each of which is unfolded whole.
    let mut dw = vec![0.0; w.elem_count()];
    for i in 0..4 {
        let one = |t: &Tensor| t.narrow(0, i, 1).unwrap().contiguous().unwrap();
        let traced = ops::conv2d(&one(&x), &w, None, PADDED).unwrap();
        let single = (traced.pullback)(&one(&dy), &[true, true]).unwrap();
        let off =
            max_difference(&numbers(single[0].as_ref().unwrap()), &numbers(&one(grads[0].as_ref().unwrap())));
        assert!(off < 1e-11, "gradient of image {i}: off by {off}");
        dw.iter_mut().zip(numbers(single[1].as_ref().unwrap())).for_each(|(a, b)| *a += b);
    }
    let off = max_difference(&dw, &numbers(grads[1].as_ref().unwrap()));
    assert!(off < 1e-9, "gradient of the weight: off by {off}");
}

#[test]
fn batch_norm_in_training_evaluation_and_fused() {
    let inputs =
        [filled("x", &[2, 3, 4, 5]), filled("w", &[5]), filled("b", &[5]), filled("r", &[2, 3, 4, 5])];
    for relu in [false, true] {
        for residual in [false, true] {
            let n = if residual { 4 } else { 3 };
            check(&format!("batch norm, relu {relu}, residual {residual}"), &inputs[..n], |t| {
                let statistics = BatchStatistics::of(&t[0])?;
                ops::batch_norm(&t[0], &t[1], &t[2], t.get(3), relu, &statistics, true, 1e-5)
            });
            let fixed = statistics(0.1, 0.7, 5);
            check(&format!("fixed batch norm, relu {relu}, residual {residual}"), &inputs[..n], |t| {
                ops::batch_norm(
                    &t[0],
                    &t[1],
                    &t[2],
                    t.get(3),
                    relu,
                    &statistics_beside(&t[0], &fixed),
                    false,
                    1e-5,
                )
            });
        }
    }
}

#[test]
fn batch_statistics_do_not_cancel() {
    // A mean a million times the deviation: the sum of squares would lose all digits in single
    // precision.
    let x = (filled("x", &[1000, 2]) + 1e4).unwrap().to_dtype(DType::F32).unwrap();
    let values = numbers(&x);
    for (device, c) in devices().into_iter().flat_map(|d| [(d.clone(), 0), (d, 1)]) {
        let s = BatchStatistics::of(&x.to_device(&device).unwrap()).unwrap();
        let (means, variances) = (numbers(&s.mean), numbers(&s.variance));
        let column: Vec<f64> = values.iter().skip(c).step_by(2).copied().collect();
        let mean = column.iter().sum::<f64>() / 1000.0;
        let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 1000.0;
        assert!((means[c] - mean).abs() < 1e-3);
        assert!((variances[c] / variance - 1.0).abs() < 1e-2, "{} against {variance}", variances[c]);
    }
}

#[test]
fn layer_norm() {
    for c in [1, 5, 33] {
        let inputs = [filled("x", &[3, 4, c]), filled("w", &[c]), filled("b", &[c])];
        check(&format!("layer norm of {c}"), &inputs, |t| ops::layer_norm(&t[0], &t[1], Some(&t[2]), 1e-2));
        let name = format!("layer norm of {c} without bias");
        check(&name, &inputs[..2], |t| ops::layer_norm(&t[0], &t[1], None, 1e-2));
    }
}

#[test]
fn activations() {
    let x = [(filled("x", &[3, 50]) * 4.0).unwrap()];
    check("gelu", &x, |t| ops::gelu(&t[0]));
    check("silu", &(x[0].clone() * 10.0).map(|x| [x]).unwrap(), |t| ops::silu(&t[0]));
    check("relu", &x, |t| ops::relu(&t[0]));
    check("squared relu", &x, |t| ops::squared_relu(&t[0]));
    let star = [x[0].clone(), filled("scale", &[1]), filled("bias", &[1])];
    check("star relu", &star, |t| ops::star_relu(&t[0], &t[1], &t[2]));
    let value = ops::star_relu(&star[0], &star[1], &star[2]).unwrap().value;
    let (s, b) = (numbers(&star[1])[0], numbers(&star[2])[0]);
    let plain: Vec<f64> = numbers(&x[0]).iter().map(|x| s * x.max(0.0).powi(2) + b).collect();
    assert!(max_difference(&numbers(&value), &plain) < 1e-12);
    let zero = ops::relu(&Tensor::zeros(3, DType::F64, &Device::Cpu).unwrap()).unwrap();
    let grad = (zero.pullback)(&Tensor::ones(3, DType::F64, &Device::Cpu).unwrap(), &[true]).unwrap();
    assert_eq!(numbers(grad[0].as_ref().unwrap()), [0.0; 3], "relu'(0) is 0, as in PyTorch");
}

/// Rectifiers pass NaN on, as PyTorch's do, so that a diverged run is noticed.
#[test]
fn what_is_not_a_number_stays_so() {
    let x = Tensor::new(&[[f32::NAN, -1.0, 2.0]], &Device::Cpu).unwrap();
    let check = |traced: Result<Traced>| {
        let y = numbers(&traced.unwrap().value);
        assert!(y[0].is_nan() && y[1] == 0.0 && y[2] > 0.0, "{y:?}");
    };
    check(ops::relu(&x));
    check(ops::squared_relu(&x));
    let ones = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let zeros = ones.zeros_like().unwrap();
    let fixed = statistics(0.0, 1.0, 3);
    check(ops::batch_norm(&x, &ones, &zeros, None, true, &fixed, false, 1e-5));
    let nothing = x.zeros_like().unwrap();
    check(ops::batch_norm(&x, &ones, &zeros, Some(&nothing), true, &fixed, false, 1e-5));
}

#[test]
fn max_pool_takes_the_first_of_equals() {
    for (kernel, stride, padding) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 3, 2)] {
        let name = format!("max-pool {kernel}/{stride}/{padding}");
        check(&name, &[filled("x", &[2, 7, 6, 3])], |t| ops::max_pool2d(&t[0], kernel, stride, padding));
    }
    let flat =
        ops::max_pool2d(&Tensor::ones((1, 4, 4, 1), DType::F64, &Device::Cpu).unwrap(), 2, 2, 0).unwrap();
    let grad =
        (flat.pullback)(&Tensor::ones((1, 2, 2, 1), DType::F64, &Device::Cpu).unwrap(), &[true]).unwrap();
    let first = [1., 0., 1., 0., 0., 0., 0., 0., 1., 0., 1., 0., 0., 0., 0., 0.];
    assert_eq!(numbers(grad[0].as_ref().unwrap()), first);
    let negative = Tensor::full(-3f64, (1, 3, 3, 1), &Device::Cpu).unwrap();
    let pooled = ops::max_pool2d(&negative, 3, 2, 1).unwrap().value;
    assert_eq!(numbers(&pooled), [-3.0; 4], "padding must not win");
}

#[test]
fn pooling_tokens_and_sums() {
    check("global average", &[filled("x", &[2, 3, 4, 5])], |t| ops::global_avg_pool(&t[0]));
    check("select", &[filled("x", &[2, 5, 4])], |t| ops::select_tokens(&t[0], 1, 3));
    let tokens =
        [filled("p", &[2, 3, 4]), filled("c", &[1, 1, 4]), filled("d", &[1, 1, 4]), filled("e", &[1, 5, 4])];
    check("join", &tokens, |t| ops::join_tokens(&t[0], &[&t[1], &t[2]], &t[3]));
    let positions = [filled("p", &[2, 3, 4]), filled("e", &[1, 3, 4])];
    check("positions alone", &positions, |t| ops::join_tokens(&t[0], &[], &t[1]));
    let pair = [filled("x", &[2, 3, 4]), filled("y", &[2, 3, 4])];
    check("add", &pair, |t| ops::add(&t[0], &t[1]));
    let kept = Tensor::new([0.0f32, 1.25, 1.25].repeat(8), pair[0].device()).unwrap();
    check("dropout", &pair[..1], |t| ops::scale_elements(&t[0], &kept.to_device(t[0].device())?));
}

#[test]
fn cross_entropy() {
    // The second one has more classes than a GPU's warp has lanes.
    for shape in [[4, 6], [3, 150]] {
        let logits = (filled("logits", &shape) * 5.0).unwrap();
        let targets = filled("targets", &shape).abs().unwrap();
        check(&format!("cross entropy of {shape:?}"), &[logits], |t| {
            // Targets get no gradient: leave them out of the comparison.
            let Traced { value, pullback, .. } = ops::soft_cross_entropy(&t[0], &beside(&t[0], &targets))?;
            let of_logits =
                move |dy: &Tensor, needs: &[bool]| Ok(pullback(dy, &[needs[0], false])?[..1].to_vec());
            Ok(Traced::new(value, of_logits))
        });
    }
    let huge = Tensor::new(&[[1e4f32, -1e4, 0.0]], &Device::Cpu).unwrap();
    let label = Tensor::new(&[[0f32, 1.0, 0.0]], &Device::Cpu).unwrap();
    assert_eq!(numbers(&ops::soft_cross_entropy(&huge, &label).unwrap().value), [2e4]);
}

#[test]
fn binary_cross_entropy() {
    let logits = (filled("logits", &[4, 6]) * 5.0).unwrap();
    let targets = filled("targets", &[4, 6]).abs().unwrap();
    check("binary cross entropy", &[logits], |t| {
        // Targets get no gradient: leave them out of the comparison.
        let Traced { value, pullback, .. } = ops::binary_cross_entropy(&t[0], &beside(&t[0], &targets))?;
        let of_logits =
            move |dy: &Tensor, needs: &[bool]| Ok(pullback(dy, &[needs[0], false])?[..1].to_vec());
        Ok(Traced::new(value, of_logits))
    });
    for device in devices() {
        let row = |x: &[f32]| {
            Tensor::from_slice(x, (1, x.len()), &Device::Cpu).unwrap().to_device(&device).unwrap()
        };
        let value =
            |x: &[f32], t: &[f32]| numbers(&ops::binary_cross_entropy(&row(x), &row(t)).unwrap().value)[0];
        // Half, whatever the target; -ln(sigmoid(1)) = ln(1 + 1 / e), -ln(1 - sigmoid(2)) = ln(1 +
        // e^2).
        assert!((value(&[0.0, 0.0], &[1.0, 0.3]) - 2f64.ln()).abs() < 1e-6);
        let by_hand = f64::midpoint((-1f64).exp().ln_1p(), 2f64.exp().ln_1p());
        assert!((value(&[1.0, 2.0], &[1.0, 0.0]) - by_hand).abs() < 1e-6);
        // Far logits neither overflow nor lose the other side.
        assert_eq!(value(&[200.0], &[0.0]), 200.0);
        assert!(value(&[200.0, -200.0], &[1.0, 0.0]) < 1e-6);
        // NaN is not hidden.
        assert!(value(&[f32::NAN, 0.0], &[0.0, 0.0]).is_nan());
        // Slopes: sigmoid(x) - t, over two logits; 0 and 1 at the far ends.
        let traced = ops::binary_cross_entropy(&row(&[200.0, -200.0, 0.0, 0.0]), &row(&[0.5, 0.5, 0.0, 1.0]));
        let one = Tensor::new(1f32, &Device::Cpu).unwrap().to_device(&device).unwrap();
        let gradients = (traced.unwrap().pullback)(&one, &[true, false]).unwrap();
        assert_eq!(numbers(gradients[0].as_ref().unwrap()), [0.125, -0.125, 0.125, -0.125]);
        let flags = ops::above(&row(&[0.2, 0.200_001, -1.0, 3.0, f32::NAN]), f64::from(0.2f32)).unwrap();
        assert_eq!(numbers(&flags), [0.0, 1.0, 0.0, 1.0, 0.0]);
    }
}

#[test]
fn candle_s_engine_goes_through() {
    let device = Device::Cpu;
    let x = Var::from_tensor(&filled("x", &[2, 5, 5, 3])).unwrap();
    let w = Var::from_tensor(&filled("w", &[4, 3, 3, 3])).unwrap();
    let config = PADDED;
    let y = ops::in_candle(&[&x, &w], |t| ops::conv2d(&t[0], &t[1], None, config)).unwrap();
    let y = ops::in_candle(&[&y], |t| ops::relu(&t[0])).unwrap();
    let dy = filled("dy", y.dims());
    let grads = (&y * &dy).unwrap().sum_all().unwrap().backward().unwrap();
    // Candle's own convolution and rectifier, which differentiate correctly here.
    let own = x.permute((0, 3, 1, 2)).unwrap().conv2d(&w, 1, 1, 1, 1).unwrap();
    let own = own.permute((0, 2, 3, 1)).unwrap().contiguous().unwrap().relu().unwrap();
    let want = (&own * &dy).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(max_difference(&numbers(&y), &numbers(&own)) < 1e-9);
    for var in [&x, &w] {
        let off = max_difference(&numbers(grads.get(var).unwrap()), &numbers(want.get(var).unwrap()));
        assert!(off < 1e-9, "off by {off}");
    }
    let four = [&*x, &*x, &*x, &*x].map(|t| t.to_device(&device).unwrap());
    let refs: Vec<&Tensor> = four.iter().collect();
    assert!(ops::in_candle(&refs, |t| ops::gelu(&t[0])).is_err());
}

#[test]
fn wrong_shapes_are_errors_that_say_what_was_expected() {
    let t = |shape: &[usize]| filled("t", shape);
    let config = Conv2dConfig::default();
    let cases: Vec<(Result<Traced>, &str)> = vec![
        (ops::linear(&t(&[2, 3]), &t(&[4, 5]), None), "[..., 5]"),
        (ops::linear(&t(&[2, 3]), &t(&[4, 3]), Some(&t(&[3]))), "[4]"),
        (ops::conv2d(&t(&[1, 4, 4, 3]), &t(&[2, 4, 3, 3]), None, config), "3 channels"),
        (ops::conv2d(&t(&[1, 2, 2, 3]), &t(&[2, 3, 3, 3]), None, config), "at least 3x3"),
        (
            ops::conv2d(&t(&[1, 4, 4, 3]), &t(&[2, 3, 3, 3]), None, Conv2dConfig { stride: 0, ..config }),
            "above 0",
        ),
        (
            ops::conv2d(&t(&[1, 4, 4, 3]), &t(&[2, 3, 3, 3]), None, Conv2dConfig { dilation: 2, ..config }),
            "at least 5x5",
        ),
        (
            ops::conv2d(&t(&[1, 4, 4, 3]), &t(&[2, 1, 3, 3]), None, Conv2dConfig { groups: 2, ..config }),
            "2 groups",
        ),
        (ops::attention(&t(&[1, 2, 10]), 2), "2 heads"),
        (ops::attention(&t(&[1, 2, 12]), 0), "0 heads"),
        (ops::max_pool2d(&t(&[1, 2, 2, 1]), 3, 1, 0), "3x3 window"),
        (ops::layer_norm(&t(&[2, 3]), &t(&[4]), None, 1e-6), "[..., 4]"),
        (ops::soft_cross_entropy(&t(&[2, 3]), &t(&[2, 4])), "[2, 3]"),
        (ops::binary_cross_entropy(&t(&[2, 3]), &t(&[3, 2])), "[2, 3]"),
        (ops::binary_cross_entropy(&t(&[0, 3]), &t(&[0, 3])), "at least one sample"),
        (ops::select_tokens(&t(&[1, 2, 3]), 1, 2), "at least 1 + 2 tokens"),
        (ops::add(&t(&[2]), &t(&[3])), "[2]"),
        (ops::gelu(&Tensor::zeros(3, DType::U8, &Device::Cpu).unwrap()), "f32, f64 or bf16"),
    ];
    for (result, expected) in cases {
        let message = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(message.contains(expected), "`{message}` does not say `{expected}`");
    }
}
