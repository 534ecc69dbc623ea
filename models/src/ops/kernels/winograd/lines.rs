//! The transforms of one row or column of a tile, on vectors of channels: the matrices `B^T`, `G` and
//! `A^T` of the paper, and the transposes of the last two for gradients.
//!
//! They are those of Toom and Cook for the points 0, ±a, ±b and infinity. `a = 1/sqrt(2)` and `b =
//! sqrt(2)` halve the error of the usual 1 and 2, because the powers of `a b = 1` stay small.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2};

use pulp::Simd;

use crate::ops::kernels::Compute;

const A: f64 = FRAC_1_SQRT_2;
const B: f64 = SQRT_2;
const A_CUBED: f64 = A * A * A;
const B_CUBED: f64 = B * B * B;
/// Products of the differences of a point to all others, inverted.
const AT_A: f64 = -2.0 / 3.0;
const AT_B: f64 = 1.0 / 6.0;

/// Arithmetic on vectors of channels.
#[derive(Clone, Copy)]
struct Arithmetic<S>(S);

impl<S: Simd> Arithmetic<S> {
    #[inline(always)]
    fn add<T: Compute>(self, x: T::Vector<S>, y: T::Vector<S>) -> T::Vector<S> {
        T::add_lanes(self.0, x, y)
    }

    #[inline(always)]
    fn subtract<T: Compute>(self, x: T::Vector<S>, y: T::Vector<S>) -> T::Vector<S> {
        self.plus::<T>(x, -1.0, y)
    }

    /// `x + factor * y`
    #[inline(always)]
    fn plus<T: Compute>(self, x: T::Vector<S>, factor: f64, y: T::Vector<S>) -> T::Vector<S> {
        T::multiply_add(self.0, T::of(factor).splat(self.0), y, x)
    }

    #[inline(always)]
    fn times<T: Compute>(self, factor: f64, x: T::Vector<S>) -> T::Vector<S> {
        self.plus::<T>(T::ZERO.splat(self.0), factor, x)
    }
}

/// A linear map of a line of `IN` vectors to one of `OUT`.
pub(super) trait LineTransform<const IN: usize, const OUT: usize> {
    fn apply<T: Compute, S: Simd>(simd: S, x: [T::Vector<S>; IN]) -> [T::Vector<S>; OUT];
}

/// Pixels of the image that a tile sees, to the planes (`B^T`).
pub(super) struct InputTransform;

impl LineTransform<6, 6> for InputTransform {
    #[inline(always)]
    fn apply<T: Compute, S: Simd>(simd: S, x: [T::Vector<S>; 6]) -> [T::Vector<S>; 6] {
        let m = Arithmetic(simd);
        let (even_a, odd_a) = (m.plus::<T>(x[4], -B * B, x[2]), m.plus::<T>(m.times::<T>(A, x[3]), -B, x[1]));
        let (even_b, odd_b) = (m.plus::<T>(x[4], -A * A, x[2]), m.plus::<T>(m.times::<T>(B, x[3]), -A, x[1]));
        [
            m.plus::<T>(m.add::<T>(x[0], x[4]), -A * A - B * B, x[2]),
            m.add::<T>(even_a, odd_a),
            m.subtract::<T>(even_a, odd_a),
            m.add::<T>(even_b, odd_b),
            m.subtract::<T>(even_b, odd_b),
            m.plus::<T>(m.add::<T>(x[1], x[5]), -A * A - B * B, x[3]),
        ]
    }
}

/// Planes, to the pixels of the result (`A^T`).
pub(super) struct OutputTransform;

impl LineTransform<6, 4> for OutputTransform {
    #[inline(always)]
    fn apply<T: Compute, S: Simd>(simd: S, x: [T::Vector<S>; 6]) -> [T::Vector<S>; 4] {
        let m = Arithmetic(simd);
        let (even_a, odd_a) = (m.add::<T>(x[1], x[2]), m.subtract::<T>(x[1], x[2]));
        let (even_b, odd_b) = (m.add::<T>(x[3], x[4]), m.subtract::<T>(x[3], x[4]));
        [
            m.add::<T>(m.add::<T>(x[0], even_a), even_b),
            m.plus::<T>(m.times::<T>(A, odd_a), B, odd_b),
            m.plus::<T>(m.times::<T>(A * A, even_a), B * B, even_b),
            m.plus::<T>(m.plus::<T>(x[5], A_CUBED, odd_a), B_CUBED, odd_b),
        ]
    }
}

/// Gradient of the result's pixels, to the planes (`A`).
pub(super) struct OutputGradientTransform;

impl LineTransform<4, 6> for OutputGradientTransform {
    #[inline(always)]
    fn apply<T: Compute, S: Simd>(simd: S, x: [T::Vector<S>; 4]) -> [T::Vector<S>; 6] {
        let m = Arithmetic(simd);
        let (even_a, odd_a) =
            (m.plus::<T>(x[0], A * A, x[2]), m.plus::<T>(m.times::<T>(A, x[1]), A_CUBED, x[3]));
        let (even_b, odd_b) =
            (m.plus::<T>(x[0], B * B, x[2]), m.plus::<T>(m.times::<T>(B, x[1]), B_CUBED, x[3]));
        [
            x[0],
            m.add::<T>(even_a, odd_a),
            m.subtract::<T>(even_a, odd_a),
            m.add::<T>(even_b, odd_b),
            m.subtract::<T>(even_b, odd_b),
            x[3],
        ]
    }
}

/// Taps of the kernel, to the planes (`G`).
pub(super) struct KernelTransform;

impl LineTransform<3, 6> for KernelTransform {
    #[inline(always)]
    fn apply<T: Compute, S: Simd>(simd: S, x: [T::Vector<S>; 3]) -> [T::Vector<S>; 6] {
        let m = Arithmetic(simd);
        let even_a = m.plus::<T>(m.times::<T>(AT_A, x[0]), AT_A * A * A, x[2]);
        let even_b = m.plus::<T>(m.times::<T>(AT_B, x[0]), AT_B * B * B, x[2]);
        [
            x[0],
            m.plus::<T>(even_a, AT_A * A, x[1]),
            m.plus::<T>(even_a, -AT_A * A, x[1]),
            m.plus::<T>(even_b, AT_B * B, x[1]),
            m.plus::<T>(even_b, -AT_B * B, x[1]),
            x[2],
        ]
    }
}

/// Planes, to the gradient of the kernel's taps (`G^T`).
pub(super) struct KernelGradientTransform;

impl LineTransform<6, 3> for KernelGradientTransform {
    #[inline(always)]
    fn apply<T: Compute, S: Simd>(simd: S, x: [T::Vector<S>; 6]) -> [T::Vector<S>; 3] {
        let m = Arithmetic(simd);
        let (even_a, odd_a) = (m.add::<T>(x[1], x[2]), m.subtract::<T>(x[1], x[2]));
        let (even_b, odd_b) = (m.add::<T>(x[3], x[4]), m.subtract::<T>(x[3], x[4]));
        [
            m.plus::<T>(m.plus::<T>(x[0], AT_A, even_a), AT_B, even_b),
            m.plus::<T>(m.times::<T>(AT_A * A, odd_a), AT_B * B, odd_b),
            m.plus::<T>(m.plus::<T>(x[5], AT_A * A * A, even_a), AT_B * B * B, even_b),
        ]
    }
}

/// Maps the columns of a square and then its rows.
#[inline(always)]
pub(super) fn square<M, T, S, const IN: usize, const OUT: usize>(
    simd: S,
    x: &[[T::Vector<S>; IN]; IN],
) -> [[T::Vector<S>; OUT]; OUT]
where
    M: LineTransform<IN, OUT>,
    T: Compute,
    S: Simd,
{
    let zero = T::ZERO.splat(simd);
    let mut half = [[zero; IN]; OUT];
    for j in 0..IN {
        let mut column = [zero; IN];
        for i in 0..IN {
            column[i] = x[i][j];
        }
        let mapped = M::apply::<T, S>(simd, column);
        for i in 0..OUT {
            half[i][j] = mapped[i];
        }
    }
    let mut out = [[zero; OUT]; OUT];
    for i in 0..OUT {
        out[i] = M::apply::<T, S>(simd, half[i]);
    }
    out
}
