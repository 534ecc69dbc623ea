//! What a run trains: model, weights, moments, moving average; and one optimiser step on it.

use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use efficienttrain_models::{
    Act, Backbone, Context, Gradients, Kind, Mode, Options, ParamStore, create, ops,
};
use efficienttrain_schedule::{Recipe, StepSettings};
use serde::{Deserialize, Serialize};

use crate::data::Batch;
use crate::error::{Error, Result};
use crate::optimiser::Optimiser;

/// What activations are stored as. Arithmetic inside of ops, weights, their gradients and moments are `f32` in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Half the memory: eight binary places; the residual stream stays in single precision.
    Bf16,
}

impl Precision {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// Model, weights and optimiser at one point of a run.
#[derive(Debug)]
pub struct TrainState {
    /// The structure, at the size of the current stage.
    pub model: Box<dyn Backbone>,
    /// The weights.
    pub params: ParamStore,
    /// Moving average of the weights, if the recipe keeps one.
    pub ema: Option<ParamStore>,
    /// Optimiser and its moments.
    pub optimiser: Optimiser,
    /// Keep of each block its input alone and run it again in the backward pass: less memory, the same numbers.
    pub checkpoint_activations: bool,
    /// What activations are stored as.
    pub precision: Precision,
    gradients: Gradients,
}

/// What one optimiser step came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepResult {
    /// Loss, averaged over the step's images.
    pub loss: f64,
    /// Norm of all gradients, before clipping.
    pub grad_norm: f64,
}

impl TrainState {
    /// The recipe's model with first weights drawn from `seed`.
    ///
    /// # Errors
    /// When the model is unknown, cannot take the size, or the recipe's optimiser is not available.
    pub fn new(options: &Options, recipe: &Recipe, seed: u64) -> Result<Self> {
        let model = create(&recipe.model, options)?;
        let params = ParamStore::init(model.specs(), seed, DType::F32, &Device::Cpu)?;
        let ema = recipe.ema_decay.map(|_| params.deep_clone()).transpose()?;
        let optimiser = Optimiser::new(model.specs(), &recipe.optimiser)?;
        let gradients = Gradients::new(params.len());
        let (checkpoint_activations, precision) = (false, Precision::default());
        Ok(Self { model, params, ema, optimiser, checkpoint_activations, precision, gradients })
    }

    /// Changes the model's input size, with weights, moments and moving average.
    ///
    /// # Errors
    /// When the model cannot take pictures of this size.
    pub fn resize(&mut self, size: usize) -> Result<()> {
        if self.model.input_size() == [size; 2] {
            return Ok(());
        }
        for change in self.model.set_input_size([size; 2])? {
            change.apply_in(&mut self.params)?;
            self.optimiser.resample(&change)?;
            if let Some(ema) = &mut self.ema {
                change.apply_in(ema)?;
            }
        }
        Ok(())
    }

    /// Adds the gradients of one micro-batch, weighted by `share` of the step; gives its loss.
    ///
    /// # Errors
    /// When the batch does not fit the model.
    pub fn accumulate(&mut self, batch: &Batch, share: f64, drop_path: f64, seed: u64) -> Result<f64> {
        let mut cx = Context::new(&self.params, Mode::Train { seed, drop_path })
            .with_compute_type(self.precision.dtype())
            .with_checkpointing(self.checkpoint_activations);
        let loss = loss_of(&*self.model, &mut cx, batch)?;
        let value = f64::from(loss.tensor().to_scalar::<f32>()?);
        cx.backward(&loss, Tensor::new(share as f32, &Device::Cpu)?, &mut self.gradients)?;
        Ok(value)
    }

    /// Applies the accumulated gradients and forgets them; gives their norm.
    ///
    /// # Errors
    /// When the loss or the norm is not finite; nothing is changed then.
    pub fn update(
        &mut self,
        settings: &StepSettings,
        clip_grad: Option<f64>,
        loss: f64,
    ) -> Result<StepResult> {
        let grad_norm = self.gradients.norm()?;
        if !loss.is_finite() || !grad_norm.is_finite() {
            self.gradients.clear();
            return Err(Error::NotFinite { step: settings.step, loss, grad_norm });
        }
        let mut factor = 1.0;
        if let Some(limit) = clip_grad {
            // As PyTorch's clip_grad_norm_.
            factor = (limit / (grad_norm + 1e-6)).min(1.0);
        }
        factor *= self.optimiser.gradient_factor(factor * grad_norm);
        if factor < 1.0 {
            self.gradients.scale(factor)?;
        }
        self.optimiser.step(
            self.model.specs(),
            &self.params,
            &self.gradients,
            settings.lr,
            settings.weight_decay,
        )?;
        self.gradients.clear();
        if let (Some(ema), Some(decay)) = (&mut self.ema, settings.ema_decay) {
            average(ema, &self.params, self.model.as_ref(), decay)?;
        }
        Ok(StepResult { loss, grad_norm })
    }

    /// That a gradient reaches every parameter, tried on one batch without changing anything.
    ///
    /// # Errors
    /// Names the parameters that would never train.
    pub fn check_gradients(&self, batch: &Batch) -> Result<()> {
        let params = self.params.deep_clone()?;
        let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.0 });
        let loss = loss_of(&*self.model, &mut cx, batch)?;
        let mut gradients = Gradients::new(params.len());
        cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)?;
        Ok(gradients.check_complete(self.model.name(), self.model.specs())?)
    }
}

fn loss_of(model: &dyn Backbone, cx: &mut Context, batch: &Batch) -> Result<Act> {
    let logits = model.forward(cx, &Act::constant(pictures(batch)?))?;
    let targets =
        Tensor::from_slice(&batch.targets, (batch.labels.len(), model.num_classes()), &Device::Cpu)?;
    let loss = ops::soft_cross_entropy(logits.tensor(), &targets)?;
    Ok(cx.record(&[&logits], loss))
}

/// The pictures of a batch as a tensor `[N, H, W, 3]`.
pub(crate) fn pictures(batch: &Batch) -> Result<Tensor> {
    let shape = (batch.labels.len(), batch.size, batch.size, 3);
    Ok(Tensor::from_slice(&batch.pixels, shape, &Device::Cpu)?)
}

/// Moves the average towards the weights; counters are copied.
fn average(ema: &mut ParamStore, params: &ParamStore, model: &dyn Backbone, decay: f64) -> Result<()> {
    for (spec, id) in model.specs().iter().zip(params.ids()) {
        match spec.kind {
            Kind::Counter => ema.set(id, params.get(id).copy()?),
            Kind::Parameter | Kind::Buffer => ops::blend(ema.get(id), params.get(id), decay)?,
        }
    }
    Ok(())
}
