//! Stochastic gradient descent with momentum.

use candle_core::Tensor;
use rayon::prelude::*;

use super::super::by_dtype;
use super::super::kernels::{Compute, vectorized};
use super::super::view::{View, change};
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
    sgd_all(&[Stepped { param, grad, kept, lr: sgd.lr, weight_decay: sgd.weight_decay }], sgd, None)
}

/// Takes the step with `factor` times the gradient, on the CPU.
pub(super) fn scaled(param: &Tensor, grad: &Tensor, buffer: &Tensor, sgd: &Sgd, factor: f64) -> Result<()> {
    let grad = grad.contiguous()?;
    by_dtype!("sgd", param, T => {
        let gv = View::new(OP, &grad)?;
        let g = gv.slice::<T>()?;
        change::<T>(OP, param, |p| {
            change::<T>(OP, buffer, |b| {
                apply(p, g, b, sgd, T::of(factor));
                Ok(())
            })
        })
    })
}

fn apply<T: Compute>(p: &mut [T], g: &[T], buffer: &mut [T], sgd: &Sgd, factor: T) {
    const CHUNK: usize = 1 << 14;
    let (first, kept) = (sgd.step <= 1, T::of(sgd.momentum));
    let (lr, decay) = (T::of(sgd.lr), T::of(sgd.weight_decay));
    let ahead = if sgd.nesterov { T::of(sgd.momentum) } else { T::ONE };
    let direct = if sgd.nesterov { T::ONE } else { T::ZERO };
    let pieces = g.par_chunks(CHUNK).zip(buffer.par_chunks_mut(CHUNK));
    p.par_chunks_mut(CHUNK).zip(pieces).for_each(|(p, (g, b))| {
        vectorized(
            #[inline(always)]
            move || {
                for ((p, &g), b) in p.iter_mut().zip(g).zip(b) {
                    let g = g * factor + decay * *p;
                    // Not 0 * *b: what was there may not be a number.
                    *b = if first { g } else { kept * *b + g };
                    *p -= lr * (direct * g + ahead * *b);
                }
            },
        );
    });
}
