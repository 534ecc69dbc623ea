//! Two-dimensional convolution of channels-last pictures as matrix products over unfolded rows.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Mat, Threads, gemm};
use super::{Element, vectorised};

/// Largest unfolded batch (in elements) that is built in one piece; larger ones go tile by tile.
const WHOLE: usize = 1 << 22;
/// Elements of one unfolded tile: about the size of an L2 cache in single precision.
const TILE: usize = 1 << 18;
/// Images that share one partial weight gradient, as a divisor of the batch: bounds memory and fixes the sum's order.
const WEIGHT_GROUPS: usize = 8;

/// Shapes of one convolution. Pictures are `[n, h, w, c]`, results `[n, ho, wo, o]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) n: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) o: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) pad: usize,
    pub(crate) ho: usize,
    pub(crate) wo: usize,
}

impl Geometry {
    fn rows_per_image(&self) -> usize {
        self.ho * self.wo
    }

    fn rows(&self) -> usize {
        self.n * self.rows_per_image()
    }

    /// Length of an unfolded row.
    fn k(&self) -> usize {
        self.kh * self.kw * self.c
    }

    fn pixels(&self) -> usize {
        self.h * self.w * self.c
    }

    /// A 1x1 convolution with stride 1 reads the picture as it lies.
    fn is_pointwise(&self) -> bool {
        self.kh == 1 && self.kw == 1 && self.stride == 1 && self.pad == 0
    }

    fn tile_rows(&self) -> usize {
        (TILE / self.k()).clamp(128, 1024)
    }

    /// Columns of the kernel that fall inside the picture for output column `ox`, and the first input column.
    fn span(&self, ox: usize) -> (Range<usize>, usize) {
        let left = ox * self.stride;
        let first = self.pad.saturating_sub(left);
        let last = (self.w + self.pad).saturating_sub(left).min(self.kw);
        (first..last.max(first), (left + first).saturating_sub(self.pad))
    }

    /// Input row under kernel row `ky` for output row `oy`, if inside the picture.
    fn input_row(&self, oy: usize, ky: usize) -> Option<usize> {
        (oy * self.stride + ky).checked_sub(self.pad).filter(|&y| y < self.h)
    }

    /// Copies the patches under `rows` (of the whole batch) into rows of `col`.
    fn unfold<T: Element>(&self, x: &[T], rows: Range<usize>, col: &mut [T]) {
        for (row, out) in rows.zip(col.chunks_exact_mut(self.k())) {
            let (image, place) = (row / self.rows_per_image(), row % self.rows_per_image());
            let (oy, ox) = (place / self.wo, place % self.wo);
            let (span, ix) = self.span(ox);
            for (ky, out) in out.chunks_exact_mut(self.kw * self.c).enumerate() {
                let Some(iy) = self.input_row(oy, ky) else {
                    out.fill(T::ZERO);
                    continue;
                };
                let start = ((image * self.h + iy) * self.w + ix) * self.c;
                let (from, to) = (span.start * self.c, span.end * self.c);
                out[..from].fill(T::ZERO);
                out[from..to].copy_from_slice(&x[start..start + to - from]);
                out[to..].fill(T::ZERO);
            }
        }
    }

    /// Adds rows of `col`, the patches under `rows` of one image, back to that image.
    fn fold<T: Element>(&self, col: &[T], rows: Range<usize>, image: &mut [T]) {
        for (place, patch) in rows.zip(col.chunks_exact(self.k())) {
            let (oy, ox) = (place / self.wo, place % self.wo);
            let (span, ix) = self.span(ox);
            for (ky, patch) in patch.chunks_exact(self.kw * self.c).enumerate() {
                let Some(iy) = self.input_row(oy, ky) else { continue };
                let (from, to) = (span.start * self.c, span.end * self.c);
                let start = (iy * self.w + ix) * self.c;
                let target = &mut image[start..start + to - from];
                target.iter_mut().zip(&patch[from..to]).for_each(|(x, &g)| *x += g);
            }
        }
    }

    /// The unfolded batch in one piece, made in parallel.
    fn unfold_all<T: Element>(&self, x: &[T]) -> Vec<T> {
        let (k, tile) = (self.k(), self.tile_rows());
        let mut col = vec![T::ZERO; self.rows() * k];
        col.par_chunks_mut(tile * k).enumerate().for_each(|(i, col)| {
            self.unfold(x, i * tile..i * tile + col.len() / k, col);
        });
        col
    }
}

/// `[o, c, kh, kw]` (the layout of weight files) to rows `[o, kh * kw * c]` (the layout of unfolded patches).
pub(crate) fn pack_weight<T: Element>(w: &[T], g: &Geometry) -> Vec<T> {
    transpose_each(w, g.o, g.c, g.kh * g.kw)
}

/// The inverse of [`pack_weight`], for gradients.
pub(crate) fn unpack_weight<T: Element>(w: &[T], g: &Geometry) -> Vec<T> {
    transpose_each(w, g.o, g.kh * g.kw, g.c)
}

/// Transposes each of `n` matrices of `rows` x `cols`.
pub(crate) fn transpose_each<T: Element>(w: &[T], n: usize, rows: usize, cols: usize) -> Vec<T> {
    if rows == 1 || cols == 1 {
        return w.to_vec();
    }
    let mut out = vec![T::ZERO; w.len()];
    debug_assert_eq!(w.len(), n * rows * cols);
    out.par_chunks_mut(rows * cols).zip(w.par_chunks(rows * cols)).with_min_len(8).for_each(|(out, w)| {
        for (col, out) in out.chunks_exact_mut(rows).enumerate() {
            out.iter_mut().zip(w[col..].iter().step_by(cols)).for_each(|(out, &w)| *out = w);
        }
    });
    out
}

/// `y = conv(x, w)`, `w` packed.
pub(crate) fn forward<T: Element>(x: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    let (rows, k, o) = (g.rows(), g.k(), g.o);
    let mut y = vec![T::ZERO; rows * o];
    let product = |m: usize, y: &mut [T], col: &[T], threads| {
        gemm((m, o, k), y, o, false, T::ONE, Mat::rows(col, k), Mat::transposed(w, k), threads);
    };
    if g.is_pointwise() {
        product(rows, &mut y, x, Threads::Pool);
    } else if rows * k <= WHOLE {
        product(rows, &mut y, &g.unfold_all(x), Threads::Pool);
    } else {
        let tile = g.tile_rows();
        y.par_chunks_mut(tile * o).enumerate().for_each_init(
            || vec![T::ZERO; tile * k],
            |col, (i, y)| {
                let m = y.len() / o;
                g.unfold(x, i * tile..i * tile + m, &mut col[..m * k]);
                product(m, y, col, Threads::One);
            },
        );
    }
    y
}

/// Gradient of the picture.
pub(crate) fn backward_data<T: Element>(dy: &[T], w: &[T], g: &Geometry) -> Vec<T> {
    let (rows, k, o, per_image) = (g.rows(), g.k(), g.o, g.rows_per_image());
    let product = |m: usize, col: &mut [T], dy: &[T], threads| {
        gemm((m, k, o), col, k, false, T::ONE, Mat::rows(dy, o), Mat::rows(w, k), threads);
    };
    let mut dx = vec![T::ZERO; g.n * g.pixels()];
    if g.is_pointwise() {
        product(rows, &mut dx, dy, Threads::Pool);
    } else if rows * k <= WHOLE {
        let mut col = vec![T::ZERO; rows * k];
        product(rows, &mut col, dy, Threads::Pool);
        dx.par_chunks_mut(g.pixels()).zip(col.par_chunks(per_image * k)).for_each(|(dx, col)| {
            vectorised(|| g.fold(col, 0..per_image, dx));
        });
    } else {
        let tile = g.tile_rows();
        dx.par_chunks_mut(g.pixels()).zip(dy.par_chunks(per_image * o)).for_each_init(
            || vec![T::ZERO; tile * k],
            |col, (dx, dy)| {
                for (i, dy) in dy.chunks(tile * o).enumerate() {
                    let m = dy.len() / o;
                    product(m, col, dy, Threads::One);
                    vectorised(|| g.fold(col, i * tile..i * tile + m, dx));
                }
            },
        );
    }
    dx
}

/// Gradient of the packed weight.
pub(crate) fn backward_weight<T: Element>(x: &[T], dy: &[T], g: &Geometry) -> Vec<T> {
    let (rows, k, o) = (g.rows(), g.k(), g.o);
    let product = |m: usize, dw: &mut [T], add, dy: &[T], col: &[T], threads| {
        gemm((o, k, m), dw, k, add, T::ONE, Mat::transposed(dy, o), Mat::rows(col, k), threads);
    };
    let mut dw = vec![T::ZERO; o * k];
    if g.is_pointwise() {
        product(rows, &mut dw, false, dy, x, Threads::Pool);
        return dw;
    }
    if rows * k <= WHOLE {
        product(rows, &mut dw, false, dy, &g.unfold_all(x), Threads::Pool);
        return dw;
    }
    let tile = g.tile_rows();
    let group_rows = g.n.div_ceil(WEIGHT_GROUPS) * g.rows_per_image();
    let partial: Vec<Vec<T>> = dy
        .par_chunks(group_rows * o)
        .enumerate()
        .map_init(
            || vec![T::ZERO; tile * k],
            |col, (group, dy)| {
                let mut dw = vec![T::ZERO; o * k];
                for (i, dy) in dy.chunks(tile * o).enumerate() {
                    let (m, first) = (dy.len() / o, group * group_rows + i * tile);
                    g.unfold(x, first..first + m, &mut col[..m * k]);
                    product(m, &mut dw, true, dy, col, Threads::One);
                }
                dw
            },
        )
        .collect();
    for part in &partial {
        super::rows::update(&mut dw, part, |a, b| a + b);
    }
    dw
}
