//! Arithmetic of optimizers on one tensor at a time, in place.

mod adamw;
mod all;
mod clip;
mod lamb;
mod pieces;
mod sgd;

pub use adamw::{AdamW, adamw_step};
pub use all::{Average, Stepped, adamw_all, blend_all, lamb_all, sgd_all};
pub use clip::{ClipFactor, ClipValues, NormLimits, clip_factor};
pub use lamb::{Lamb, lamb_step};
pub use sgd::{Sgd, sgd_step};

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;

use super::kernels::{Compute, rows, vectorized};
use super::view::{View, change};
use super::{by_dtype, expect_shape, on_gpu};
use crate::Result;

/// `target = decay * target + (1 - decay) * value`, in place: the update of exponential moving
/// averages.
///
/// # Errors
/// When shapes differ, or tensors are not contiguous `f32` or `f64` on the CPU.
pub fn blend(target: &Tensor, value: &Tensor, decay: f64) -> Result<()> {
    expect_shape("blend", "a value", value, target.dims())?;
    on_gpu!(target, super::cuda::blend(target, value, decay, 1.0 - decay));
    let value = value.contiguous()?;
    by_dtype!("blend", target, T => {
        let view = View::new("blend", &value)?;
        let (value, d, rest) = (view.slice::<T>()?, T::of(decay), T::of(1.0 - decay));
        change::<T>("blend", target, |t| {
            rows::update(t, value, #[inline(always)] move |t, v| d * t + rest * v);
            Ok(())
        })
    })
}

/// Adds one to an `i64` counter, in place.
///
/// # Errors
/// When `counter` is not an `i64` on the CPU.
pub fn increment(counter: &Tensor) -> Result<()> {
    on_gpu!(counter, super::cuda::increment(counter));
    Ok(counter.inplace_op1(&Increment)?)
}

struct Increment;

impl InplaceOp1 for Increment {
    fn name(&self) -> &'static str {
        "increment"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let CpuStorage::I64(data) = storage else { candle_core::bail!("increment: expected an i64 counter") };
        data[layout.start_offset()] += 1;
        Ok(())
    }
}

/// Sum of squares of all elements, in double precision and in a fixed order.
///
/// # Errors
/// When `t` is not `f32` or `f64` on the CPU.
pub fn squared_norm(t: &Tensor) -> Result<f64> {
    on_gpu!(t, super::cuda::squared_norm(t));
    let t = t.contiguous()?;
    by_dtype!("squared_norm", t, T => {
        let view = View::new("squared_norm", &t)?;
        let parts: Vec<f64> = view.slice::<T>()?.par_chunks(1 << 15).map(sum_of_squares).collect();
        Ok(parts.into_iter().sum())
    })
}

/// In lanes, and then over them: the order is the same on every machine.
fn sum_of_squares<T: Compute>(x: &[T]) -> f64 {
    const LANES: usize = 16;
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0; LANES];
            let (whole, rest) = x.as_chunks::<LANES>();
            for x in whole {
                for (sum, x) in sums.iter_mut().zip(x) {
                    *sum += x.into_f64() * x.into_f64();
                }
            }
            for (sum, x) in sums.iter_mut().zip(rest) {
                *sum += x.into_f64() * x.into_f64();
            }
            sums.iter().sum()
        },
    )
}
