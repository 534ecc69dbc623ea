//! Depthwise convolution of channels-last images, stride 1: each channel has its own kernel.
#![allow(unsafe_code)]

mod sweep;

use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

use super::{Compute, Storage, vectorized};
use sweep::{OutputRow, WeightRow};

/// Channels that are worked on together: their sums stay in vector registers.
const LANES: usize = 64;
/// Parts of the batch with a partial weight gradient of their own: bounds memory and fixes the
/// order of the sum.
const WEIGHT_GROUPS: usize = 32;

/// Shapes of one depthwise convolution. Images are `[n, h, w, c]`, results `[n, ho, wo, c]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depthwise {
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) pad: [usize; 2],
    pub(crate) ho: usize,
    pub(crate) wo: usize,
    /// Rows and columns of the tiles that do not see each other; the whole image if there are
    /// none.
    pub(crate) tile: [usize; 2],
}

/// Taps `ky` of a kernel row that stay inside the tile of output `at`: `input = at + ky - pad`.
fn taps(at: usize, kernel: usize, pad: usize, size: usize, tile: usize) -> Range<usize> {
    let (low, high) = if tile >= size { (0, size) } else { (at / tile * tile, (at / tile + 1) * tile) };
    let first = (low + pad).saturating_sub(at);
    let last = (high + pad).saturating_sub(at).min(kernel);
    first..last.max(first)
}

impl Depthwise {
    fn rows(&self, oy: usize) -> Range<usize> {
        taps(oy, self.kh, self.pad[0], self.h, self.tile[0])
    }

    fn cols(&self, ox: usize) -> Range<usize> {
        taps(ox, self.kw, self.pad[1], self.w, self.tile[1])
    }

    /// The convolution that carries gradients back to the image.
    fn transposed(&self) -> Self {
        let whole = self.tile == [self.h, self.w];
        Self {
            tile: if whole { [self.ho, self.wo] } else { self.tile },
            h: self.ho,
            w: self.wo,
            ho: self.h,
            wo: self.w,
            pad: [self.kh - 1 - self.pad[0], self.kw - 1 - self.pad[1]],
            ..*self
        }
    }
}

/// `y = conv(x, w) + bias`, `w` packed as `[kh, kw, c]`.
pub(crate) fn forward<S: Storage<Real = T>, T: Compute>(
    x: &[S],
    w: &[T],
    bias: Option<&[T]>,
    g: &Depthwise,
) -> Vec<S> {
    let n = x.len() / (g.h * g.w * g.c);
    let len = n * g.ho * g.wo * g.c;
    let mut y = Vec::with_capacity(len);
    y.spare_capacity_mut()[..len].par_chunks_mut(g.wo * g.c).enumerate().for_each(|(row, y)| {
        let (image, oy) = (row / g.ho, row % g.ho);
        let x = &x[image * g.h * g.w * g.c..][..g.h * g.w * g.c];
        // Brings the row into the cache in order, which what follows does not go in.
        y.fill(MaybeUninit::new(S::store(T::ZERO)));
        let swept = pulp::Arch::new().dispatch(OutputRow { g, x, w, bias, oy, y: &mut *y });
        vectorized(
            #[inline(always)]
            || {
                for first in (swept..g.c).step_by(LANES) {
                    output_row(x, w, bias, g, oy, first..g.c.min(first + LANES), y);
                }
            },
        );
    });
    // SAFETY: the rows cover all elements; of each row, the swept channels and the others were written.
    unsafe { y.set_len(len) };
    y
}

/// One row of the result, channels `lanes` alone.
#[inline(always)]
fn output_row<S: Storage<Real = T>, T: Compute>(
    x: &[S],
    w: &[T],
    bias: Option<&[T]>,
    g: &Depthwise,
    oy: usize,
    lanes: Range<usize>,
    y: &mut [MaybeUninit<S>],
) {
    let width = lanes.len();
    for ox in 0..g.wo {
        let mut sum = [T::ZERO; LANES];
        let sum = &mut sum[..width];
        if let Some(bias) = bias {
            sum.copy_from_slice(&bias[lanes.clone()]);
        }
        for ky in g.rows(oy) {
            let row = (oy + ky - g.pad[0]) * g.w;
            for kx in g.cols(ox) {
                let x = &x[(row + ox + kx - g.pad[1]) * g.c + lanes.start..][..width];
                let w = &w[(ky * g.kw + kx) * g.c + lanes.start..][..width];
                for ((s, x), &w) in sum.iter_mut().zip(x).zip(w) {
                    *s += x.load() * w;
                }
            }
        }
        let y = &mut y[ox * g.c + lanes.start..][..width];
        for (y, &s) in y.iter_mut().zip(sum.iter()) {
            y.write(S::store(s));
        }
    }
}

/// Gradient of the image.
pub(crate) fn backward_data<S: Storage<Real = T>, T: Compute>(dy: &[S], w: &[T], g: &Depthwise) -> Vec<S> {
    let flipped: Vec<T> = w.chunks_exact(g.c).rev().flatten().copied().collect();
    forward(dy, &flipped, None, &g.transposed())
}

/// Gradient of the packed weight.
pub(crate) fn backward_weight<S: Storage<Real = T>, T: Compute>(x: &[S], dy: &[S], g: &Depthwise) -> Vec<T> {
    let rows = dy.len() / (g.wo * g.c);
    let group = rows.div_ceil(WEIGHT_GROUPS).max(1);
    let partial: Vec<Vec<T>> = dy
        .par_chunks(group * g.wo * g.c)
        .enumerate()
        .map(|(i, dy)| {
            let mut dw = vec![T::ZERO; g.kh * g.kw * g.c];
            for (j, dy) in dy.chunks_exact(g.wo * g.c).enumerate() {
                let (image, oy) = ((i * group + j) / g.ho, (i * group + j) % g.ho);
                let x = &x[image * g.h * g.w * g.c..][..g.h * g.w * g.c];
                let swept = pulp::Arch::new().dispatch(WeightRow { g, x, dy, oy, dw: &mut dw });
                vectorized(
                    #[inline(always)]
                    || weight_row(x, dy, g, oy, swept, &mut dw),
                );
            }
            dw
        })
        .collect();
    let mut dw = vec![T::ZERO; g.kh * g.kw * g.c];
    for part in &partial {
        for (s, &p) in dw.iter_mut().zip(part) {
            *s += p;
        }
    }
    dw
}

/// Adds what one row of the result says about the weight, channels from `swept` on.
#[inline(always)]
fn weight_row<S: Storage<Real = T>, T: Compute>(
    x: &[S],
    dy: &[S],
    g: &Depthwise,
    oy: usize,
    swept: usize,
    dw: &mut [T],
) {
    for ky in g.rows(oy) {
        let row = (oy + ky - g.pad[0]) * g.w;
        for first in (swept..g.c).step_by(LANES) {
            let width = LANES.min(g.c - first);
            for kx in 0..g.kw {
                let mut sum = [T::ZERO; LANES];
                let sum = &mut sum[..width];
                for ox in (0..g.wo).filter(|&ox| g.cols(ox).contains(&kx)) {
                    let x = &x[(row + ox + kx - g.pad[1]) * g.c + first..][..width];
                    let dy = &dy[ox * g.c + first..][..width];
                    for ((s, x), dy) in sum.iter_mut().zip(x).zip(dy) {
                        *s += x.load() * dy.load();
                    }
                }
                let dw = &mut dw[(ky * g.kw + kx) * g.c + first..][..width];
                for (d, &s) in dw.iter_mut().zip(sum.iter()) {
                    *d += s;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole vectors and a rest of channels, blocks of every width, both kernels that are swept, from no
    /// padding to as much as there can be.
    #[test]
    fn agrees_with_the_plain_loops() {
        for (h, w, c, k) in [
            (7, 9, 35, 3),
            (9, 7, 64, 7),
            (7, 8, 33, 7),
            (3, 4, 16, 3),
            (7, 10, 8, 7),
            (8, 15, 12, 7),
            (3, 17, 5, 3),
        ] {
            (0..k).for_each(|pad| agrees(h, w, c, k, pad));
        }
        agrees(1, 7, 16, 3, 1);
        agrees(4, 3, 33, 7, 3);
    }

    fn agrees(h: usize, w: usize, c: usize, k: usize, pad: usize) {
        let (ho, wo) = (h + 2 * pad + 1 - k, w + 2 * pad + 1 - k);
        let g = Depthwise { h, w, c, kh: k, kw: k, pad: [pad; 2], ho, wo, tile: [h, w] };
        let fill =
            |n: usize, salt: f64| -> Vec<f64> { (0..n).map(|i| ((i as f64 + salt) * 0.7).sin()).collect() };
        let (x, weight, dy) = (fill(2 * h * w * c, 0.1), fill(k * k * c, 0.5), fill(2 * ho * wo * c, 0.9));
        let (mut y, mut dw) = (vec![MaybeUninit::new(0.0); dy.len()], vec![0.0; weight.len()]);
        for (row, out) in y.chunks_exact_mut(wo * c).enumerate() {
            let x = &x[row / ho * h * w * c..][..h * w * c];
            output_row(x, &weight, None, &g, row % ho, 0..c.min(LANES), out);
            weight_row(x, &dy[row * wo * c..][..wo * c], &g, row % ho, 0, &mut dw);
        }
        // SAFETY: all elements were numbers from the start.
        let y: Vec<f64> = y.into_iter().map(|y| unsafe { y.assume_init() }).collect();
        let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-11);
        assert!(close(&forward(&x, &weight, None, &g), &y), "value of {h}x{w}x{c}, {k}, padding {pad}");
        assert!(
            close(&backward_weight(&x, &dy, &g), &dw),
            "weight gradient of {h}x{w}x{c}, {k}, padding {pad}"
        );
    }
}
