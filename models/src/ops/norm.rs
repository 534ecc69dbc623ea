//! Batch norm and layer norm.

use candle_core::Tensor;

use super::kernels::norm::{self, After};
use super::kernels::{Element, rows};
use super::view::{View, tensor};
use super::{Traced, by_dtype, expect_shape};
use crate::{Error, Result};

/// Per-channel statistics of the rows that a batch norm saw.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// Mean of each channel.
    pub mean: Vec<f64>,
    /// Biased variance of each channel (divided by the number of rows).
    pub variance: Vec<f64>,
    /// Number of rows they were taken over, `N * H * W`; 0 for running statistics, which have none.
    pub count: usize,
}

impl BatchStatistics {
    /// The statistics of `x` of shape `[..., C]` over all but the last dimension.
    ///
    /// # Errors
    /// When `x` is empty, or not `f32` or `f64` on the CPU.
    pub fn of(x: &Tensor) -> Result<Self> {
        let c = x.dims().last().copied().unwrap_or(0);
        if x.elem_count() == 0 {
            return Err(Error::shape("batch_norm", "at least one row of channels", x.dims()));
        }
        let x = x.contiguous()?;
        let (mean, variance) = by_dtype!("batch_norm", x, T => {
            Ok(norm::channel_statistics(View::new("batch_norm", &x)?.slice::<T>()?, c))
        })?;
        Ok(Self { mean, variance, count: x.elem_count() / c })
    }
}

/// Batch norm over the last dimension, then the sum with `residual` and a rectifier where asked for, in one pass.
///
/// `statistics` decides the mode: those of the batch itself ([`BatchStatistics::of`]) with `from_batch` set for
/// training, or running ones with `from_batch` unset for evaluation. They differ in the gradient.
///
/// # Shapes
/// - `x` and `residual`: `[..., C]`
/// - `weight`, `bias`: `[C]`
/// - value: as `x`
///
/// The pullback gives `[x, weight, bias]`, or `[x, weight, bias, residual]`.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32` or `f64` on the CPU.
#[allow(clippy::too_many_arguments)]
pub fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    statistics: &BatchStatistics,
    from_batch: bool,
    eps: f64,
) -> Result<Traced> {
    const OP: &str = "batch_norm";
    let c = statistics.mean.len();
    if x.dims().last() != Some(&c) {
        return Err(Error::shape(OP, format!("an input [..., {c}]"), x.dims()));
    }
    expect_shape(OP, "a weight", weight, &[c])?;
    expect_shape(OP, "a bias", bias, &[c])?;
    if let Some(residual) = residual {
        expect_shape(OP, "a residual", residual, x.dims())?;
    }
    let (x, weight, bias) = (x.contiguous()?, weight.contiguous()?, bias.contiguous()?);
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let mean = statistics.mean.clone();
    let inv_std: Vec<f64> = statistics.variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    by_dtype!("batch_norm", x, T => {
        let value = forward::<T>(&x, &weight, &bias, residual.as_ref(), relu, (&mean, &inv_std))?;
        let saved = Saved { x, weight, mean, inv_std, from_batch, residual: residual.is_some() };
        let output = relu.then(|| value.clone());
        Ok(Traced::new(value, move |dy, _| backward::<T>(&saved, output.as_ref(), dy)))
    })
}

/// What the backward pass of a batch norm needs.
struct Saved {
    x: Tensor,
    weight: Tensor,
    mean: Vec<f64>,
    inv_std: Vec<f64>,
    from_batch: bool,
    residual: bool,
}

fn forward<T: Element>(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    residual: Option<&Tensor>,
    relu: bool,
    (mean, inv_std): (&[f64], &[f64]),
) -> Result<Tensor> {
    const OP: &str = "batch_norm";
    let (xv, wv, bv) = (View::new(OP, x)?, View::new(OP, weight)?, View::new(OP, bias)?);
    let residual = residual.map(|r| View::new(OP, r)).transpose()?;
    let residual = residual.as_ref().map(View::slice::<T>).transpose()?;
    let (scale, shift) = norm::affine::<T>(mean, inv_std, wv.slice()?, bv.slice()?);
    tensor(norm::scale_shift(xv.slice()?, &scale, &shift, After { residual, relu }), x.dims())
}

fn backward<T: Element>(s: &Saved, output: Option<&Tensor>, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
    const OP: &str = "batch_norm";
    let mut dy = dy.contiguous()?;
    if let Some(output) = output {
        let gated = {
            let (yv, dyv) = (View::new(OP, output)?, View::new(OP, &dy)?);
            rows::zip(yv.slice::<T>()?, dyv.slice::<T>()?, |y, g| if y > T::ZERO { g } else { T::ZERO })
        };
        dy = tensor(gated, dy.dims())?;
    }
    let (xv, wv, dyv) = (View::new(OP, &s.x)?, View::new(OP, &s.weight)?, View::new(OP, &dy)?);
    let (dx, dw, db) = norm::batch_norm_backward::<T>(
        xv.slice()?,
        dyv.slice()?,
        wv.slice()?,
        (&s.mean, &s.inv_std),
        s.from_batch,
    );
    let c = [dw.len()];
    let mut grads = vec![Some(tensor(dx, s.x.dims())?), Some(tensor(dw, &c)?), Some(tensor(db, &c)?)];
    if s.residual {
        grads.push(Some(dy.clone()));
    }
    Ok(grads)
}

/// Layer norm over the last dimension: `(x - mean) / sqrt(variance + eps) * weight + bias`, biased variance.
///
/// # Shapes
/// - `x`: `[..., C]`
/// - `weight`, `bias`: `[C]`
///
/// The pullback gives `[x, weight]`, or `[x, weight, bias]` when there is a bias.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32` or `f64` on the CPU.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Traced> {
    const OP: &str = "layer_norm";
    let [c] = super::dims(OP, "a weight [C]", weight)?;
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[c])?;
    }
    if c == 0 || x.dims().last() != Some(&c) {
        return Err(Error::shape(OP, format!("an input [..., {c}] with at least one channel"), x.dims()));
    }
    let (x, weight, has_bias) = (x.contiguous()?, weight.contiguous()?, bias.is_some());
    let bias = bias.map_or_else(|| weight.zeros_like(), Tensor::contiguous)?;
    by_dtype!("layer_norm", x, T => {
        let (value, stats) = {
            let (xv, wv, bv) = (View::new(OP, &x)?, View::new(OP, &weight)?, View::new(OP, &bias)?);
            norm::layer_norm::<T>(xv.slice()?, wv.slice()?, bv.slice()?, eps)
        };
        let value = tensor(value, x.dims())?;
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let (xv, wv, dyv) = (View::new(OP, &x)?, View::new(OP, &weight)?, View::new(OP, &dy)?);
            let (dx, dw, db) = norm::layer_norm_backward::<T>(xv.slice()?, dyv.slice()?, wv.slice()?, &stats);
            let mut grads = vec![Some(tensor(dx, x.dims())?), Some(tensor(dw, &[c])?)];
            if has_bias {
                grads.push(Some(tensor(db, &[c])?));
            }
            Ok(grads)
        }))
    })
}
