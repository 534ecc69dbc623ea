//! Pooling of channels-last images.

use rayon::prelude::*;

use super::{Compute, Storage, vectorized};

/// Shapes of a max-pool: images `[n, h, w, c]`, results `[n, ho, wo, c]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) pad: usize,
    pub(crate) ho: usize,
    pub(crate) wo: usize,
}

impl Window {
    /// The taps of the window at `(oy, ox)` that lie inside the image: `(tap index, input pixel
    /// index)`.
    fn taps(&self, oy: usize, ox: usize) -> impl Iterator<Item = (u8, usize)> + '_ {
        (0..self.kernel * self.kernel).filter_map(move |tap| {
            let y = (oy * self.stride + tap / self.kernel).checked_sub(self.pad).filter(|&y| y < self.h)?;
            let x = (ox * self.stride + tap % self.kernel).checked_sub(self.pad).filter(|&x| x < self.w)?;
            Some((tap as u8, y * self.w + x))
        })
    }

    /// The first value of the window at `(oy, ox)`, counted from the first of the image; negative if it
    /// lies outside.
    fn origin(&self, oy: usize, ox: usize) -> isize {
        let place = |at: usize| (at * self.stride) as isize - self.pad as isize;
        (place(oy) * self.w as isize + place(ox)) * self.c as isize
    }

    /// The first value of each tap, counted from the origin of its window.
    fn offsets(&self) -> Vec<isize> {
        let offset = |tap: usize| (tap / self.kernel * self.w + tap % self.kernel) * self.c;
        (0..self.kernel * self.kernel).map(|tap| offset(tap) as isize).collect()
    }
}

/// Maximum over each window, and which tap held it. Of equal values the first in reading order
/// wins; NaN wins always.
pub(crate) fn max_forward<S: Storage>(x: &[S], g: &Window) -> (Vec<S>, Vec<u8>) {
    let (out_image, in_image) = (g.ho * g.wo * g.c, g.h * g.w * g.c);
    let n = x.len() / in_image;
    let mut y = vec![S::store(S::Real::ZERO); n * out_image];
    let mut tap_of = vec![0u8; n * out_image];
    y.par_chunks_mut(out_image).zip(tap_of.par_chunks_mut(out_image)).zip(x.par_chunks(in_image)).for_each(
        |((y, tap_of), x)| {
            let places = y.chunks_exact_mut(g.c).zip(tap_of.chunks_exact_mut(g.c)).enumerate();
            for (place, (y, tap_of)) in places {
                for (i, (tap, pixel)) in g.taps(place / g.wo, place % g.wo).enumerate() {
                    let x = &x[pixel * g.c..(pixel + 1) * g.c];
                    vectorized(
                        #[inline(always)]
                        || keep_larger(y, tap_of, x, tap, i == 0),
                    );
                }
            }
        },
    );
    (y, tap_of)
}

#[inline(always)]
fn keep_larger<S: Storage>(y: &mut [S], tap_of: &mut [u8], x: &[S], tap: u8, first: bool) {
    for ((y, tap_of), &x) in y.iter_mut().zip(tap_of).zip(x) {
        // `x != x` is true for NaN alone, which must be kept.
        #[allow(clippy::eq_op)]
        let larger = first || x.load() > y.load() || x.load() != x.load();
        *y = if larger { x } else { *y };
        *tap_of = if larger { tap } else { *tap_of };
    }
}

/// Sends each gradient to the pixel that held the maximum.
pub(crate) fn max_backward<S: Storage>(dy: &[S], tap_of: &[u8], g: &Window) -> Vec<S> {
    let (out_image, in_image) = (g.ho * g.wo * g.c, g.h * g.w * g.c);
    let mut dx = vec![S::store(S::Real::ZERO); dy.len() / out_image * in_image];
    let offsets = g.offsets();
    dx.par_chunks_mut(in_image).zip(dy.par_chunks(out_image)).zip(tap_of.par_chunks(out_image)).for_each(
        |((dx, dy), tap_of)| {
            let places = dy.chunks_exact(g.c).zip(tap_of.chunks_exact(g.c)).enumerate();
            for (place, (dy, tap_of)) in places {
                let origin = g.origin(place / g.wo, place % g.wo);
                for (c, (&dy, &tap)) in dy.iter().zip(tap_of).enumerate() {
                    // Not negative: the tap that held the maximum lies inside the image.
                    let dx = &mut dx[(origin + offsets[usize::from(tap)]) as usize + c];
                    *dx = S::store(dx.load() + dy.load());
                }
            }
        },
    );
    dx
}

/// Mean over all `pixels` of each image: `[n, pixels, c]` to `[n, c]`.
pub(crate) fn mean_forward<S: Storage>(x: &[S], pixels: usize, c: usize) -> Vec<S> {
    let mut y = vec![S::store(S::Real::ZERO); x.len() / pixels];
    y.par_chunks_mut(c).zip(x.par_chunks(pixels * c)).for_each(|(y, x)| {
        vectorized(
            #[inline(always)]
            || {
                let mut sums = vec![S::Real::ZERO; c];
                for row in x.chunks_exact(c) {
                    for (sum, &x) in sums.iter_mut().zip(row) {
                        *sum += x.load();
                    }
                }
                let scale = S::Real::ONE / S::Real::of(pixels as f64);
                for (y, &sum) in y.iter_mut().zip(&sums) {
                    *y = S::store(sum * scale);
                }
            },
        );
    });
    y
}

/// Spreads each gradient evenly over the image.
pub(crate) fn mean_backward<S: Storage>(dy: &[S], pixels: usize, c: usize) -> Vec<S> {
    let scale = S::Real::ONE / S::Real::of(pixels as f64);
    let mut dx = vec![S::store(S::Real::ZERO); dy.len() * pixels];
    dx.par_chunks_mut(pixels * c).zip(dy.par_chunks(c)).for_each(|(dx, dy)| {
        for row in dx.chunks_exact_mut(c) {
            for (x, &g) in row.iter_mut().zip(dy) {
                *x = S::store(g.load() * scale);
            }
        }
    });
    dx
}
