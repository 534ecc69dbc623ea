//! Losses.

use candle_core::{DType, Tensor};

use super::cast::converted;
use super::kernels::attention::softmax;
use super::kernels::{Element, vectorised};
use super::view::{View, tensor};
use super::{Traced, by_dtype, dims, expect_shape, on_gpu};
use crate::{Error, Result};

/// Cross entropy with soft targets, averaged over the batch: `mean_n(-sum_k target[n, k] * log_softmax(logits[n])[k])`.
///
/// Hard labels are one-hot targets, label smoothing and mixup are soft ones. Targets get no gradient. Logits of `bf16`
/// are read as `f32`, and so is the loss.
///
/// # Shapes
/// `logits` and `targets`: `[N, classes]`; value: a scalar.
///
/// # Errors
/// When shapes differ or are empty, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Traced> {
    const OP: &str = "soft_cross_entropy";
    let [n, classes] = dims(OP, "logits [N, classes]", logits)?;
    expect_shape(OP, "targets", targets, &[n, classes])?;
    if n * classes == 0 {
        return Err(Error::shape(OP, "at least one sample and one class", logits.dims()));
    }
    on_gpu!(logits, super::cuda::soft_cross_entropy(logits, targets));
    let dtype = logits.dtype();
    let logits = if dtype == DType::BF16 { converted(logits, DType::F32)? } else { logits.contiguous()? };
    let targets = targets.to_dtype(logits.dtype())?.contiguous()?;
    by_dtype!("soft_cross_entropy", logits, T => {
        let loss = {
            let (lv, tv) = (View::new(OP, &logits)?, View::new(OP, &targets)?);
            let rows = lv.slice::<T>()?.chunks_exact(classes).zip(tv.slice::<T>()?.chunks_exact(classes));
            rows.map(|(x, t)| row_loss(x, t)).sum::<f64>() / n as f64
        };
        let value = tensor(vec![T::of(loss)], &[])?;
        Ok(Traced::new(value, move |dy, _| {
            let scale = T::of(dy.to_dtype(DType::F64)?.to_scalar::<f64>()? / n as f64);
            let (lv, tv) = (View::new(OP, &logits)?, View::new(OP, &targets)?);
            let mut grad = lv.slice::<T>()?.to_vec();
            let rows = grad.chunks_exact_mut(classes).zip(tv.slice::<T>()?.chunks_exact(classes));
            rows.for_each(|(x, t)| vectorised(#[inline(always)] || row_gradient(x, t, scale)));
            Ok(vec![Some(converted(&tensor(grad, &[n, classes])?, dtype)?), None])
        }))
    })
}

fn row_loss<T: Element>(logits: &[T], target: &[T]) -> f64 {
    let max = logits.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.wide()));
    let log_sum = max + logits.iter().map(|x| (x.wide() - max).exp()).sum::<f64>().ln();
    logits.iter().zip(target).map(|(x, t)| t.wide() * (log_sum - x.wide())).sum()
}

/// Turns logits into `scale * (softmax * sum(target) - target)`.
#[inline(always)]
fn row_gradient<T: Element>(logits: &mut [T], target: &[T], scale: T) {
    softmax(logits);
    let mass: T = target.iter().copied().sum();
    for (p, &t) in logits.iter_mut().zip(target) {
        *p = scale * (*p * mass - t);
    }
}
