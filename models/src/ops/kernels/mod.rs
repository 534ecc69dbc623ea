//! CPU kernels over plain slices, row-major, that compute in `f32` or `f64`; activations may be
//! stored as `bf16`.
//!
//! Images are channels-last (`[N, H, W, C]`), so that a convolution, a linear layer and every norm
//! is an operation on rows of channels. Work is split into blocks whose size depends on the shapes
//! alone, never on the number of threads, and partial sums are added in block order: a result is
//! bitwise the same on one thread or on sixteen.

pub(crate) mod attention;
pub(crate) mod compute;
pub(crate) mod conv;
pub(crate) mod depthwise;
pub(crate) mod gemm;
mod lanes;
pub(crate) mod norm;
pub(crate) mod parallel;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod rows;
pub(crate) mod transpose;
mod winograd;

pub(crate) use compute::{Compute, Storage};

/// Runs a loop compiled for the best instruction set of this machine (AVX2, AVX-512, ...), chosen
/// at run time.
///
/// The loop must be a `for` loop: closures of `for_each` or `from_fn` may be compiled as separate
/// functions, for the baseline instruction set.
#[inline(always)]
pub(crate) fn vectorized<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// A loop that is told if the machine multiplies and adds in one instruction (`FUSED`): the compiler does
/// not choose that by itself, since it rounds once instead of twice, and without the instruction it is a
/// slow call.
pub(crate) trait FusedLoop {
    type Output;
    fn run<const FUSED: bool>(self) -> Self::Output;
}

/// Runs a loop like [`vectorized`].
#[inline(always)]
pub(crate) fn vectorized_fused<L: FusedLoop>(work: L) -> L::Output {
    struct Run<L>(L);
    impl<L: FusedLoop> pulp::WithSimd for Run<L> {
        type Output = L::Output;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> L::Output {
            // All instruction sets with vectors that are chosen at run time have it.
            if S::F32_LANES > 1 { self.0.run::<true>() } else { self.0.run::<false>() }
        }
    }
    pulp::Arch::new().dispatch(Run(work))
}

/// Returns how many `f32` numbers kernels process at a time with the instruction set of this
/// machine: 16 with AVX-512, 8 with AVX2, 4 with NEON, 1 without any.
pub fn vector_lanes() -> usize {
    struct Ask;
    impl pulp::WithSimd for Ask {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    pulp::Arch::new().dispatch(Ask)
}
