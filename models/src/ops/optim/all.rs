//! Steps and averages of many tensors at once: on a GPU one launch for all of them, and nothing is read back.

use candle_core::{DType, Device, Tensor};

use super::super::{on_gpu, scale_by};
use super::{AdamW, Lamb, Sgd, adamw_step, blend, lamb_step, sgd_step, squared_norm};
use crate::{Error, Result};

/// A parameter, its gradient, and what the optimiser keeps for it.
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

/// Norm of all gradients together, and the factor that clips it: `[norm, factor]`, `[2]` in `f32`, on their device.
///
/// `limit` clips the norm as PyTorch's `clip_grad_norm_`; `own_limit` divides what is left by its norm over this, if
/// above it (LAMB). Gradients are `1 / unscale` times too large (loss scaling), and the factor undoes that. The factor is
/// zero, and steps that get it change nothing, where the norm or `loss` is not finite.
///
/// # Errors
/// When there are no gradients, or they are not `f32`.
pub fn clip_factor(
    grads: &[&Tensor],
    loss: Option<&Tensor>,
    unscale: f64,
    limit: Option<f64>,
    own_limit: Option<f64>,
) -> Result<Tensor> {
    let Some(first) = grads.first() else { return Err(Error::shape("clip", "at least one gradient", &[])) };
    on_gpu!(first, super::super::cuda::clip_factor(grads, loss, unscale, [limit, own_limit]));
    let squares = grads.iter().map(|g| squared_norm(g)).collect::<Result<Vec<_>>>()?;
    let norm = squares.into_iter().sum::<f64>().sqrt() * unscale;
    let loss = loss.map(|l| Ok::<_, Error>(l.to_dtype(DType::F64)?.to_scalar::<f64>()?)).transpose()?;
    let mut factor = limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0));
    factor /= own_limit.map_or(1.0, |own| (factor * norm / own).max(1.0));
    let good = norm.is_finite() && loss.is_none_or(f64::is_finite);
    let factor = if good { factor * unscale } else { 0.0 };
    Ok(Tensor::new(&[norm as f32, factor as f32], first.device())?)
}

/// Multiplies gradients on the CPU with what [`clip_factor`] gave; false where the step must not be taken.
fn apply(tensors: &[Stepped], factor: Option<&Tensor>) -> Result<bool> {
    let Some(factor) = factor else { return Ok(true) };
    let factor = f64::from(factor.to_device(&Device::Cpu)?.to_vec1::<f32>()?[1]);
    if factor != 0.0 && factor != 1.0 {
        tensors.iter().try_for_each(|t| scale_by(t.grad, factor))?;
    }
    Ok(factor != 0.0)
}

macro_rules! all {
    ($(#[$doc:meta])* $name:ident, $rule:ident, $one:expr) => {
        $(#[$doc])*
        ///
        /// `factor`, from [`clip_factor`], multiplies the gradients (on the CPU in place); zero skips the step.
        ///
        /// # Errors
        /// When shapes differ, or tensors are not contiguous `f32` on one device.
        pub fn $name(tensors: &[Stepped], rule: &$rule, factor: Option<&Tensor>) -> Result<()> {
            let Some(first) = tensors.first() else { return Ok(()) };
            let _ = first;
            on_gpu!(first.param, super::super::cuda::$name(tensors, rule, factor));
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

/// `target = decay * target + (1 - decay) * value` for all pairs, in place; on a GPU nothing where `factor`, from
/// [`clip_factor`], says that the step was bad.
///
/// # Errors
/// As [`blend`].
pub fn blend_all(pairs: &[(&Tensor, &Tensor)], decay: f64, factor: Option<&Tensor>) -> Result<()> {
    let Some((first, _)) = pairs.first() else { return Ok(()) };
    let _ = (first, factor);
    on_gpu!(first, super::super::cuda::blend_all(pairs, decay, factor));
    pairs.iter().try_for_each(|(target, value)| blend(target, value, decay))
}
