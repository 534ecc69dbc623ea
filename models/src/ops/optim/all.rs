//! Steps and averages of many tensors at once: on a GPU one launch for all of them, and nothing is
//! read back.

use candle_core::Tensor;

use super::super::{on_gpu, scale_by};
use super::{AdamW, ClipFactor, Lamb, Sgd, adamw_step, blend, lamb_step, sgd_step};
use crate::Result;

/// A parameter, its gradient, and what the optimizer keeps for it.
#[derive(Clone, Copy, Debug)]
pub struct Stepped<'a> {
    /// The parameter, changed in place.
    pub param: &'a Tensor,
    /// Its gradient.
    pub grad: &'a Tensor,
    /// First and second moment, or twice the momentum buffer.
    pub kept: [&'a Tensor; 2],
    /// Learning rate of this parameter, in place of the rule's.
    pub lr: f64,
    /// Weight decay of this parameter, in place of the rule's.
    pub weight_decay: f64,
}

/// Multiplies gradients on the CPU with the factor; returns false if the step must be skipped.
fn apply(tensors: &[Stepped], factor: Option<&ClipFactor>) -> Result<bool> {
    let Some(factor) = factor else { return Ok(true) };
    let factor = factor.read()?.factor;
    if factor != 0.0 && factor != 1.0 {
        tensors.iter().try_for_each(|t| scale_by(t.grad, factor))?;
    }
    Ok(factor != 0.0)
}

macro_rules! all {
    ($(#[$doc:meta])* $name:ident, $rule:ident, $one:expr) => {
        $(#[$doc])*
        ///
        /// `factor`, from [`clip_factor`](super::clip_factor), multiplies the gradients (on the CPU
        /// in place); 0 skips the step.
        ///
        /// # Errors
        /// When shapes differ, or tensors are not contiguous `f32` on one device.
        pub fn $name(tensors: &[Stepped], rule: &$rule, factor: Option<&ClipFactor>) -> Result<()> {
            let Some(first) = tensors.first() else { return Ok(()) };
            let _ = first;
            on_gpu!(first.param, {
                let factor = factor.map(|f| f.on(first.param.device())).transpose()?;
                super::super::cuda::$name(tensors, rule, factor.as_ref())
            });
            if !apply(tensors, factor)? {
                return Ok(());
            }
            let one: fn(&Stepped, &$rule) -> Result<()> = $one;
            tensors.iter().try_for_each(|t| one(t, &$rule { lr: t.lr, weight_decay: t.weight_decay, ..*rule }))
        }
    };
}

all!(
    /// One AdamW step of all tensors, with their own rates.
    adamw_all,
    AdamW,
    |t, rule| adamw_step(t.param, t.grad, t.kept[0], t.kept[1], rule)
);
all!(
    /// One LAMB step of all tensors, with their own rates.
    lamb_all,
    Lamb,
    |t, rule| lamb_step(t.param, t.grad, t.kept[0], t.kept[1], rule)
);
all!(
    /// One step of gradient descent of all tensors, with their own rates.
    sgd_all,
    Sgd,
    |t, rule| sgd_step(t.param, t.grad, t.kept[0], rule)
);

/// `target = decay * target + (1 - decay) * value` for all pairs, in place; on a GPU nothing if
/// `factor`, from [`clip_factor`](super::clip_factor), is 0.
///
/// # Errors
/// Those of [`blend`].
pub fn blend_all(pairs: &[(&Tensor, &Tensor)], decay: f64, factor: Option<&ClipFactor>) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    let _ = (first, factor);
    on_gpu!(first, {
        let factor = factor.map(|f| f.on(first.device())).transpose()?;
        super::super::cuda::blend_all(pairs, decay, factor.as_ref())
    });
    pairs.iter().try_for_each(|(target, value)| blend(target, value, decay))
}
