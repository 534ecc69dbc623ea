//! Depthwise convolution in registers: neighboring pixels of one vector of channels share what they
//! load.
#![allow(unsafe_code)]

use std::iter::StepBy;
use std::mem::MaybeUninit;
use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Depthwise;
use crate::ops::kernels::{Compute, Storage};

/// Most pixels that are worked on together. Their sums and a row of a 7x7 kernel are what 16 registers
/// hold; and with fewer sums, each multiplication would wait for the one before.
const TOGETHER: usize = 8;

/// One row of the result, of as many channels as fill whole vectors. Gives how many those are.
pub(super) struct OutputRow<'a, S: Storage> {
    pub(super) g: &'a Depthwise,
    /// The image.
    pub(super) x: &'a [S],
    /// `[kh, kw, c]`.
    pub(super) w: &'a [S::Real],
    pub(super) bias: Option<&'a [S::Real]>,
    pub(super) oy: usize,
    pub(super) y: &'a mut [MaybeUninit<S>],
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

/// Calls `$self.channels::<M, kernel>` for each two vectors of channels, of a machine `M`: with AVX2,
/// they are on one cache line.
macro_rules! sweep {
    ($self:ident, $simd:ident, $T:ty) => {{
        if !fits($self.g) {
            return 0;
        }
        let lanes = lanes::<$T, M>();
        let whole = $self.g.c - $self.g.c % lanes;
        for first in (0..whole).step_by(2 * lanes) {
            let channels = (first..whole.min(first + 2 * lanes)).step_by(lanes);
            if $self.g.kw == 7 {
                $self.channels::<M, 7>($simd, channels)
            } else {
                $self.channels::<M, 3>($simd, channels)
            }
        }
        whole
    }};
}

/// Calls `$self.block::<M, kernel, pixels>` with the number of `$pixels`.
macro_rules! block {
    ($self:ident, $pixels:expr, $arguments:tt) => {
        match $pixels {
            1 => $self.block::<M, K, 1> $arguments,
            2 => $self.block::<M, K, 2> $arguments,
            3 => $self.block::<M, K, 3> $arguments,
            4 => $self.block::<M, K, 4> $arguments,
            5 => $self.block::<M, K, 5> $arguments,
            6 => $self.block::<M, K, 6> $arguments,
            7 => $self.block::<M, K, 7> $arguments,
            8 => $self.block::<M, K, 8> $arguments,
            _ => unreachable!("blocks have one to eight pixels"),
        }
    };
}

/// Divides the pixels of a row into blocks of nearly equal width.
#[inline(always)]
fn blocks(width: usize) -> impl Iterator<Item = Range<usize>> {
    let count = width.div_ceil(TOGETHER);
    (0..count).map(move |i| i * width / count..(i + 1) * width / count)
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

type Lanes<S, M> = <<S as Storage>::Real as Compute>::Vector<M>;

const fn lanes<T: Compute, M: Simd>() -> usize {
    size_of::<T::Vector<M>>() / size_of::<T>()
}

/// Loads the vector at `from`.
///
/// # Safety
/// `from` is valid for reading as many elements as the vector has.
#[inline(always)]
unsafe fn load<S: Storage, M: Simd>(simd: M, from: *const S) -> Lanes<S, M> {
    if S::EXACT {
        // SAFETY: the caller's promise; the elements are plain numbers of this very type.
        return unsafe { from.cast::<Lanes<S, M>>().read_unaligned() };
    }
    let mut vector = S::Real::ZERO.splat(simd);
    let lanes = lanes::<S::Real, M>();
    // SAFETY: the elements of a vector are plain numbers; the caller's promise.
    let (numbers, from) = unsafe {
        let numbers = (&raw mut vector).cast::<S::Real>();
        (std::slice::from_raw_parts_mut(numbers, lanes), std::slice::from_raw_parts(from, lanes))
    };
    for (number, from) in numbers.iter_mut().zip(from) {
        *number = from.load();
    }
    vector
}

/// Loads `N` vectors, the first at element `at`, then every `stride` elements.
#[inline(always)]
fn load_all<S: Storage, M: Simd, const N: usize>(
    simd: M,
    from: &[S],
    at: usize,
    stride: usize,
) -> [Lanes<S, M>; N] {
    let from = from[at..][..(N - 1) * stride + lanes::<S::Real, M>()].as_ptr();
    // SAFETY: the slice was checked to hold all of them.
    std::array::from_fn(|i| unsafe { load(simd, from.wrapping_add(i * stride)) })
}

#[inline(always)]
fn store<S: Storage, M: Simd>(_: M, to: &mut [MaybeUninit<S>], at: usize, vector: Lanes<S, M>) {
    let to = &mut to[at..at + lanes::<S::Real, M>()];
    if S::EXACT {
        // SAFETY: the slice has space for the elements of a vector, which are plain numbers of this
        // very type.
        return unsafe { to.as_mut_ptr().cast::<Lanes<S, M>>().write_unaligned(vector) };
    }
    // SAFETY: the elements of a vector, which are plain numbers.
    let numbers = unsafe { std::slice::from_raw_parts((&raw const vector).cast::<S::Real>(), to.len()) };
    for (to, &number) in to.iter_mut().zip(numbers) {
        to.write(S::store(number));
    }
}

/// The pixels of an image's row that the block of `pixels` results from `ox` on is made of.
#[derive(Clone, Copy)]
struct Row<S> {
    /// Pixels that are inside the image, of those that the block sees.
    first: usize,
    end: usize,
    /// The first pixel that the block sees, also if it is not inside.
    start: *const S,
    stride: usize,
}

impl<S: Storage> Row<S> {
    /// Those of row `y`, and as many channels from `channel` on as a vector of `lanes` has.
    #[inline(always)]
    fn new(g: &Depthwise, x: &[S], [y, ox]: [usize; 2], pixels: usize, channel: usize, lanes: usize) -> Self {
        let first = g.pad[1].saturating_sub(ox);
        let end = (g.w + g.pad[1]).saturating_sub(ox).min(pixels + g.kw - 1).max(first);
        let left = (ox + first).saturating_sub(g.pad[1]);
        let at = (y * g.w + left) * g.c + channel;
        assert!(
            first == end || at + (end - first - 1) * g.c + lanes <= x.len(),
            "a convolution reads out of bounds"
        );
        let start = x.as_ptr().wrapping_add(at);
        Self { first, end, start: start.wrapping_sub(first * g.c), stride: g.c }
    }

    /// Calls `each` with the number of a pixel and its vector, for each that a block of `N` pixels sees
    /// with a kernel of `K` columns and that is inside of the image.
    #[inline(always)]
    fn for_each<M: Simd, const K: usize, const N: usize>(
        self,
        simd: M,
        mut each: impl FnMut(usize, Lanes<S, M>),
    ) {
        // Nothing is asked for a single pixel of most blocks.
        if self.first == 0 && self.end == N + K - 1 {
            let mut at = self.start;
            for pixel in 0..N + K - 1 {
                // SAFETY: `new` checked the pixels from `first` to `end`.
                each(pixel, unsafe { load(simd, at) });
                at = at.wrapping_add(self.stride);
            }
            return;
        }
        let mut at = self.start;
        for pixel in 0..N + K - 1 {
            if pixel >= self.first && pixel < self.end {
                // SAFETY: as above.
                each(pixel, unsafe { load(simd, at) });
            }
            at = at.wrapping_add(self.stride);
        }
    }
}

impl<S: Storage> OutputRow<'_, S> {
    #[inline(always)]
    fn channels<M: Simd, const K: usize>(&mut self, simd: M, channels: StepBy<Range<usize>>) {
        for pixels in blocks(self.g.wo) {
            for first in channels.clone() {
                block!(self, pixels.len(), (simd, first, pixels.start));
            }
        }
    }

    #[inline(always)]
    fn block<M: Simd, const K: usize, const N: usize>(&mut self, simd: M, first: usize, ox: usize) {
        let g = self.g;
        let start = self.bias.map_or(S::Real::ZERO.splat(simd), |bias| {
            let [bias] = load_all(simd, bias, first, 0);
            bias
        });
        let mut sums = [start; N];
        for ky in g.rows(self.oy) {
            let weights: [_; K] = load_all(simd, self.w, ky * K * g.c + first, g.c);
            let y = self.oy + ky - g.pad[0];
            let row = Row::new(g, self.x, [y, ox], N, first, lanes::<S::Real, M>());
            // All loops but that over kernel rows are unrolled, so that sums and weights stay in
            // registers.
            row.for_each::<M, K, N>(
                simd,
                #[inline(always)]
                |pixel, x| {
                    for (j, sum) in sums.iter_mut().enumerate() {
                        if pixel >= j && pixel - j < K {
                            *sum = S::Real::multiply_add(simd, x, weights[pixel - j], *sum);
                        }
                    }
                },
            );
        }
        for (j, sum) in sums.into_iter().enumerate() {
            store(simd, self.y, (ox + j) * g.c + first, sum);
        }
    }
}

impl<S: Storage> WeightRow<'_, S> {
    #[inline(always)]
    fn channels<M: Simd, const K: usize>(&mut self, simd: M, channels: StepBy<Range<usize>>) {
        let g = self.g;
        for ky in g.rows(self.oy) {
            let mut channels = channels.clone();
            while let Some(first) = channels.next() {
                // Three sums alone would each wait for the addition before.
                let second = if K == 3 { channels.next() } else { None };
                let at = |first: usize| ky * K * g.c + first;
                let mut sums: [_; K] = load_all(simd, &*self.dw, at(first), g.c);
                let mut more: Option<[_; K]> =
                    second.map(|second| load_all(simd, &*self.dw, at(second), g.c));
                for pixels in blocks(g.wo) {
                    block!(self, pixels.len(), (simd, first, ky, pixels.start, &mut sums));
                    if let (Some(second), Some(sums)) = (second, &mut more) {
                        block!(self, pixels.len(), (simd, second, ky, pixels.start, sums));
                    }
                }
                self.put(simd, at(first), sums);
                if let (Some(second), Some(sums)) = (second, more) {
                    self.put(simd, at(second), sums);
                }
            }
        }
    }

    /// Stores the sums of a row of the kernel.
    #[inline(always)]
    fn put<M: Simd, const K: usize>(&mut self, simd: M, at: usize, sums: [Lanes<S, M>; K]) {
        // SAFETY: numbers remain numbers.
        let dw = unsafe { &mut *(std::ptr::from_mut(self.dw) as *mut [MaybeUninit<S::Real>]) };
        for (kx, sum) in sums.into_iter().enumerate() {
            store(simd, dw, at + kx * self.g.c, sum);
        }
    }

    #[inline(always)]
    fn block<M: Simd, const K: usize, const N: usize>(
        &self,
        simd: M,
        first: usize,
        ky: usize,
        ox: usize,
        sums: &mut [Lanes<S, M>; K],
    ) {
        let g = self.g;
        let dy: [_; N] = load_all(simd, self.dy, ox * g.c + first, g.c);
        let y = self.oy + ky - g.pad[0];
        let row = Row::new(g, self.x, [y, ox], N, first, lanes::<S::Real, M>());
        row.for_each::<M, K, N>(
            simd,
            #[inline(always)]
            |pixel, x| {
                for (kx, sum) in sums.iter_mut().enumerate() {
                    if pixel >= kx && pixel - kx < N {
                        *sum = S::Real::multiply_add(simd, x, dy[pixel - kx], *sum);
                    }
                }
            },
        );
    }
}
