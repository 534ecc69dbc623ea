//! Arithmetic of optimisers on one tensor at a time, in place.

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;

use super::kernels::{Element, rows, vectorised};
use super::view::{View, change};
use super::{by_dtype, expect_shape};
use crate::Result;

/// Numbers of one AdamW step (Loshchilov & Hutter, 2019), as in PyTorch: decoupled decay first, then the
/// bias-corrected update with `eps` added after the square root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Learning rate.
    pub lr: f64,
    /// Decay rate of the mean of gradients.
    pub beta1: f64,
    /// Decay rate of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Decoupled weight decay, per unit of learning rate.
    pub weight_decay: f64,
    /// Number of this step, counted from 1.
    pub step: u64,
}

/// Applies one step to `param` and its two moments, in place.
///
/// # Errors
/// When shapes differ, or tensors are not contiguous `f32` or `f64` on the CPU.
pub fn adamw_step(
    param: &Tensor,
    grad: &Tensor,
    exp_avg: &Tensor,
    exp_avg_sq: &Tensor,
    a: &AdamW,
) -> Result<()> {
    const OP: &str = "adamw";
    for (what, t) in [("a gradient", grad), ("a first moment", exp_avg), ("a second moment", exp_avg_sq)] {
        expect_shape(OP, what, t, param.dims())?;
    }
    let grad = grad.contiguous()?;
    by_dtype!("adamw", param, T => {
        let gv = View::new(OP, &grad)?;
        let g = gv.slice::<T>()?;
        let (b1, b2) = (T::of(a.beta1), T::of(a.beta2));
        change::<T>(OP, exp_avg, |m| rows::update(m, g, |m, g| m + (g - m) * (T::ONE - b1)))?;
        change::<T>(OP, exp_avg_sq, |v| rows::update(v, g, |v, g| v * b2 + g * g * (T::ONE - b2)))?;
        let (mv, vv) = (View::new(OP, exp_avg)?, View::new(OP, exp_avg_sq)?);
        let (m, v) = (mv.slice::<T>()?, vv.slice::<T>()?);
        let step = i32::try_from(a.step).unwrap_or(i32::MAX);
        let step_size = T::of(a.lr / (1.0 - a.beta1.powi(step)));
        let root = T::of((1.0 - a.beta2.powi(step)).sqrt());
        let (keep, eps) = (T::of(1.0 - a.lr * a.weight_decay), T::of(a.eps));
        change::<T>(OP, param, |p| {
            p.par_chunks_mut(1 << 15).zip(m.par_chunks(1 << 15)).zip(v.par_chunks(1 << 15)).for_each(|((p, m), v)| {
                vectorised(|| {
                    for ((p, &m), &v) in p.iter_mut().zip(m).zip(v) {
                        *p = *p * keep - step_size * m / (v.sqrt() / root + eps);
                    }
                });
            });
        })
    })
}

/// `target = decay * target + (1 - decay) * value`, in place: the update of exponential moving averages.
///
/// # Errors
/// When shapes differ, or tensors are not contiguous `f32` or `f64` on the CPU.
pub fn blend(target: &Tensor, value: &Tensor, decay: f64) -> Result<()> {
    expect_shape("blend", "a value", value, target.dims())?;
    let value = value.contiguous()?;
    by_dtype!("blend", target, T => {
        let view = View::new("blend", &value)?;
        let (value, d, rest) = (view.slice::<T>()?, T::of(decay), T::of(1.0 - decay));
        change::<T>("blend", target, |t| rows::update(t, value, |t, v| d * t + rest * v))
    })
}

/// Adds one to an `i64` counter, in place.
///
/// # Errors
/// When `counter` is not an `i64` on the CPU.
pub fn increment(counter: &Tensor) -> Result<()> {
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
    let t = t.contiguous()?;
    by_dtype!("squared_norm", t, T => {
        let view = View::new("squared_norm", &t)?;
        let parts: Vec<f64> = view.slice::<T>()?.par_chunks(1 << 15).map(sum_of_squares).collect();
        Ok(parts.into_iter().sum())
    })
}

fn sum_of_squares<T: Element>(x: &[T]) -> f64 {
    x.iter().map(|x| x.wide() * x.wide()).sum()
}
