//! Stochastic gradient descent with momentum.

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::by_dtype;
use super::super::kernels::{Compute, vectorized};
use super::super::view::{View, change, change_if_any};
use super::pieces::{Blend, PIECE, for_each_with_average};
use super::{Stepped, sgd_all};
use crate::Result;

const OP: &str = "sgd";

/// Numbers of one step of gradient descent, as in PyTorch: decay is added to the gradient, the
/// momentum buffer begins as the first gradient, and the learning rate multiplies what comes out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate.
    pub lr: f64,
    /// Factor of the momentum buffer; 0 for plain gradient descent.
    pub momentum: f64,
    /// Looks ahead: the gradient plus `momentum` times the buffer, in place of the buffer.
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
    /// Number of this step, counted from 1.
    pub step: u64,
}

/// Applies one step to `param` and its momentum buffer, in place. What the buffer holds before step
/// 1 does not matter.
///
/// # Errors
/// When shapes differ, or tensors are not contiguous `f32` or `f64` on the CPU.
pub fn sgd_step(param: &Tensor, grad: &Tensor, buffer: &Tensor, sgd: &Sgd) -> Result<()> {
    let kept = [buffer, buffer];
    let (lr, weight_decay) = (sgd.lr, sgd.weight_decay);
    sgd_all(&[Stepped { param, grad, kept, lr, weight_decay, average: None }], sgd, None)
}

/// Takes the step with `factor` times the gradient, on the CPU.
pub(super) fn step(t: &Stepped, sgd: &Sgd, factor: f64) -> Result<()> {
    let grad = t.grad.contiguous()?;
    by_dtype!("sgd", t.param, T => {
        let gv = View::new(OP, &grad)?;
        let rule = Rule::<T>::of(sgd, factor, Blend::of(t.average));
        let g = gv.slice::<T>()?;
        change::<T>(OP, t.param, |p| {
            change::<T>(OP, t.kept[0], |b| {
                change_if_any::<T>(OP, t.average.map(|average| average.tensor), |average| {
                    rule.apply(p, g, b, average);
                    Ok(())
                })
            })
        })
    })
}

/// Numbers of one step that are the same for all elements.
#[derive(Clone, Copy)]
struct Rule<T> {
    /// Factor of the gradient.
    factor: T,
    /// The buffer begins as the gradient.
    first: bool,
    momentum: T,
    lr: T,
    weight_decay: T,
    /// Shares of the gradient and of the buffer in the step.
    shares: (T, T),
    blend: Blend<T>,
}

impl<T: Compute> Rule<T> {
    fn of(sgd: &Sgd, factor: f64, blend: Blend<T>) -> Self {
        let momentum = T::of(sgd.momentum);
        Self {
            factor: T::of(factor),
            first: sgd.step <= 1,
            momentum,
            lr: T::of(sgd.lr),
            weight_decay: T::of(sgd.weight_decay),
            shares: if sgd.nesterov { (T::ONE, momentum) } else { (T::ZERO, T::ONE) },
            blend,
        }
    }

    fn apply(&self, p: &mut [T], g: &[T], buffer: &mut [T], average: &mut [T]) {
        let rule = *self;
        let pieces = g.par_chunks(PIECE).zip(buffer.par_chunks_mut(PIECE));
        for_each_with_average(p.par_chunks_mut(PIECE).zip(pieces), average, |(p, (g, b)), average| {
            vectorized(
                #[inline(always)]
                move || {
                    let Self { factor, first, momentum, lr, weight_decay, shares, blend } = rule;
                    for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
                        let g = g * factor + weight_decay * *p;
                        // Not 0 * *b: what was there may not be a number.
                        *b = if first { g } else { momentum * *b + g };
                        *p -= lr * (shares.0 * g + shares.1 * *b);
                    }
                    blend.update(average, p);
                },
            );
        });
    }
}
