//! Depthwise convolution in registers: four neighboring pixels of two vectors of channels share
//! what they load.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Depthwise;
use crate::ops::kernels::{Compute, Storage};

/// Pixels that are worked on together.
const TOGETHER: usize = 4;

/// One row of the result, of as many channels as fill whole vectors. Gives how many those are.
pub(super) struct OutputRow<'a, S: Storage> {
    pub(super) g: &'a Depthwise,
    /// The image.
    pub(super) x: &'a [S],
    /// `[kh, kw, c]`.
    pub(super) w: &'a [S::Real],
    pub(super) bias: Option<&'a [S::Real]>,
    pub(super) oy: usize,
    pub(super) y: &'a mut [S],
}

/// Adds the weight gradient of one row of the result, for as many channels as fill whole vectors.
/// Returns how many.
pub(super) struct WeightRow<'a, S: Storage> {
    pub(super) g: &'a Depthwise,
    /// The image.
    pub(super) x: &'a [S],
    /// The row's gradient.
    pub(super) dy: &'a [S],
    pub(super) oy: usize,
    /// Added to.
    pub(super) dw: &'a mut [S::Real],
}

/// Tells if rows of this shape can be swept.
fn fits(g: &Depthwise) -> bool {
    matches!(g.kw, 3 | 7) && g.tile[1] >= g.w
}

/// Calls `$self.channels::<M, kernel>` for each pair of vectors of channels, of a machine `M`.
macro_rules! sweep {
    ($self:ident, $simd:ident, $T:ty) => {{
        if !fits($self.g) {
            return 0;
        }
        let whole = $self.g.c - $self.g.c % (2 * lanes::<$T, M>());
        for first in (0..whole).step_by(2 * lanes::<$T, M>()) {
            if $self.g.kw == 7 {
                $self.channels::<M, 7>($simd, first)
            } else {
                $self.channels::<M, 3>($simd, first)
            }
        }
        whole
    }};
}

impl<S: Storage> WithSimd for OutputRow<'_, S> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<M: Simd>(mut self, simd: M) -> usize {
        sweep!(self, simd, S::Real)
    }
}

impl<S: Storage> WithSimd for WeightRow<'_, S> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<M: Simd>(mut self, simd: M) -> usize {
        sweep!(self, simd, S::Real)
    }
}

type Pair<T, M> = [<T as Compute>::Vector<M>; 2];

const fn lanes<T: Compute, M: Simd>() -> usize {
    size_of::<T::Vector<M>>() / size_of::<T>()
}

#[inline(always)]
fn load<S: Storage, M: Simd>(simd: M, from: &[S], at: usize) -> Pair<S::Real, M> {
    let from = &from[at..at + 2 * lanes::<S::Real, M>()];
    if S::EXACT {
        // SAFETY: the slice has the elements of two vectors, which are plain numbers of this very
        // type.
        return unsafe { from.as_ptr().cast::<Pair<S::Real, M>>().read_unaligned() };
    }
    let mut pair = [S::Real::ZERO.splat(simd); 2];
    // SAFETY: the elements of two vectors, which are plain numbers.
    let numbers = unsafe { std::slice::from_raw_parts_mut(pair.as_mut_ptr().cast::<S::Real>(), from.len()) };
    for (number, from) in numbers.iter_mut().zip(from) {
        *number = from.load();
    }
    pair
}

#[inline(always)]
fn store<S: Storage, M: Simd>(_: M, to: &mut [S], at: usize, pair: Pair<S::Real, M>) {
    let to = &mut to[at..at + 2 * lanes::<S::Real, M>()];
    if S::EXACT {
        // SAFETY: the slice has space for the elements of two vectors, which are plain numbers of
        // this very type.
        return unsafe { to.as_mut_ptr().cast::<Pair<S::Real, M>>().write_unaligned(pair) };
    }
    // SAFETY: the elements of two vectors, which are plain numbers.
    let numbers = unsafe { std::slice::from_raw_parts(pair.as_ptr().cast::<S::Real>(), to.len()) };
    for (to, &number) in to.iter_mut().zip(numbers) {
        *to = S::store(number);
    }
}

#[inline(always)]
fn multiply_add<T: Compute, M: Simd>(simd: M, a: Pair<T, M>, b: Pair<T, M>, sum: &mut Pair<T, M>) {
    sum[0] = T::multiply_add(simd, a[0], b[0], sum[0]);
    sum[1] = T::multiply_add(simd, a[1], b[1], sum[1]);
}

/// Returns which pixels of a block of `pixels` results from `ox` on are inside the image, and their
/// position in its row.
#[inline(always)]
fn seen(g: &Depthwise, ox: usize, pixels: usize) -> (Range<usize>, usize) {
    let first = g.pad[1].saturating_sub(ox);
    let last = (g.w + g.pad[1]).saturating_sub(ox).min(pixels + g.kw - 1);
    (first..last.max(first), (ox + first).saturating_sub(g.pad[1]))
}

impl<S: Storage> OutputRow<'_, S> {
    #[inline(always)]
    fn channels<M: Simd, const K: usize>(&mut self, simd: M, first: usize) {
        let mut ox = 0;
        while ox + TOGETHER <= self.g.wo {
            self.block::<M, K, TOGETHER>(simd, first, ox);
            ox += TOGETHER;
        }
        match self.g.wo - ox {
            1 => self.block::<M, K, 1>(simd, first, ox),
            2 => self.block::<M, K, 2>(simd, first, ox),
            3 => self.block::<M, K, 3>(simd, first, ox),
            _ => {}
        }
    }

    #[inline(always)]
    fn block<M: Simd, const K: usize, const N: usize>(&mut self, simd: M, first: usize, ox: usize) {
        let g = self.g;
        let start = self.bias.map_or([S::Real::ZERO.splat(simd); 2], |bias| load(simd, bias, first));
        let mut sums = [start; N];
        let (seen, left) = seen(g, ox, N);
        for ky in g.rows(self.oy) {
            let weights: [Pair<S::Real, M>; K] =
                std::array::from_fn(|kx| load(simd, self.w, (ky * K + kx) * g.c + first));
            let row = ((self.oy + ky - g.pad[0]) * g.w + left) * g.c + first;
            // All loops but that over kernel rows are unrolled, so that sums and weights stay in
            // registers.
            for pixel in 0..N + K - 1 {
                if !seen.contains(&pixel) {
                    continue;
                }
                let x = load(simd, self.x, row + (pixel - seen.start) * g.c);
                for (j, sum) in sums.iter_mut().enumerate() {
                    if pixel >= j && pixel - j < K {
                        multiply_add::<S::Real, M>(simd, x, weights[pixel - j], sum);
                    }
                }
            }
        }
        for (j, sum) in sums.into_iter().enumerate() {
            store(simd, self.y, (ox + j) * g.c + first, sum);
        }
    }
}

impl<S: Storage> WeightRow<'_, S> {
    #[inline(always)]
    fn channels<M: Simd, const K: usize>(&mut self, simd: M, first: usize) {
        let g = self.g;
        for ky in g.rows(self.oy) {
            let mut sums: [Pair<S::Real, M>; K] =
                std::array::from_fn(|kx| load(simd, self.dw, (ky * K + kx) * g.c + first));
            let mut ox = 0;
            while ox + TOGETHER <= g.wo {
                self.block::<M, K, TOGETHER>(simd, first, ky, ox, &mut sums);
                ox += TOGETHER;
            }
            match g.wo - ox {
                1 => self.block::<M, K, 1>(simd, first, ky, ox, &mut sums),
                2 => self.block::<M, K, 2>(simd, first, ky, ox, &mut sums),
                3 => self.block::<M, K, 3>(simd, first, ky, ox, &mut sums),
                _ => {}
            }
            for (kx, sum) in sums.into_iter().enumerate() {
                store(simd, self.dw, (ky * K + kx) * g.c + first, sum);
            }
        }
    }

    #[inline(always)]
    fn block<M: Simd, const K: usize, const N: usize>(
        &self,
        simd: M,
        first: usize,
        ky: usize,
        ox: usize,
        sums: &mut [Pair<S::Real, M>; K],
    ) {
        let g = self.g;
        let (seen, left) = seen(g, ox, N);
        let dy: [Pair<S::Real, M>; N] = std::array::from_fn(|j| load(simd, self.dy, (ox + j) * g.c + first));
        let row = ((self.oy + ky - g.pad[0]) * g.w + left) * g.c + first;
        for pixel in 0..N + K - 1 {
            if !seen.contains(&pixel) {
                continue;
            }
            let x = load(simd, self.x, row + (pixel - seen.start) * g.c);
            for (kx, sum) in sums.iter_mut().enumerate() {
                if pixel >= kx && pixel - kx < N {
                    multiply_add::<S::Real, M>(simd, x, dy[pixel - kx], sum);
                }
            }
        }
    }
}
