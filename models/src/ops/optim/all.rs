//! Steps and averages of many tensors at once: on a GPU one launch for all of them, and nothing is
//! read back.

use candle_core::Tensor;

use super::super::{expect_shape, on_gpu};
use super::{AdamW, ClipFactor, Lamb, Sgd, adamw_scaled, blend, lamb, sgd};
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

/// Works in the thread pool from beginning to end: most tensors are too small to enter it for each of
/// them.
pub(super) fn in_pool<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    rayon::scope(|_| work())
}

fn check_shapes(t: &Stepped) -> Result<()> {
    let others = [("a gradient", t.grad), ("a first moment", t.kept[0]), ("a second moment", t.kept[1])];
    others
        .into_iter()
        .try_for_each(|(what, other)| expect_shape("optimizer step", what, other, t.param.dims()))
}

macro_rules! all {
    ($(#[$doc:meta])* $name:ident, $rule:ident, $one:expr) => {
        $(#[$doc])*
        ///
        /// `factor`, from [`clip_factor`](super::clip_factor), multiplies the gradients; 0 skips
        /// the step.
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
            let factor = factor.map_or(Ok(1.0), |f| f.read().map(|values| values.factor))?;
            if factor == 0.0 {
                return Ok(());
            }
            let one: fn(&Stepped, &$rule, f64) -> Result<()> = $one;
            tensors.iter().try_for_each(check_shapes)?;
            let step = |t| one(t, &$rule { lr: t.lr, weight_decay: t.weight_decay, ..*rule }, factor);
            in_pool(|| tensors.iter().try_for_each(step))
        }
    };
}

all!(
    /// One AdamW step of all tensors, with their own rates.
    adamw_all,
    AdamW,
    |t, rule, factor| adamw_scaled(t.param, t.grad, t.kept, rule, factor)
);
all!(
    /// One LAMB step of all tensors, with their own rates.
    lamb_all,
    Lamb,
    |t, rule, factor| lamb::scaled(t.param, t.grad, t.kept, rule, factor)
);
all!(
    /// One step of gradient descent of all tensors, with their own rates.
    sgd_all,
    Sgd,
    |t, rule, factor| sgd::scaled(t.param, t.grad, t.kept[0], rule, factor)
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
    in_pool(|| pairs.iter().try_for_each(|(target, value)| blend(target, value, decay)))
}
