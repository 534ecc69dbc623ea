//! Depthwise convolution in registers: four neighbouring pixels of two vectors of channels share what they load.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Depthwise;
use crate::ops::kernels::Element;

/// Pixels that are worked on together.
const TOGETHER: usize = 4;

/// One row of the result, of as many channels as fill whole vectors. Gives how many those are.
pub(super) struct OutputRow<'a, T> {
    pub(super) g: &'a Depthwise,
    /// The picture.
    pub(super) x: &'a [T],
    /// `[kh, kw, c]`.
    pub(super) w: &'a [T],
    pub(super) bias: Option<&'a [T]>,
    pub(super) oy: usize,
    pub(super) y: &'a mut [T],
}

/// What one row of the result says about the weight, of as many channels as fill whole vectors. Gives how many.
pub(super) struct WeightRow<'a, T> {
    pub(super) g: &'a Depthwise,
    /// The picture.
    pub(super) x: &'a [T],
    /// The row's gradient.
    pub(super) dy: &'a [T],
    pub(super) oy: usize,
    /// Added to.
    pub(super) dw: &'a mut [T],
}

/// Whether rows of this shape can be swept.
fn fits(g: &Depthwise) -> bool {
    matches!(g.kw, 3 | 7) && g.tile[1] >= g.w
}

/// Calls `$self.$block::<S, kernel, pixels>` for each block of pixels of a row.
macro_rules! sweep {
    ($self:ident, $simd:ident, $block:ident) => {{
        if !fits($self.g) {
            return 0;
        }
        let whole = $self.g.c - $self.g.c % (2 * lanes::<T, S>());
        for first in (0..whole).step_by(2 * lanes::<T, S>()) {
            if $self.g.kw == 7 {
                $self.$block::<S, 7>($simd, first)
            } else {
                $self.$block::<S, 3>($simd, first)
            }
        }
        whole
    }};
}

impl<T: Element> WithSimd for OutputRow<'_, T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> usize {
        sweep!(self, simd, channels)
    }
}

impl<T: Element> WithSimd for WeightRow<'_, T> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) -> usize {
        sweep!(self, simd, channels)
    }
}

type Pair<T, S> = [<T as Element>::Vector<S>; 2];

const fn lanes<T: Element, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}

#[inline(always)]
fn load<T: Element, S: Simd>(_: S, from: &[T], at: usize) -> Pair<T, S> {
    let from = &from[at..at + 2 * lanes::<T, S>()];
    // SAFETY: the slice has the elements of two vectors, which are plain numbers.
    unsafe { from.as_ptr().cast::<Pair<T, S>>().read_unaligned() }
}

#[inline(always)]
fn store<T: Element, S: Simd>(_: S, to: &mut [T], at: usize, pair: Pair<T, S>) {
    let to = &mut to[at..at + 2 * lanes::<T, S>()];
    // SAFETY: the slice has room for the elements of two vectors, which are plain numbers.
    unsafe { to.as_mut_ptr().cast::<Pair<T, S>>().write_unaligned(pair) }
}

#[inline(always)]
fn multiply_add<T: Element, S: Simd>(simd: S, a: Pair<T, S>, b: Pair<T, S>, sum: &mut Pair<T, S>) {
    sum[0] = T::multiply_add(simd, a[0], b[0], sum[0]);
    sum[1] = T::multiply_add(simd, a[1], b[1], sum[1]);
}

/// Pixels of a block of `pixels` results from `ox` on that lie in the picture, and where they lie in its row.
#[inline(always)]
fn seen(g: &Depthwise, ox: usize, pixels: usize) -> (Range<usize>, usize) {
    let first = g.pad[1].saturating_sub(ox);
    let last = (g.w + g.pad[1]).saturating_sub(ox).min(pixels + g.kw - 1);
    (first..last.max(first), (ox + first).saturating_sub(g.pad[1]))
}

impl<T: Element> OutputRow<'_, T> {
    #[inline(always)]
    fn channels<S: Simd, const K: usize>(&mut self, simd: S, first: usize) {
        let mut ox = 0;
        while ox + TOGETHER <= self.g.wo {
            self.block::<S, K, TOGETHER>(simd, first, ox);
            ox += TOGETHER;
        }
        match self.g.wo - ox {
            1 => self.block::<S, K, 1>(simd, first, ox),
            2 => self.block::<S, K, 2>(simd, first, ox),
            3 => self.block::<S, K, 3>(simd, first, ox),
            _ => {}
        }
    }

    #[inline(always)]
    fn block<S: Simd, const K: usize, const N: usize>(&mut self, simd: S, first: usize, ox: usize) {
        let g = self.g;
        let start = self.bias.map_or([T::ZERO.splat(simd); 2], |bias| load(simd, bias, first));
        let mut sums = [start; N];
        let (seen, left) = seen(g, ox, N);
        for ky in g.rows(self.oy) {
            let weights: [Pair<T, S>; K] =
                std::array::from_fn(|kx| load(simd, self.w, (ky * K + kx) * g.c + first));
            let row = ((self.oy + ky - g.pad[0]) * g.w + left) * g.c + first;
            // All loops but that over kernel rows are unrolled, so that sums and weights stay in registers.
            for pixel in 0..N + K - 1 {
                if !seen.contains(&pixel) {
                    continue;
                }
                let x = load(simd, self.x, row + (pixel - seen.start) * g.c);
                for (j, sum) in sums.iter_mut().enumerate() {
                    if pixel >= j && pixel - j < K {
                        multiply_add::<T, S>(simd, x, weights[pixel - j], sum);
                    }
                }
            }
        }
        for (j, sum) in sums.into_iter().enumerate() {
            store(simd, self.y, (ox + j) * g.c + first, sum);
        }
    }
}

impl<T: Element> WeightRow<'_, T> {
    #[inline(always)]
    fn channels<S: Simd, const K: usize>(&mut self, simd: S, first: usize) {
        let g = self.g;
        for ky in g.rows(self.oy) {
            let mut sums: [Pair<T, S>; K] =
                std::array::from_fn(|kx| load(simd, self.dw, (ky * K + kx) * g.c + first));
            let mut ox = 0;
            while ox + TOGETHER <= g.wo {
                self.block::<S, K, TOGETHER>(simd, first, ky, ox, &mut sums);
                ox += TOGETHER;
            }
            match g.wo - ox {
                1 => self.block::<S, K, 1>(simd, first, ky, ox, &mut sums),
                2 => self.block::<S, K, 2>(simd, first, ky, ox, &mut sums),
                3 => self.block::<S, K, 3>(simd, first, ky, ox, &mut sums),
                _ => {}
            }
            for (kx, sum) in sums.into_iter().enumerate() {
                store(simd, self.dw, (ky * K + kx) * g.c + first, sum);
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const K: usize, const N: usize>(
        &self,
        simd: S,
        first: usize,
        ky: usize,
        ox: usize,
        sums: &mut [Pair<T, S>; K],
    ) {
        let g = self.g;
        let (seen, left) = seen(g, ox, N);
        let dy: [Pair<T, S>; N] = std::array::from_fn(|j| load(simd, self.dy, (ox + j) * g.c + first));
        let row = ((self.oy + ky - g.pad[0]) * g.w + left) * g.c + first;
        for pixel in 0..N + K - 1 {
            if !seen.contains(&pixel) {
                continue;
            }
            let x = load(simd, self.x, row + (pixel - seen.start) * g.c);
            for (kx, sum) in sums.iter_mut().enumerate() {
                if pixel >= kx && pixel - kx < N {
                    multiply_add::<T, S>(simd, x, dy[pixel - kx], sum);
                }
            }
        }
    }
}
