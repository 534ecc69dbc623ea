//! AdamW: Adam with decoupled weight decay.

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::by_dtype;
use super::super::kernels::{Compute, vectorized};
use super::pieces::{Blend, PIECE, Slices, change_all, for_each_with_average};
use super::{Stepped, adamw_all};
use crate::Result;

const OP: &str = "adamw";

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
    let (lr, weight_decay) = (a.lr, a.weight_decay);
    adamw_all(&[Stepped { param, grad, kept, lr, weight_decay, average: None }], a, None)
}

/// Takes the step with `factor` times the gradient, on the CPU.
pub(super) fn step(t: &Stepped, a: &AdamW, factor: f64) -> Result<()> {
    by_dtype!("adamw", t.param, T => {
        let step = Numbers::<T>::of(a, factor, Blend::of(t.average));
        change_all(OP, t, |slices| step.apply(slices))
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
    blend: Blend<T>,
}

impl<T: Compute> Numbers<T> {
    fn of(a: &AdamW, factor: f64, blend: Blend<T>) -> Self {
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
            blend,
        }
    }

    fn apply(&self, Slices { p, g, m, v, average }: Slices<T>) {
        let numbers = *self;
        let moments = m.par_chunks_mut(PIECE).zip(v.par_chunks_mut(PIECE));
        let pieces = p.par_chunks_mut(PIECE).zip(g.par_chunks(PIECE)).zip(moments);
        for_each_with_average(pieces, average, |((p, g), (m, v)), average| {
            vectorized(
                #[inline(always)]
                move || {
                    let Self { factor, fresh, old, step_size, root, keep, eps, blend } = numbers;
                    for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
                        let g = g * factor;
                        *m += (g - *m) * fresh.0;
                        *v = *v * old + g * g * fresh.1;
                        *p = *p * keep - step_size * *m / (v.sqrt() / root + eps);
                    }
                    blend.update(average, p);
                },
            );
        });
    }
}
