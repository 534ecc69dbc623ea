//! Products of every kind of factor beside a triple loop.

use half::bf16;

use super::bf16::{Native, Out};
use super::*;

fn filled(n: usize, salt: f64) -> Vec<f64> {
    (0..n).map(|i| ((i as f64 + salt) * 0.7).sin()).collect()
}

/// `a * b + bias` as a triple loop.
fn plain(
    (m, n, k): Shape,
    a: impl Fn(usize, usize) -> f64,
    b: impl Fn(usize, usize) -> f64,
    bias: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let sum = |r: usize, c: usize| (0..k).map(|i| a(r, i) * b(i, c)).sum::<f64>() + bias(c);
    (0..m).flat_map(|r| (0..n).map(move |c| (r, c))).map(|(r, c)| sum(r, c)).collect()
}

fn close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-10), "{got:?} is not {want:?}");
}

const SHAPES: [Shape; 5] = [(1, 1, 1), (5, 7, 3), (64, 33, 385), (200, 130, 17), (13, 401, 800)];

#[test]
fn rows_and_columns_agree_with_the_triple_loop() {
    for (m, n, k) in SHAPES {
        let (a, b, bias) = (filled(m * k, 0.1), filled(n * k, 0.9), filled(n, 0.4));
        let got: Vec<f64> = product((m, n, k), Left::Rows(&a, k), Right::Columns(&b, k), Some(&bias));
        close(&got, &plain((m, n, k), |r, i| a[r * k + i], |i, c| b[c * k + i], |c| bias[c]));
        let got: Vec<f64> = product((m, n, k), Left::Columns(&a, m), Right::Rows(&b, n), None);
        close(&got, &plain((m, n, k), |r, i| a[i * m + r], |i, c| b[i * n + c], |_| 0.0));
    }
}

#[test]
fn a_matrix_is_added_to_a_product() {
    for (m, n, k) in SHAPES {
        let (a, b, more) = (filled(m * k, 0.1), filled(n * k, 0.9), filled(m * n, 0.4));
        let got = product_onto((m, n, k), Left::Rows(&a, k), Right::Rows(&b, n), Some(&more));
        let mut want = plain((m, n, k), |r, i| a[r * k + i], |i, c| b[i * n + c], |_| 0.0);
        want.iter_mut().zip(&more).for_each(|(want, more)| *want += more);
        close(&got, &want);
        let mut out = more.clone();
        product_serial_onto((m, n, k), Left::Rows(&a, k), Right::Rows(&b, n), &mut out, n);
        close(&out, &want);
    }
}

#[test]
fn packed_panels_agree_with_the_triple_loop() {
    let (rows, columns) = (panel_rows::<f64>(), panel_columns::<f64>());
    for (m, n, k) in [(1_usize, 1, 1), (7, columns, 5), (25, columns - 1, 384)] {
        let (a, b) = (filled(m.next_multiple_of(rows) * k, 0.1), filled(k * columns, 0.9));
        let mut out = vec![0.0; m * n];
        panel_product([m, n, k], (&a, k), &b, (&mut out, n), false);
        let want = plain((m, n, k), |r, i| a[r * k + i], |i, c| b[i * columns + c], |_| 0.0);
        close(&out, &want);
        panel_product([m, n, k], (&a, k), &b, (&mut out, n), true);
        close(&out, &want.iter().map(|x| 2.0 * x).collect::<Vec<f64>>());
    }
}

#[test]
fn split_k_products_agree_with_the_triple_loop() {
    let (m, n, k) = (30, 50, 5000);
    let (a, b) = (filled(m * k, 0.1), filled(n * k, 0.9));
    let got = product_split_k((m, n, k), Left::Columns(&a, m), Right::Rows(&b, n));
    close(&got, &plain((m, n, k), |r, i| a[i * m + r], |i, c| b[i * n + c], |_| 0.0));
}

#[test]
fn windows_are_zero_outside_the_image() {
    let (size, c, kernel, count) = ([5, 4], 3, [3, 2], [3, 4]);
    let x = filled(2 * 5 * 4 * c, 0.2);
    let windows = Im2col { x: &x, size, c, count, step: 2, origin: [-1, -3], kernel, dilation: 1 };
    let at = |row: usize, k: usize| {
        let (image, place) = (row / 12, row % 12);
        let y = (place / 4 * 2 + k / (2 * c)) as isize - 1;
        let left = (place % 4 * 2 + k / c % 2) as isize - 3;
        let inside = (0..5).contains(&y) && (0..4).contains(&left);
        if inside { x[((image * 5 + y as usize) * 4 + left as usize) * c + k % c] } else { 0.0 }
    };
    let k = 3 * 2 * c;
    let b = filled(k * 9, 0.5);
    let got: Vec<f64> = product((24, 9, k), Left::Im2col(windows), Right::Rows(&b, 9), None);
    close(&got, &plain((24, 9, k), at, |i, c| b[i * 9 + c], |_| 0.0));
    let a = filled(24 * 7, 0.6);
    let got: Vec<f64> = product((7, k, 24), Left::Columns(&a, 7), Right::Im2col(windows), None);
    close(&got, &plain((7, k, 24), |r, i| a[i * 7 + r], at, |_| 0.0));
}

/// Every kind of factor, odd sizes, sums that are taken in pieces: both factors are rounded where
/// this machine multiplies in pairs, and only the left one elsewhere, so the right one holds
/// numbers that are not rounded any more.
#[test]
fn rounded_numbers_agree_with_the_triple_loop() {
    let half = |values: Vec<f64>| values.into_iter().map(bf16::from_f64).collect::<Vec<_>>();
    let wide = |values: &[bf16]| values.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
    for (m, n, k) in SHAPES.into_iter().chain([(40, 70, 1601), (25, 32, 770)]) {
        let (a, b, bias) = (half(filled(m * k, 0.1)), half(filled(n * k, 0.9)), filled(n, 0.4));
        let single = b.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
        let bias: Vec<f32> = bias.into_iter().map(|x| x as f32).collect();
        let (aw, bw) = (wide(&a), wide(&b));
        let near = |got: Vec<f64>, want: Vec<f64>, unit: f64| {
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert!((got - want).abs() < 1e-4 + want.abs() * unit, "{m}x{n}x{k}: {got}, {want}");
            }
        };
        let want = plain((m, n, k), |r, i| aw[r * k + i], |i, c| bw[c * k + i], |c| bias[c].into());
        let (left, right) = (Left::Rows(&a, k), Right::Columns(&single, k));
        let got: Vec<bf16> = product((m, n, k), left, right, Some(&bias));
        near(wide(&got), want.clone(), 1.0 / 256.0);
        let got: Vec<f32> = product((m, n, k), left, right, Some(&bias));
        near(got.into_iter().map(f64::from).collect(), want, 1e-6);
        let want = plain((m, n, k), |r, i| aw[i * m + r], |i, c| bw[i * n + c], |_| 0.0);
        let got = product_split_k((m, n, k), Left::Columns(&a, m), Right::Rows(&b, n));
        near(got.into_iter().map(f64::from).collect(), want.clone(), 1e-6);
        // Where matrices are multiplied whole, pairs are still what other machines have.
        #[cfg(target_arch = "x86_64")]
        if let Some(native) = Native::detect() {
            let mut got = vec![f32::NAN; m * n];
            let out = Out::Exact(Output::new(got.as_mut_ptr(), m * n, n, OutputRows::Dense));
            let factors = (&Left::Columns(&a, m), &Right::Rows(&b, n));
            let block = Block { rows: 0..m, cols: 0..n, ks: 0..k };
            super::bf16::run_task(native.by_vectors(), factors, None, &out, block);
            near(got.into_iter().map(f64::from).collect(), want, 1e-6);
        }
    }
}

#[test]
#[should_panic(expected = "rows of a result overlap")]
fn refuses_rows_that_overlap() {
    let place = OutputRows::Grid { size: [2, 2], count: [1, 3], first: [0, 0], step: 1 };
    product_at((3, 1, 1), Left::Rows(&[1.0; 3], 1), Right::Rows(&[1.0], 1), &mut [0.0; 4], place);
}
