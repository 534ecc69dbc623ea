//! Batch norm and layer norm.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Tensor};

use super::cast::converted;
use super::kernels::norm::{self, After};
use super::kernels::{Compute, Storage, rows};
use super::view::{Param, View, tensor};
use super::{Traced, blend, by_storage, by_storages, expect_shape, on_gpu};
use crate::{Error, Result};

/// Per-channel statistics of the rows that a batch norm saw: `[C]`, in `f64` on the CPU and in
/// `f32` on a GPU, where they stay.
#[derive(Clone, Debug)]
pub struct BatchStatistics {
    /// Mean of each channel.
    pub mean: Tensor,
    /// Biased variance of each channel (divided by the number of rows).
    pub variance: Tensor,
    /// Number of rows they were taken over, `N * H * W`; 0 for running statistics, which have none.
    pub count: usize,
    /// Processes over whose batches they were taken, if not over one batch alone.
    processes: Option<Arc<dyn Processes>>,
}

/// Processes that normalize their batches together (synchronized batch norm).
pub trait Processes: Debug + Send + Sync {
    /// Returns the numbers that each process gives, in the same order in all of them.
    ///
    /// # Errors
    /// When a process fails.
    fn gather(&self, numbers: Vec<f64>) -> Result<Vec<Vec<f64>>>;
}

impl BatchStatistics {
    /// Statistics of `count` rows: mean and biased variance of each channel.
    pub fn new(mean: Tensor, variance: Tensor, count: usize) -> Self {
        Self { mean, variance, count, processes: None }
    }

    /// The statistics of `x` and the batches of all other processes together.
    ///
    /// # Errors
    /// Those of [`Self::of`], when `x` is on a GPU, and when a process fails.
    pub fn of_all(x: &Tensor, processes: &Arc<dyn Processes>) -> Result<Self> {
        on_gpu!(x, {
            let what = "a synchronized batch norm on a GPU".to_string();
            Err(Error::Unsupported { op: "batch_norm", what, supported: "one on the CPU" })
        });
        let own = Self::of(x)?;
        let (mean, variance) = (own.mean.to_vec1::<f64>()?, own.variance.to_vec1::<f64>()?);
        let c = mean.len();
        let numbers = [vec![own.count as f64], mean, variance].concat();
        let all = processes.gather(numbers)?;
        let count: f64 = all.iter().map(|theirs| theirs[0]).sum();
        let over =
            |of: &dyn Fn(&[f64]) -> f64| all.iter().map(|theirs| theirs[0] * of(theirs)).sum::<f64>() / count;
        let mean: Vec<f64> = (1..=c).map(|i| over(&|theirs| theirs[i])).collect();
        // Each batch varies around its own mean, and the means vary around that of all.
        let around = |i: usize| over(&|theirs| theirs[c + i] + (theirs[i] - mean[i - 1]).powi(2));
        let variance: Vec<f64> = (1..=c).map(around).collect();
        let processes = Some(processes.clone());
        Ok(Self {
            mean: tensor(mean, &[c])?,
            variance: tensor(variance, &[c])?,
            count: count as usize,
            processes,
        })
    }

    /// The statistics of `x` of shape `[..., C]` over all but the last dimension.
    ///
    /// # Errors
    /// When `x` is empty, or not `f32`, `f64` or `bf16` on the CPU.
    pub fn of(x: &Tensor) -> Result<Self> {
        let c = x.dims().last().copied().unwrap_or(0);
        if x.elem_count() == 0 {
            return Err(Error::shape("batch_norm", "at least one row of channels", x.dims()));
        }
        let count = x.elem_count() / c;
        on_gpu!(x, {
            let (mean, variance) = super::cuda::channel_statistics(x, c)?;
            Ok(Self::new(mean, variance, count))
        });
        let x = x.contiguous()?;
        let (mean, variance) = by_storage!("batch_norm", x, S => {
            Ok(norm::channel_statistics(View::new("batch_norm", &x)?.slice::<S>()?, c))
        })?;
        Ok(Self::new(tensor(mean, &[c])?, tensor(variance, &[c])?, count))
    }

    /// Running statistics, for evaluation.
    ///
    /// # Errors
    /// When there is no memory for them.
    pub fn running(mean: &Tensor, variance: &Tensor) -> Result<Self> {
        let read = |t: &Tensor| if t.device().is_cpu() { t.to_dtype(DType::F64) } else { Ok(t.clone()) };
        Ok(Self::new(read(mean)?, read(variance)?, 0))
    }

    /// Moves running statistics towards these by `momentum`, in place; the running variance is
    /// unbiased, as PyTorch's.
    ///
    /// # Errors
    /// When the rows were fewer than two, or shapes differ.
    pub fn observe(&self, mean: &Tensor, variance: &Tensor, momentum: f64) -> Result<()> {
        if self.count < 2 {
            return Err(Error::shape(
                "batch_norm",
                "more than one value a channel in training",
                self.mean.dims(),
            ));
        }
        let unbias = self.count as f64 / (self.count - 1) as f64;
        on_gpu!(mean, {
            super::cuda::blend(mean, &self.mean, 1.0 - momentum, momentum)?;
            super::cuda::blend(variance, &self.variance, 1.0 - momentum, momentum * unbias)
        });
        for (running, batch, factor) in [(mean, &self.mean, 1.0), (variance, &self.variance, unbias)] {
            let batch: Vec<f64> = batch.to_vec1::<f64>()?.into_iter().map(|x| x * factor).collect();
            let batch = Tensor::new(batch, running.device())?.to_dtype(running.dtype())?;
            blend(running, &batch, 1.0 - momentum)?;
        }
        Ok(())
    }
}

/// Batch norm over the last dimension, then the sum with `residual` and a rectifier where asked
/// for, in one pass.
///
/// `statistics` decides the mode: those of the batch itself ([`BatchStatistics::of`]) with
/// `from_batch` set for training, or running ones with `from_batch` unset for evaluation. They
/// differ in the gradient.
///
/// # Shapes
/// - `x` and `residual`: `[..., C]`
/// - `weight`, `bias`: `[C]`
/// - value: as `x`
///
/// The pullback gives `[x, weight, bias]`, or `[x, weight, bias, residual]`.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32`, `f64` or `bf16` on the CPU.
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
    let c = statistics.mean.elem_count();
    if x.dims().last() != Some(&c) {
        return Err(Error::shape(OP, format!("an input [..., {c}]"), x.dims()));
    }
    expect_shape(OP, "a weight", weight, &[c])?;
    expect_shape(OP, "a bias", bias, &[c])?;
    if let Some(residual) = residual {
        expect_shape(OP, "a residual", residual, x.dims())?;
    }
    on_gpu!(x, {
        let (parameters, statistics) = ([weight, bias], [&statistics.mean, &statistics.variance]);
        super::cuda::batch_norm(
            x,
            parameters,
            statistics,
            super::cuda::After { residual, relu },
            from_batch,
            eps,
        )
    });
    let x = x.contiguous()?;
    let residual = residual.map(Tensor::contiguous).transpose()?;
    let mean = statistics.mean.to_vec1::<f64>()?;
    let variance = statistics.variance.to_vec1::<f64>()?;
    let inv_std: Vec<f64> = variance.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
    by_storage!(OP, x, S => {
        let (weight, bias) = (Param::of::<S>(weight)?, Param::of::<S>(bias)?);
        let value = forward::<S, _>(&x, &weight, &bias, residual.as_ref(), relu, (&mean, &inv_std))?;
        let source = match &statistics.processes {
            _ if !from_batch => Source::Running,
            None => Source::Batch,
            Some(processes) => Source::Processes(processes.clone(), statistics.count),
        };
        let rectifier = match (relu, residual.is_some()) {
            (false, _) => Rectifier::None,
            (true, false) => Rectifier::OfInput,
            (true, true) => Rectifier::OfValue(value.clone()),
        };
        let saved = Saved { x, weight, bias, mean, inv_std, source, rectifier, residual: residual.is_some() };
        Ok(Traced::new(value, move |dy, _| backward::<S, _>(&saved, dy)))
    })
}

/// Values that the backward pass of a batch norm needs.
struct Saved {
    x: Tensor,
    weight: Param,
    bias: Param,
    mean: Vec<f64>,
    inv_std: Vec<f64>,
    source: Source,
    rectifier: Rectifier,
    residual: bool,
}

/// The rectifier behind a batch norm.
enum Rectifier {
    None,
    /// What it let through follows from the input.
    OfInput,
    /// It let through what is above zero in this value.
    OfValue(Tensor),
}

/// Where the statistics of a batch norm come from, which decides how its input depends on itself.
enum Source {
    Running,
    Batch,
    /// The batches of processes, of so many rows in all.
    Processes(Arc<dyn Processes>, usize),
}

impl Source {
    /// The sums over all rows that the statistics are of, and their number, given the sums over the
    /// `rows` of this batch; none for fixed statistics.
    fn total(&self, sums: &[f64], rows: usize) -> Result<Option<norm::Total>> {
        Ok(match self {
            Self::Running => None,
            Self::Batch => Some((sums.to_vec(), rows)),
            Self::Processes(processes, count) => {
                let mut total = vec![0.0; sums.len()];
                for theirs in processes.gather(sums.to_vec())? {
                    total.iter_mut().zip(theirs).for_each(|(total, sum)| *total += sum);
                }
                Some((total, *count))
            }
        })
    }
}

fn forward<S: Storage<Real = T>, T: Compute>(
    x: &Tensor,
    weight: &Param,
    bias: &Param,
    residual: Option<&Tensor>,
    relu: bool,
    (mean, inv_std): (&[f64], &[f64]),
) -> Result<Tensor> {
    const OP: &str = "batch_norm";
    let (xv, wv, bv) = (View::new(OP, x)?, weight.view(OP)?, bias.view(OP)?);
    let residual = residual.map(|r| View::new(OP, r)).transpose()?;
    let residual = residual.as_ref().map(View::slice::<S>).transpose()?;
    let (scale, shift) = norm::affine::<T>(mean, inv_std, wv.slice()?, bv.slice()?);
    tensor(norm::scale_shift::<S>(xv.slice()?, &scale, &shift, After { residual, relu }), x.dims())
}

fn backward<S: Storage<Real = T>, T: Compute>(s: &Saved, dy: &Tensor) -> Result<Vec<Option<Tensor>>> {
    const OP: &str = "batch_norm";
    let mut dy = dy.contiguous()?;
    if let Rectifier::OfValue(output) = &s.rectifier {
        let gated = {
            let (yv, dyv) = (View::new(OP, output)?, View::new(OP, &dy)?);
            rows::zip(yv.slice::<S>()?, dyv.slice::<S>()?, |y, g| if y > T::ZERO { g } else { T::ZERO })
        };
        dy = tensor(gated, dy.dims())?;
    }
    let (xv, wv, bv, dyv) = (View::new(OP, &s.x)?, s.weight.view(OP)?, s.bias.view(OP)?, View::new(OP, &dy)?);
    let weight = wv.slice()?;
    let gate = match s.rectifier {
        Rectifier::OfInput => Some(norm::affine::<T>(&s.mean, &s.inv_std, weight, bv.slice()?)),
        Rectifier::None | Rectifier::OfValue(_) => None,
    };
    let (dx, dw, db) = norm::batch_norm_backward::<S>(
        xv.slice()?,
        dyv.slice()?,
        weight,
        (&s.mean, &s.inv_std),
        gate.as_ref().map(|(scale, shift)| (&scale[..], &shift[..])),
        |sums, rows| s.source.total(sums, rows),
    )?;
    let mut grads = vec![Some(tensor(dx, s.x.dims())?), s.weight.gradient(dw)?, s.bias.gradient(db)?];
    if s.residual {
        grads.push(Some(dy.clone()));
    }
    Ok(grads)
}

/// Layer norm over the last dimension: `(x - mean) / sqrt(variance + eps) * weight + bias`, biased
/// variance.
///
/// # Shapes
/// - `x`: `[..., C]`
/// - `weight`, `bias`: `[C]`
///
/// The pullback gives `[x, weight]`, or `[x, weight, bias]` when there is a bias.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Traced> {
    layer_norm_to(x, weight, bias, eps, x.dtype())
}

/// Layer norm as [`layer_norm`], with the value in the element type `dtype`: a layer that computes
/// in `bf16` gets its input in one pass over a residual stream of `f32`.
///
/// # Errors
/// Those of [`layer_norm`], and when `dtype` has another compute type than `x`.
pub fn layer_norm_to(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
    dtype: DType,
) -> Result<Traced> {
    const OP: &str = "layer_norm";
    let [c] = super::dims(OP, "a weight [C]", weight)?;
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[c])?;
    }
    if c == 0 || x.dims().last() != Some(&c) {
        return Err(Error::shape(OP, format!("an input [..., {c}] with at least one channel"), x.dims()));
    }
    on_gpu!(x, super::cuda::layer_norm(x, weight, bias, eps, dtype));
    let (x, has_bias) = (x.contiguous()?, bias.is_some());
    let bias = bias.map_or_else(|| weight.zeros_like(), |bias| Ok(bias.clone()))?;
    by_storages!(OP, x.dtype(), dtype, (S, O) => {
        let (weight, bias) = (Param::of::<S>(weight)?, Param::of::<S>(&bias)?);
        let (value, stats) = {
            let (xv, wv, bv) = (View::new(OP, &x)?, weight.view(OP)?, bias.view(OP)?);
            norm::layer_norm::<S, O, _>(xv.slice()?, wv.slice()?, bv.slice()?, eps)
        };
        let value = tensor(value, x.dims())?;
        Ok(Traced::adding(value, move |dy, _, onto| {
            let dy = dy.contiguous()?;
            let onto = onto.map(|onto| converted(&onto.contiguous()?, x.dtype())).transpose()?;
            let (xv, wv, dyv) = (View::new(OP, &x)?, weight.view(OP)?, View::new(OP, &dy)?);
            let onto = onto.as_ref().map(|onto| View::new(OP, onto)).transpose()?;
            let onto = onto.as_ref().map(View::slice).transpose()?;
            let (dx, dw, db) =
                norm::layer_norm_backward::<S, O, _>(xv.slice()?, dyv.slice()?, wv.slice()?, &stats, onto);
            let mut grads = vec![Some(tensor(dx, x.dims())?), weight.gradient(dw)?];
            if has_bias {
                grads.push(bias.gradient(db)?);
            }
            Ok(grads)
        }))
    })
}
