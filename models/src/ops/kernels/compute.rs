//! The element types that the CPU kernels compute in, and their vectorizable transcendental
//! functions.

#![allow(clippy::excessive_precision)] // published coefficients, digit for digit

use std::cell::RefCell;

use candle_core::{CpuStorage, WithDType};
use half::bf16;
use pulp::Simd;

/// Storage type of numbers in memory: the type that they are computed in, or `bf16`.
pub(crate) trait Storage: WithDType + Send + Sync {
    /// Type that they are computed in.
    type Real: Compute;
    /// True if both types are the same.
    const EXACT: bool;
    /// Returns the numbers as a slice of the compute type, if the types are the same.
    fn as_compute(numbers: &[Self]) -> Option<&[Self::Real]>;
    /// Returns numbers of the compute type as a slice of this type, if the types are the same.
    fn as_stored(numbers: &[Self::Real]) -> Option<&[Self]>;
    /// Returns the numbers as a slice of `bf16`, if they are `bf16`.
    fn as_bf16(numbers: &[Self]) -> Option<&[bf16]>;
    /// Converts to the compute type, exactly.
    fn load(self) -> Self::Real;
    /// Rounds to the nearest number of this type, ties to even.
    fn store(value: Self::Real) -> Self;
    /// Rounds to `bf16`; numbers of that type stay as they are.
    fn round(self) -> bf16;
}

impl Storage for bf16 {
    type Real = f32;
    const EXACT: bool = false;

    fn as_compute(_: &[Self]) -> Option<&[f32]> {
        None
    }

    fn as_stored(_: &[f32]) -> Option<&[Self]> {
        None
    }

    fn as_bf16(numbers: &[Self]) -> Option<&[bf16]> {
        Some(numbers)
    }

    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn store(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
        // Rounding must not turn NaN into infinity.
        let kept = (bits >> 16) | 0x40;
        Self::from_bits(if value.is_nan() { kept } else { rounded } as u16)
    }

    #[inline(always)]
    fn round(self) -> bf16 {
        self
    }
}

/// Implements [`Storage`] for a type that is stored as it is computed in.
macro_rules! exact {
    ($scalar:ty) => {
        impl Storage for $scalar {
            type Real = Self;
            const EXACT: bool = true;

            fn as_compute(numbers: &[Self]) -> Option<&[Self]> {
                Some(numbers)
            }

            fn as_stored(numbers: &[Self]) -> Option<&[Self]> {
                Some(numbers)
            }

            fn as_bf16(_: &[Self]) -> Option<&[bf16]> {
                None
            }

            #[inline(always)]
            fn load(self) -> Self {
                self
            }

            #[inline(always)]
            fn store(value: Self) -> Self {
                value
            }

            #[inline(always)]
            fn round(self) -> bf16 {
                bf16::store(self as f32)
            }
        }
    };
}

exact!(f32);
exact!(f64);

/// Type that kernels compute in: `f32` (for training) or `f64` (for checking gradients).
pub(crate) trait Compute:
    Storage<Real = Self> + std::ops::Neg<Output = Self> + std::iter::Sum
{
    const ZERO: Self;
    const ONE: Self;
    /// A vector register of an instruction set.
    type Vector<S: Simd>: Copy;
    /// Copies the number to every lane.
    fn splat<S: Simd>(self, simd: S) -> Self::Vector<S>;
    /// `a * b + c`, lane by lane, fused if the machine can.
    fn multiply_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    /// `a + b`, lane by lane.
    fn add_lanes<S: Simd>(simd: S, a: Self::Vector<S>, b: Self::Vector<S>) -> Self::Vector<S>;
    /// Runs `work` with memory that this thread keeps from call to call; calls do not nest.
    fn with_scratch<R>(work: impl FnOnce(&mut Vec<Self>) -> R) -> R;
    /// Runs `work` like [`Self::with_scratch`], with a second buffer.
    fn with_sums<R>(work: impl FnOnce(&mut Vec<Self>) -> R) -> R;
    /// Returns the elements of CPU memory, if they are of this type.
    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]>;
    /// Returns the same numbers, if this type is `f32`.
    fn as_f32(numbers: &[Self]) -> Option<&[f32]>;
    /// Converts from `f64`, rounding once.
    fn of(value: f64) -> Self;
    /// Converts to `f64`, exactly.
    fn into_f64(self) -> f64;
    fn sqrt(self) -> Self;
    /// `self * a + b`, rounded once if `FUSED` ([`FusedLoop`](super::FusedLoop)).
    fn times_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self;
    /// `e^self`; in single precision a polynomial that the compiler can vectorize.
    fn exp<const FUSED: bool>(self) -> Self;
    /// Error function; in single precision a rational approximation that the compiler can
    /// vectorize.
    fn erf<const FUSED: bool>(self) -> Self;
}

/// Vectors and scratch memory of either type.
macro_rules! lanes {
    ($scalar:ty, $vector:ident, $splat:ident, $multiply_add:ident, $add:ident) => {
        type Vector<S: Simd> = S::$vector;

        #[inline(always)]
        fn splat<S: Simd>(self, simd: S) -> S::$vector {
            simd.$splat(self)
        }

        #[inline(always)]
        fn multiply_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
            simd.$multiply_add(a, b, c)
        }

        #[inline(always)]
        fn add_lanes<S: Simd>(simd: S, a: S::$vector, b: S::$vector) -> S::$vector {
            simd.$add(a, b)
        }

        fn with_scratch<R>(work: impl FnOnce(&mut Vec<Self>) -> R) -> R {
            thread_local! {
                static SCRATCH: RefCell<Vec<$scalar>> = const { RefCell::new(Vec::new()) };
            }
            SCRATCH.with_borrow_mut(work)
        }

        fn with_sums<R>(work: impl FnOnce(&mut Vec<Self>) -> R) -> R {
            thread_local! {
                static SUMS: RefCell<Vec<$scalar>> = const { RefCell::new(Vec::new()) };
            }
            SUMS.with_borrow_mut(work)
        }
    };
}

impl Compute for f32 {
    lanes!(f32, f32s, splat_f32s, mul_add_e_f32s, add_f32s);

    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn as_f32(numbers: &[Self]) -> Option<&[f32]> {
        Some(numbers)
    }

    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(data) = storage { Some(data) } else { None }
    }

    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }

    #[inline(always)]
    fn into_f64(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    #[inline(always)]
    fn times_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self {
        if FUSED { self.mul_add(a, b) } else { self * a + b }
    }

    /// Cephes `expf`: relative error below 2e-7, zero below -87.3 and saturating above 88.
    #[inline(always)]
    fn exp<const FUSED: bool>(self) -> Self {
        // Adding 1.5 * 2^23 rounds to the nearest integer without a call.
        const ROUND: f32 = 12_582_912.0;
        let fused = Self::times_plus::<FUSED>;
        let x = if self > 88.0 { 88.0 } else { self };
        let clamped = if x < -87.3 { -87.3 } else { x };
        let shifted = fused(clamped, std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        // ln 2 in two parts, so that the product with n is exact in the first.
        let r = fused(n, 2.121_944_40e-4, fused(n, -0.693_359_375, clamped));
        let mut p = 1.987_569_15e-4;
        for c in [
            1.398_199_950_7e-3,
            8.333_451_907_3e-3,
            4.166_579_589_4e-2,
            1.666_666_545_9e-1,
            5.000_000_120_1e-1,
        ] {
            p = fused(p, r, c);
        }
        // 2^n: the last bits of the shifted number are those of n. A conversion would take as long
        // as all of the above.
        let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
        let y = (fused(p * r, r, r) + 1.0) * scale;
        if x < -87.3 { 0.0 } else { y }
    }

    /// The rational approximation of Eigen and XNNPACK, error below 4e-7 (tested against `libm`).
    #[inline(always)]
    fn erf<const FUSED: bool>(self) -> Self {
        let fused = Self::times_plus::<FUSED>;
        let x = self.clamp(-4.0, 4.0);
        let x2 = x * x;
        let mut p = -2.726_142_258_013_06e-10;
        for c in [
            2.770_681_424_959_02e-8,
            -2.101_024_020_825_08e-6,
            -5.692_506_394_623_46e-5,
            -7.349_906_303_268_55e-4,
            -2.954_599_808_540_25e-3,
            -1.609_603_332_624_15e-2,
        ] {
            p = fused(p, x2, c);
        }
        let mut q = -1.456_607_184_649_96e-5;
        for c in [
            -2.133_740_552_789_05e-4,
            -1.682_826_974_382_03e-3,
            -7.373_329_167_204_68e-3,
            -1.426_473_901_425_29e-2,
        ] {
            q = fused(q, x2, c);
        }
        x * p / q
    }
}

impl Compute for f64 {
    lanes!(f64, f64s, splat_f64s, mul_add_e_f64s, add_f64s);

    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    fn as_f32(_: &[Self]) -> Option<&[f32]> {
        None
    }

    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(data) = storage { Some(data) } else { None }
    }

    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }

    #[inline(always)]
    fn into_f64(self) -> f64 {
        self
    }

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self::sqrt(self)
    }

    #[inline(always)]
    fn times_plus<const FUSED: bool>(self, a: Self, b: Self) -> Self {
        if FUSED { self.mul_add(a, b) } else { self * a + b }
    }

    #[inline(always)]
    fn exp<const FUSED: bool>(self) -> Self {
        Self::exp(self)
    }

    #[inline(always)]
    fn erf<const FUSED: bool>(self) -> Self {
        libm::erf(self)
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::{Compute, Storage};

    #[test]
    fn numbers_are_stored_as_the_half_crate_rounds_them() {
        let specials = [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-40];
        let spread = (0..=u16::MAX).map(|i| f32::from_bits(u32::from(i) << 16 | 0x8000));
        let below = (0..=u16::MAX).map(|i| f32::from_bits(u32::from(i) << 16 | 0x7FFF));
        for x in specials.into_iter().chain(spread).chain(below) {
            let (got, want) = (<bf16 as Storage>::store(x), bf16::from_f32(x));
            assert!(got.to_bits() == want.to_bits() || (x.is_nan() && got.is_nan()), "{x}: {got}, {want}");
            assert!(got.is_nan() || got.load() == want.to_f32());
        }
    }

    fn samples(from: f64, to: f64) -> impl Iterator<Item = f32> {
        (0..=20_000).map(move |i| (from + (to - from) * f64::from(i) / 20_000.0) as f32)
    }

    /// `f` as loops with and without fused instructions call it.
    fn both(f: [fn(f32) -> f32; 2], x: f32) -> [f64; 2] {
        f.map(|f| f(x).into_f64())
    }

    #[test]
    fn exp_is_within_three_units_of_the_last_place() {
        let exp: [fn(f32) -> f32; 2] = [Compute::exp::<false>, Compute::exp::<true>];
        for x in samples(-87.0, 88.0) {
            let want = f64::exp(x.into_f64());
            for got in both(exp, x) {
                assert!((got / want - 1.0).abs() < 3e-7, "exp({x}) = {got}, expected {want}");
            }
        }
        assert_eq!(both(exp, f32::NEG_INFINITY), [0.0; 2]);
        assert_eq!(both(exp, 0.0), [1.0; 2]);
        assert!(both(exp, f32::NAN).iter().all(|x| x.is_nan()));
    }

    #[test]
    fn erf_is_within_a_few_units_of_the_last_place() {
        for x in samples(-6.0, 6.0) {
            let want = libm::erf(x.into_f64());
            for got in both([Compute::erf::<false>, Compute::erf::<true>], x) {
                assert!((got - want).abs() < 5e-7, "erf({x}) = {got}, expected {want}");
            }
        }
    }
}
