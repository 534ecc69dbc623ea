//! Winograd convolution beside the plain sums.

use super::*;
use crate::ops::kernels::conv::Kernel;

fn filled(n: usize, salt: f64) -> Vec<f64> {
    (0..n).map(|i| ((i as f64 + salt) * 0.7).sin()).collect()
}

fn geometry([n, h, w, c]: [usize; 4], o: usize, pad: usize) -> Geometry {
    let (ho, wo) = (h + 2 * pad - 2, w + 2 * pad - 2);
    Geometry { n, h, w, c, o, kh: 3, kw: 3, stride: 1, pad, dilation: 1, ho, wo }
}

fn off<T: Compute>(got: &[T], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(g, w)| (g.into_f64() - w).abs()).fold(0.0, f64::max)
}

fn root_mean_square(x: &[f64]) -> f64 {
    (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt()
}

/// Value and gradients by the plain sums, in double precision.
fn plain(x: &[f64], w: &[f64], dy: &[f64], bias: &[f64], g: &Geometry) -> [Vec<f64>; 3] {
    let k = Kernel::<f64>::direct(w, g);
    [k.forward(x, w, Some(bias), g), k.backward_data(dy, w, None, g), k.backward_weight(x, dy, g)]
}

const SHAPES: [([usize; 4], usize, usize); 6] = [
    ([2, 8, 8, 16], 16, 1),
    ([3, 7, 5, 32], 48, 1),
    ([1, 1, 1, 16], 32, 1),
    ([2, 6, 9, 16], 16, 0),
    ([1, 3, 4, 16], 16, 2),
    // Two pieces of inner indices, and several tasks.
    ([2, 14, 15, 400], 64, 1),
];

#[test]
fn agrees_with_the_plain_sums() {
    for (x, o, pad) in SHAPES {
        let g = geometry(x, o, pad);
        let (xs, w) = (filled(x.iter().product(), 0.1), filled(o * g.c * 9, 0.4));
        let (dy, bias) = (filled(g.n * g.ho * g.wo * o, 0.8), filled(o, 0.3));
        let want = plain(&xs, &w, &dy, &bias, &g);
        let got = [
            forward(&xs, &w, Some(&bias), &g),
            backward_data(&dy, &w, None, &g),
            backward_weight(&xs, &dy, &g),
        ];
        for (name, (got, want)) in ["value", "image", "weight"].iter().zip(got.iter().zip(&want)) {
            let off = off(got, want) / root_mean_square(want);
            assert!(off < 1e-12, "{name} of {g:?} is off by {off}");
        }
        let onto: Vec<f64> = xs.iter().map(|x| 3.0 * x).collect();
        let sum: Vec<f64> = got[1].iter().zip(&onto).map(|(dx, more)| dx + more).collect();
        assert_eq!(backward_data(&dy, &w, Some(&onto), &g), sum, "{g:?}");
    }
}

#[test]
fn single_precision_is_within_the_stated_error() {
    let g = geometry([2, 16, 16, 256], 64, 1);
    let random = |n: usize, salt: usize| -> Vec<f32> {
        // A multiplicative generator is enough for numbers without structure.
        let mut state = salt as u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..n).map(|_| next()).collect()
    };
    let (x, w) = (random(g.n * g.h * g.w * g.c, 1), random(g.o * g.c * 9, 2));
    let dy = random(g.n * g.ho * g.wo * g.o, 3);
    let double = |x: &[f32]| -> Vec<f64> { x.iter().map(|&x| f64::from(x)).collect() };
    let want = plain(&double(&x), &double(&w), &double(&dy), &vec![0.0; g.o], &g);
    let got = [forward(&x, &w, None, &g), backward_data(&dy, &w, None, &g), backward_weight(&x, &dy, &g)];
    let direct = Kernel::<f32>::direct(&w, &g);
    let plain = [
        direct.forward(&x, &w, None, &g),
        direct.backward_data(&dy, &w, None, &g),
        direct.backward_weight(&x, &dy, &g),
    ];
    for ((got, plain), want) in got.iter().zip(&plain).zip(&want) {
        let error = |y: &[f32]| {
            let errors: Vec<f64> = y.iter().zip(want).map(|(y, want)| f64::from(*y) - want).collect();
            root_mean_square(&errors) / root_mean_square(want)
        };
        assert!(error(got) < 2e-6, "an error of {:e}", error(got));
        assert!(error(got) < 6.0 * error(plain), "errors of {:e} and {:e}", error(got), error(plain));
    }
}

#[test]
fn a_result_depends_on_its_own_image_alone() {
    let (many, one) = (geometry([5, 13, 12, 32], 16, 1), geometry([1, 13, 12, 32], 16, 1));
    let single = |x: Vec<f64>| -> Vec<f32> { x.into_iter().map(|x| x as f32).collect() };
    let (x, w) = (single(filled(5 * 13 * 12 * 32, 0.1)), single(filled(16 * 32 * 9, 0.4)));
    let y = forward(&x, &w, None, &many);
    let last = forward(&x[4 * 13 * 12 * 32..], &w, None, &one);
    assert_eq!(y[4 * 13 * 12 * 16..], last);
}

#[test]
fn results_do_not_depend_on_the_number_of_threads() {
    let g = geometry([3, 12, 20, 32], 48, 1);
    let single = |x: Vec<f64>| -> Vec<f32> { x.into_iter().map(|x| x as f32).collect() };
    let (x, w) = (single(filled(3 * 12 * 20 * 32, 0.1)), single(filled(48 * 32 * 9, 0.4)));
    let dy = single(filled(3 * 12 * 20 * 48, 0.7));
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            [forward(&x, &w, None, &g), backward_data(&dy, &w, None, &g), backward_weight(&x, &dy, &g)]
        })
    };
    assert_eq!(on(1), on(5));
}

#[test]
fn small_images_and_large_kernels_keep_the_product() {
    let is_faster = |size: usize, c: usize, o: usize| is_faster(&geometry([1, size, size, c], o, 1));
    assert!(
        is_faster(56, 64, 64) && is_faster(14, 256, 256) && is_faster(8, 128, 128) && is_faster(14, 512, 512)
    );
    assert!(
        !is_faster(7, 512, 512) && !is_faster(4, 256, 256) && !is_faster(56, 24, 64) && !is_faster(1, 64, 64)
    );
}
