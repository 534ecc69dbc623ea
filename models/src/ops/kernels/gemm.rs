//! Small matrix products on one thread through the `gemm` crate, with bounds checked once.
#![allow(unsafe_code)]

use super::product::{self, Left, Right};
use super::{Compute, Storage, vectorized};

/// A matrix over a slice: element `(r, c)` is at index `r * row + c * col`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    data: &'a [T],
    row: usize,
    col: usize,
}

impl<'a, T: Storage> Mat<'a, T> {
    /// Returns the same matrix in the compute type, if it is stored in that type.
    fn as_compute(&self) -> Option<Mat<'a, T::Real>> {
        Some(Mat { data: T::as_compute(self.data)?, row: self.row, col: self.col })
    }

    fn left(&self) -> Left<'a, T> {
        if self.col == 1 { Left::Rows(self.data, self.row) } else { Left::Columns(self.data, self.col) }
    }

    fn right(&self) -> Right<'a, T> {
        if self.col == 1 { Right::Rows(self.data, self.row) } else { Right::Columns(self.data, self.col) }
    }
}

/// Computes `out = scale * a * b` on one thread, with `out` stored by rows `width` apart. Numbers
/// that are stored in the compute type go through the `gemm` crate, others through the products of
/// layers, which multiply `bf16` in pairs.
pub(crate) fn multiply<K: Storage>(
    shape: (usize, usize, usize),
    out: &mut [K::Real],
    width: usize,
    scale: K::Real,
    a: Mat<K>,
    b: Mat<K>,
) {
    if let (Some(a), Some(b)) = (a.as_compute(), b.as_compute()) {
        return gemm(shape, out, width, false, scale, a, b);
    }
    let (rows, cols, _) = shape;
    product::product_serial(shape, a.left(), b.right(), out, width);
    if scale == K::Real::ONE {
        return;
    }
    vectorized(
        #[inline(always)]
        || {
            for row in out.chunks_mut(width).take(rows) {
                for x in &mut row[..cols] {
                    *x *= scale;
                }
            }
        },
    );
}

impl<'a, T> Mat<'a, T> {
    /// Rows one after another, `width` elements apart.
    pub(crate) fn rows(data: &'a [T], width: usize) -> Self {
        Self { data, row: width, col: 1 }
    }

    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { row: self.col, col: self.row, ..self }
    }

    fn holds(&self, rows: usize, cols: usize) -> bool {
        rows == 0 || cols == 0 || (rows - 1) * self.row + (cols - 1) * self.col < self.data.len()
    }
}

/// `out = scale * a * b`, or `out += scale * a * b` when `add`, with `out` stored by rows `width`
/// apart.
///
/// `a` is `m x k`, `b` is `k x n`, `out` is `m x n`.
#[allow(clippy::too_many_arguments)]
pub(crate) fn gemm<T: Compute>(
    (m, n, k): (usize, usize, usize),
    out: &mut [T],
    width: usize,
    add: bool,
    scale: T,
    a: Mat<T>,
    b: Mat<T>,
) {
    if m == 0 || n == 0 {
        return;
    }
    assert!(a.holds(m, k) && b.holds(k, n), "matrix product reads out of bounds");
    assert!(n <= width && (m - 1) * width + n <= out.len(), "matrix product writes out of bounds");
    // SAFETY: the assertions above keep every index of the three matrices inside its slice, `n <=
    // width` keeps the rows of `out` apart, and the borrows keep the slices alive and `out`
    // unshared.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            width as isize,
            add,
            a.data.as_ptr(),
            a.col as isize,
            a.row as isize,
            b.data.as_ptr(),
            b.col as isize,
            b.row as isize,
            T::ONE,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(n: usize, salt: f64) -> Vec<f64> {
        (0..n).map(|i| ((i as f64 + salt) * 0.7).sin()).collect()
    }

    #[test]
    fn agrees_with_the_triple_loop() {
        for (m, n, k) in [(1, 1, 1), (5, 7, 3), (64, 33, 129), (200, 48, 17)] {
            let (a, b) = (filled(m * k, 0.1), filled(n * k, 0.9));
            let mut out = filled(m * n, 0.3);
            let before = out.clone();
            gemm((m, n, k), &mut out, n, true, 0.5, Mat::rows(&a, k), Mat::rows(&b, k).t());
            for r in 0..m {
                for c in 0..n {
                    let dot: f64 = (0..k).map(|i| a[r * k + i] * b[c * k + i]).sum();
                    let want = before[r * n + c] + 0.5 * dot;
                    assert!((out[r * n + c] - want).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "out of bounds")]
    fn refuses_a_slice_that_is_too_short() {
        let (a, b, mut out) = (vec![0.0; 5], vec![0.0; 4], vec![0.0; 6]);
        gemm((3, 2, 2), &mut out, 2, false, 1.0, Mat::rows(&a, 2), Mat::rows(&b, 2));
    }
}
