//! Normalization layers.

use candle_core::Tensor;

use crate::graph::{Context, ObservedStatistics, Op, Variable};
use crate::ops::{self, BatchStatistics};
use crate::params::{Init, ParamBuilder, ParamId};
use crate::{Error, Result};

/// Batch norm over the channels of channels-last images, with running statistics (PyTorch's names
/// and momentum 0.1).
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: ParamId,
    bias: ParamId,
    running_mean: ParamId,
    running_var: ParamId,
    num_batches_tracked: ParamId,
}

impl BatchNorm {
    const EPS: f64 = 1e-5;
    const MOMENTUM: f64 = 0.1;

    /// A layer whose `weight` starts as given (zeros make a residual branch start silent).
    pub fn new(b: &mut ParamBuilder, channels: usize, weight: Init) -> Self {
        Self {
            weight: b.parameter("weight", &[channels], weight),
            bias: b.parameter("bias", &[channels], Init::Zeros),
            running_mean: b.buffer("running_mean", &[channels], Init::Zeros),
            running_var: b.buffer("running_var", &[channels], Init::Ones),
            num_batches_tracked: b.counter("num_batches_tracked"),
        }
    }

    /// Normalizes `x`, adds `residual` if there is one, rectifies if `relu`. In training it
    /// normalizes by the statistics of the batch and updates the running ones, unless these are
    /// frozen: then it normalizes by them, as in evaluation.
    ///
    /// # Errors
    /// When shapes do not fit, or a training batch has a single value a channel.
    pub fn forward(
        &self,
        cx: &mut Context,
        x: &Variable,
        residual: Option<&Variable>,
        relu: bool,
    ) -> Result<Variable> {
        let (weight, bias) = (cx.param(self.weight), cx.param(self.bias));
        let residual = residual.map(|residual| cx.cast(residual, x.tensor().dtype())).transpose()?;
        let residual = residual.as_ref();
        let inputs: Vec<&Variable> = [x, &weight, &bias].into_iter().chain(residual).collect();
        let (running_mean, running_var) = (self.running_mean, self.running_var);
        let op = Op::BatchNorm { relu, eps: Self::EPS, running_mean, running_var };
        if !self.is_frozen(cx) {
            cx.note_statistics(x.dims());
        }
        cx.apply(op, &inputs, x.dims(), |cx| {
            let by_batch = cx.is_training() && !self.is_frozen(cx);
            let statistics = if by_batch { self.observe(cx, x.tensor())? } else { self.running(cx)? };
            ops::batch_norm(
                x.tensor(),
                weight.tensor(),
                bias.tensor(),
                residual.map(Variable::tensor),
                relu,
                &statistics,
                by_batch,
                Self::EPS,
            )
        })
    }

    /// Mean and variance belong together: if one of them is frozen, the other is of no use on
    /// its own.
    fn is_frozen(&self, cx: &Context) -> bool {
        cx.is_frozen(self.running_mean) || cx.is_frozen(self.running_var)
    }

    /// The statistics of this batch, blended into the running ones (which hold the unbiased
    /// variance).
    fn observe(&self, cx: &Context, x: &Tensor) -> Result<BatchStatistics> {
        let statistics = cx.batch_statistics(x)?;
        if statistics.count < 2 {
            return Err(Error::shape("batch_norm", "more than one value a channel in training", x.dims()));
        }
        cx.observe_statistics(ObservedStatistics {
            statistics: statistics.clone(),
            running_mean: self.running_mean,
            running_var: self.running_var,
            num_batches_tracked: self.num_batches_tracked,
            momentum: Self::MOMENTUM,
        })?;
        Ok(statistics)
    }

    fn running(&self, cx: &Context) -> Result<BatchStatistics> {
        BatchStatistics::running(cx.value(self.running_mean), cx.value(self.running_var))
    }
}

/// Layer norm over the last dimension, with parameters `weight` and, if made so, `bias`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: ParamId,
    bias: Option<ParamId>,
    eps: f64,
}

impl LayerNorm {
    /// PyTorch's default for the term that is added to the variance.
    pub const DEFAULT_EPS: f64 = 1e-5;

    /// A layer that starts as the plain normalization.
    pub fn new(b: &mut ParamBuilder, channels: usize, eps: f64) -> Self {
        let weight = b.parameter("weight", &[channels], Init::Ones);
        Self { weight, bias: Some(b.parameter("bias", &[channels], Init::Zeros)), eps }
    }

    /// A layer without bias.
    pub fn unbiased(b: &mut ParamBuilder, channels: usize, eps: f64) -> Self {
        Self { weight: b.parameter("weight", &[channels], Init::Ones), bias: None, eps }
    }

    /// `[..., C]` to the same shape.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let (weight, bias) = (cx.param(self.weight), self.bias.map(|id| cx.param(id)));
        let inputs: Vec<&Variable> = [x, &weight].into_iter().chain(&bias).collect();
        cx.apply(Op::LayerNorm { eps: self.eps }, &inputs, x.dims(), |cx| {
            let (bias, dtype) = (bias.as_ref().map(Variable::tensor), cx.layer_type(x));
            ops::layer_norm_to(x.tensor(), weight.tensor(), bias, self.eps, dtype)
        })
    }
}
