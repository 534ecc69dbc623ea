//! Arithmetic of optimizers on one tensor at a time, in place.

mod all;
mod clip;
mod lamb;
mod sgd;

pub use all::{Stepped, adamw_all, blend_all, lamb_all, sgd_all};
pub use clip::{ClipFactor, ClipValues, NormLimits, clip_factor};
pub use lamb::{Lamb, lamb_step};
pub use sgd::{Sgd, sgd_step};

use candle_core::{CpuStorage, InplaceOp1, Layout, Tensor};
use rayon::prelude::*;

use super::kernels::{Compute, rows, vectorized};
use super::view::{View, change};
use super::{by_dtype, expect_shape, on_gpu};
use crate::Result;

/// Numbers of one AdamW step (Loshchilov & Hutter, 2019), as in PyTorch: decoupled decay first,
/// then the bias-corrected update with `eps` added after the square root.
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
    let kept = [exp_avg, exp_avg_sq];
    adamw_all(&[Stepped { param, grad, kept, lr: a.lr, weight_decay: a.weight_decay }], a, None)
}

/// Takes the step with `factor` times the gradient, on the CPU.
fn adamw_scaled(
    param: &Tensor,
    grad: &Tensor,
    [exp_avg, exp_avg_sq]: [&Tensor; 2],
    a: &AdamW,
    factor: f64,
) -> Result<()> {
    const OP: &str = "adamw";
    let grad = grad.contiguous()?;
    by_dtype!("adamw", param, T => {
        let gv = View::new(OP, &grad)?;
        let g = gv.slice::<T>()?;
        let step = Numbers::<T>::of(a, factor);
        // All three change in one pass over memory.
        change::<T>(OP, param, |p| {
            change::<T>(OP, exp_avg, |m| {
                change::<T>(OP, exp_avg_sq, |v| {
                    step.apply(p, g, m, v);
                    Ok(())
                })
            })
        })
    })
}

/// Numbers of one step that are the same for all elements. Loops over elements take a copy: numbers
/// behind a reference would be read again for each of them.
#[derive(Clone, Copy)]
struct Numbers<T> {
    /// Factor of the gradient.
    factor: T,
    /// Share of the new gradient in each moment.
    fresh: (T, T),
    /// Share of the old second moment.
    old: T,
    step_size: T,
    /// Square root of the second moment's bias correction.
    root: T,
    /// Factor of the parameter under weight decay.
    keep: T,
    eps: T,
}

impl<T: Compute> Numbers<T> {
    fn of(a: &AdamW, factor: f64) -> Self {
        let step = i32::try_from(a.step).unwrap_or(i32::MAX);
        let (b1, b2) = (T::of(a.beta1), T::of(a.beta2));
        Self {
            factor: T::of(factor),
            fresh: (T::ONE - b1, T::ONE - b2),
            old: b2,
            step_size: T::of(a.lr / (1.0 - a.beta1.powi(step))),
            root: T::of((1.0 - a.beta2.powi(step)).sqrt()),
            keep: T::of(1.0 - a.lr * a.weight_decay),
            eps: T::of(a.eps),
        }
    }

    fn apply(&self, p: &mut [T], g: &[T], m: &mut [T], v: &mut [T]) {
        const CHUNK: usize = 1 << 14;
        let numbers = *self;
        let moments = m.par_chunks_mut(CHUNK).zip(v.par_chunks_mut(CHUNK));
        p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).zip(moments).for_each(|((p, g), (m, v))| {
            vectorized(
                #[inline(always)]
                move || {
                    let Self { factor, fresh, old, step_size, root, keep, eps } = numbers;
                    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                        let g = g * factor;
                        *m += (g - *m) * fresh.0;
                        *v = *v * old + g * g * fresh.1;
                        *p = *p * keep - step_size * *m / (v.sqrt() / root + eps);
                    }
                },
            );
        });
    }
}

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
