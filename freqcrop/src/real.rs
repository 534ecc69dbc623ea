//! The number types, and their vector operations for the kernel.

use pulp::Simd;
use realfft::FftNum;

use crate::Result;
use crate::layout::{ChannelLayout, Layout};
use crate::plan::{Backend, Plan};
use crate::scratch::Scratch;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// Number type of the arithmetic: `f32` or `f64`.
///
/// Sealed: the kernels exist for these two types only.
pub trait Real: FftNum + Lanes + Default + PartialOrd + sealed::Sealed {
    /// Returns the nearest value of this type.
    fn of(value: f64) -> Self;
    /// Returns true for a value that is neither NaN nor infinite.
    fn finite(self) -> bool;

    // These two call all kernels and transforms. They are not generic functions, so that the
    // kernels are compiled with this crate, once per number type, and not again in every crate that
    // crops an image.

    #[doc(hidden)]
    fn plan(from: (usize, usize), band: (usize, usize), shrink: bool, backend: Backend)
    -> Result<Plan<Self>>;
    #[doc(hidden)]
    fn run(
        plan: &Plan<Self>,
        image: (Layout, usize),
        input: &[Self],
        output: &mut [Self],
        scratch: &mut Scratch<Self>,
    ) -> bool;
}

/// Vectors of this number type on the instruction set `S`.
#[doc(hidden)]
pub trait Lanes: Copy {
    type Vector<S: Simd>: Copy;
    fn splat<S: Simd>(simd: S, value: Self) -> Self::Vector<S>;
    fn mul_add<S: Simd>(
        simd: S,
        a: Self::Vector<S>,
        b: Self::Vector<S>,
        c: Self::Vector<S>,
    ) -> Self::Vector<S>;
    fn vectors<S: Simd>(values: &[Self]) -> &[Self::Vector<S>];
    fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [Self::Vector<S>];
    fn lanes<S: Simd>() -> usize;
}

macro_rules! real {
    ($t:ty, $vector:ident, $splat:ident, $mul_add:ident, $as_simd:ident, $as_mut_simd:ident, $lanes:ident) => {
        impl Real for $t {
            #[allow(clippy::cast_possible_truncation)]
            fn of(value: f64) -> Self {
                value as $t
            }
            fn finite(self) -> bool {
                self.is_finite()
            }
            fn plan(
                from: (usize, usize),
                band: (usize, usize),
                shrink: bool,
                backend: Backend,
            ) -> Result<Plan<Self>> {
                Plan::assemble(from, band, shrink, backend)
            }
            fn run(
                plan: &Plan<Self>,
                (layout, channels): (Layout, usize),
                input: &[Self],
                output: &mut [Self],
                scratch: &mut Scratch<Self>,
            ) -> bool {
                plan.run_layout(ChannelLayout { layout, channels }, input, output, scratch)
            }
        }
        impl Lanes for $t {
            type Vector<S: Simd> = S::$vector;
            #[inline(always)]
            fn splat<S: Simd>(simd: S, value: Self) -> S::$vector {
                simd.$splat(value)
            }
            #[inline(always)]
            fn mul_add<S: Simd>(simd: S, a: S::$vector, b: S::$vector, c: S::$vector) -> S::$vector {
                // The "_e" form may round once or twice, so it never falls back to a slow software
                // fma.
                simd.$mul_add(a, b, c)
            }
            #[inline(always)]
            fn vectors<S: Simd>(values: &[Self]) -> &[S::$vector] {
                S::$as_simd(values).0
            }
            #[inline(always)]
            fn vectors_mut<S: Simd>(values: &mut [Self]) -> &mut [S::$vector] {
                S::$as_mut_simd(values).0
            }
            #[inline(always)]
            fn lanes<S: Simd>() -> usize {
                S::$lanes
            }
        }
    };
}

real!(f32, f32s, splat_f32s, mul_add_e_f32s, as_simd_f32s, as_mut_simd_f32s, F32_LANES);
real!(f64, f64s, splat_f64s, mul_add_e_f64s, as_simd_f64s, as_mut_simd_f64s, F64_LANES);

/// A stored pixel value that can be read as a `T`.
pub(crate) trait Sample<T>: Copy + Send + Sync {
    fn get(self) -> T;
    /// Returns a value near the middle of all `values`.
    fn center(values: &[Self]) -> T;
}

impl<T: Real> Sample<T> for T {
    #[inline(always)]
    fn get(self) -> T {
        self
    }

    fn center(values: &[T]) -> T {
        // A few dozen samples are enough: the exact value does not matter.
        let step = (values.len() / 61).max(1);
        let samples = values.iter().step_by(step);
        let weight = T::of(1.0 / samples.len() as f64);
        samples.fold(T::zero(), |sum, &value| sum + value * weight)
    }
}

impl Sample<f32> for u8 {
    #[inline(always)]
    fn get(self) -> f32 {
        f32::from(self)
    }

    fn center(_: &[u8]) -> f32 {
        128.0
    }
}
