//! Sums and maxima of a row in sixteen lanes, in an order that is the same on every machine.

use super::{Compute, Storage};

/// Returns the sum of `f(x)` in sixteen interleaved lanes, which the compiler keeps in vector
/// registers.
#[inline(always)]
pub(crate) fn lane_sum<S: Storage>(x: &[S], f: impl Fn(S::Real) -> S::Real) -> S::Real {
    let mut lanes = [S::Real::ZERO; 16];
    let chunks = x.chunks_exact(16);
    let tail: S::Real = chunks.remainder().iter().map(|&x| f(x.load())).sum();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x.load());
        }
    }
    sum_of_lanes(lanes) + tail
}

/// Adds up sixteen lanes in halves: added one after the other, they would dominate the time of a
/// short row.
#[inline(always)]
fn sum_of_lanes<T: Compute>(mut lanes: [T; 16]) -> T {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
    }
    lanes[0]
}

/// Returns the largest number of a row that is not empty, in lanes as [`lane_sum`]; NaN is skipped.
#[inline(always)]
pub(crate) fn lane_max<T: Compute>(x: &[T]) -> T {
    let mut lanes = [x[0]; 16];
    let (whole, rest) = x.as_chunks::<16>();
    for chunk in whole {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = if x > *lane { x } else { *lane };
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            lanes[i] = if lanes[i + half] > lanes[i] { lanes[i + half] } else { lanes[i] };
        }
    }
    lanes[0]
}

/// Returns the sum of `f(x, y)`, in lanes as [`lane_sum`].
#[inline(always)]
pub(crate) fn lane_sum_zip<S: Storage<Real = T>, R: Storage<Real = T>, T: Compute>(
    x: &[S],
    y: &[R],
    f: impl Fn(T, T) -> T,
) -> T {
    let mut lanes = [T::ZERO; 16];
    let (xs, ys) = (x.chunks_exact(16), y.chunks_exact(16));
    let tail: T = xs.remainder().iter().zip(ys.remainder()).map(|(&x, &y)| f(x.load(), y.load())).sum();
    for (x, y) in xs.zip(ys) {
        for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += f(x.load(), y.load());
        }
    }
    sum_of_lanes(lanes) + tail
}

/// Returns the sum of `f(x, y, z)`, in lanes as [`lane_sum`].
#[inline(always)]
pub(crate) fn lane_sum_three<S: Storage<Real = T>, R: Storage<Real = T>, T: Compute>(
    x: &[S],
    y: &[T],
    z: &[R],
    f: impl Fn(T, T, T) -> T,
) -> T {
    let mut lanes = [T::ZERO; 16];
    let (xs, ys, zs) = (x.chunks_exact(16), y.chunks_exact(16), z.chunks_exact(16));
    let rest = xs.remainder().iter().zip(ys.remainder()).zip(zs.remainder());
    let tail: T = rest.map(|((&x, &y), &z)| f(x.load(), y, z.load())).sum();
    for ((x, y), z) in xs.zip(ys).zip(zs) {
        for (((lane, &x), &y), &z) in lanes.iter_mut().zip(x).zip(y).zip(z) {
            *lane += f(x.load(), y, z.load());
        }
    }
    sum_of_lanes(lanes) + tail
}
