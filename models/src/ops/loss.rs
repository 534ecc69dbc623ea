//! Losses.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::activation::sigmoid;
use super::cast::converted;
use super::kernels::attention::softmax;
use super::kernels::{Compute, rows, vectorized};
use super::view::{View, tensor};
use super::{Traced, by_dtype, dims, expect_shape, on_gpu};
use crate::{Error, Result};

/// Cross entropy with soft targets, averaged over the batch: `mean_n(-sum_k target[n, k] *
/// log_softmax(logits[n])[k])`.
///
/// Hard labels are one-hot targets, label smoothing and mixup are soft ones. Targets get no
/// gradient. Logits of `bf16` are read as `f32`, and so is the loss.
///
/// # Shapes
/// `logits` and `targets`: `[N, classes]`; value: a scalar.
///
/// # Errors
/// When shapes differ or are empty, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Traced> {
    const OP: &str = "soft_cross_entropy";
    let [n, classes] = same_shape(OP, logits, targets)?;
    on_gpu!(logits, super::cuda::soft_cross_entropy(logits, targets));
    let (dtype, [logits, targets]) = (logits.dtype(), readable(logits, targets)?);
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
            rows.for_each(|(x, t)| vectorized(#[inline(always)] || row_gradient(x, t, scale)));
            Ok(vec![Some(converted(&tensor(grad, &[n, classes])?, dtype)?), None])
        }))
    })
}

fn row_loss<T: Compute>(logits: &[T], target: &[T]) -> f64 {
    let max = logits.iter().fold(f64::NEG_INFINITY, |m, x| m.max(x.into_f64()));
    let log_sum = max + logits.iter().map(|x| (x.into_f64() - max).exp()).sum::<f64>().ln();
    logits.iter().zip(target).map(|(x, t)| t.into_f64() * (log_sum - x.into_f64())).sum()
}

/// Turns logits into `scale * (softmax * sum(target) - target)`.
#[inline(always)]
fn row_gradient<T: Compute>(logits: &mut [T], target: &[T], scale: T) {
    softmax::<T, false>(logits);
    let mass: T = target.iter().copied().sum();
    for (p, &t) in logits.iter_mut().zip(target) {
        *p = scale * (*p * mass - t);
    }
}

/// Each class on its own against all others, averaged over images and classes:
/// `mean(max(x, 0) - x * t + ln(1 + exp(-|x|)))`, PyTorch's `binary_cross_entropy_with_logits`.
///
/// Targets get no gradient. Logits of `bf16` are read as `f32`, and so is the loss.
///
/// # Shapes
/// `logits` and `targets`: `[N, classes]`; value: a scalar.
///
/// # Errors
/// When shapes differ or are empty, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Traced> {
    const OP: &str = "binary_cross_entropy";
    let [n, classes] = same_shape(OP, logits, targets)?;
    on_gpu!(logits, super::cuda::binary_cross_entropy(logits, targets));
    let (dtype, [logits, targets]) = (logits.dtype(), readable(logits, targets)?);
    let count = (n * classes) as f64;
    by_dtype!("binary_cross_entropy", logits, T => {
        let loss = {
            let (lv, tv) = (View::new(OP, &logits)?, View::new(OP, &targets)?);
            let rows = lv.slice::<T>()?.par_chunks_exact(classes).zip(tv.slice::<T>()?.par_chunks_exact(classes));
            // One number a row, summed in order: the same on any number of threads.
            rows.map(|(x, t)| binary_row_loss(x, t)).collect::<Vec<f64>>().iter().sum::<f64>() / count
        };
        let value = tensor(vec![T::of(loss)], &[])?;
        Ok(Traced::new(value, move |dy, _| {
            let scale = T::of(dy.to_dtype(DType::F64)?.to_scalar::<f64>()? / count);
            let (lv, tv) = (View::new(OP, &logits)?, View::new(OP, &targets)?);
            let grad = rows::zip(lv.slice::<T>()?, tv.slice::<T>()?, #[inline(always)] move |x, t| scale * (sigmoid::<T, false>(x) - t));
            Ok(vec![Some(converted(&tensor(grad, &[n, classes])?, dtype)?), None])
        }))
    })
}

fn binary_row_loss<T: Compute>(logits: &[T], target: &[T]) -> f64 {
    let term = |x: f64, t: f64| x.max(0.0) - x * t + (-x.abs()).exp().ln_1p();
    logits.iter().zip(target).map(|(x, t)| term(x.into_f64(), t.into_f64())).sum()
}

/// 1 if a number is above `threshold`, 0 elsewhere, in the type of `x`; no gradient goes
/// through. Any shape.
///
/// # Errors
/// When `x` is not `f32` or `f64` on the CPU, or not `f32` on a GPU.
pub fn above(x: &Tensor, threshold: f64) -> Result<Tensor> {
    const OP: &str = "above";
    on_gpu!(x, super::cuda::above(x, threshold));
    let x = x.contiguous()?;
    by_dtype!("above", x, T => {
        let threshold = T::of(threshold);
        let flag = move |x| if x > threshold { T::ONE } else { T::ZERO };
        tensor(rows::map(View::new(OP, &x)?.slice::<T>()?, flag), x.dims())
    })
}

/// Checks that there is a target for every logit, and at least one logit.
fn same_shape(op: &'static str, logits: &Tensor, targets: &Tensor) -> Result<[usize; 2]> {
    let [n, classes] = dims(op, "logits [N, classes]", logits)?;
    expect_shape(op, "targets", targets, &[n, classes])?;
    if n * classes == 0 {
        return Err(Error::shape(op, "at least one sample and one class", logits.dims()));
    }
    Ok([n, classes])
}

/// Logits and targets as they are read on the CPU: without gaps, in one type, which is `f32` for
/// logits of `bf16`.
fn readable(logits: &Tensor, targets: &Tensor) -> Result<[Tensor; 2]> {
    let logits =
        if logits.dtype() == DType::BF16 { converted(logits, DType::F32)? } else { logits.contiguous()? };
    let targets = targets.to_dtype(logits.dtype())?.contiguous()?;
    Ok([logits, targets])
}
