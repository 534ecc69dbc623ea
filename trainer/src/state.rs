//! What a run trains: model, weights, moments, moving average; and one optimiser step on it.

use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use clap::ValueEnum;
use efficienttrain_models::{
    Context, Gradients, Mode, ModelOptions, ParamId, ParamKind, ParamSpec, ParamStore, create_model, ops,
};
use efficienttrain_schedule::{Recipe, StepSettings};
use serde::{Deserialize, Serialize};

use crate::data::Batch;
use crate::ema::{average, warmed_decay};
use crate::error::{Error, Result};
use crate::loss::CrossEntropy;
use crate::loss_scale::LossScale;
use crate::network::Network;
use crate::objective::{Classification, Objective};
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
    /// As `f32`, with the factors of products rounded to eleven binary places; on a GPU alone.
    Tf32,
    /// Half the memory: eleven binary places and a small range, so that the loss is scaled; on a GPU alone.
    F16,
}

impl Precision {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Model, weights and optimiser at one point of a run.
#[derive(Debug)]
pub struct TrainState {
    /// The structure, at the size of the current stage.
    pub model: Network,
    /// The weights.
    pub params: ParamStore,
    /// Moving average of the weights, if the recipe keeps one.
    pub ema: Option<ParamStore>,
    /// Warm up the decay of the average, by [`warmed_decay`].
    pub ema_warmup: bool,
    /// Updates that the average has had.
    pub ema_updates: u64,
    /// Optimiser and its moments.
    pub optimiser: Optimiser,
    /// Keep of each block its input alone and run it again in the backward pass: less memory, the same numbers.
    pub checkpoint_activations: bool,
    /// What activations are stored as.
    pub precision: Precision,
    /// What is brought down.
    pub objective: Arc<dyn Objective>,
    /// Put running statistics back to where they were before a step whose numbers are bad.
    pub undo_bad_steps: bool,
    /// Parameters and buffers that stay as they are, by position; empty for none.
    frozen: Arc<[bool]>,
    /// Buffers as they were before the step at hand.
    before: Vec<(ParamId, Tensor)>,
    gradients: Gradients,
    /// Where the tensors are.
    device: Device,
    /// What losses are multiplied with before the backward pass, so that `f16` holds their gradients.
    pub loss_scale: LossScale,
    /// Losses of the micro-batches of the step at hand, where they lie, and their shares of the step.
    losses: Vec<(Tensor, f64)>,
}

/// An update that was begun: applied on the CPU, on its way on a GPU.
#[derive(Debug)]
pub(crate) enum Update {
    Applied(StepResult),
    /// Step, norm and verdict, and the losses, where they lie.
    OnItsWay(u64, ops::ClipFactor, Vec<(Tensor, f64)>),
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
    pub fn new(options: &ModelOptions, recipe: &Recipe, seed: u64) -> Result<Self> {
        Self::with_model(create_model(&recipe.model, options)?, recipe, seed)
    }

    /// As [`Self::new`], with a model of one's own.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn with_model(model: impl Into<Network>, recipe: &Recipe, seed: u64) -> Result<Self> {
        let model = model.into();
        let params = ParamStore::init(model.specs(), seed, DType::F32, &Device::Cpu)?;
        let ema = recipe.ema_decay.map(|_| params.deep_clone()).transpose()?;
        let optimiser = Optimiser::new(model.specs(), &recipe.optimiser)?;
        let gradients = Gradients::new(params.len());
        Ok(Self {
            model,
            params,
            ema,
            ema_warmup: false,
            ema_updates: 0,
            optimiser,
            checkpoint_activations: false,
            precision: Precision::default(),
            objective: Arc::new(Classification(Arc::new(CrossEntropy))),
            undo_bad_steps: false,
            frozen: Arc::default(),
            before: Vec::new(),
            gradients,
            device: Device::Cpu,
            loss_scale: LossScale::default(),
            losses: Vec::new(),
        })
    }

    /// Where it computes.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Moves weights, average and moments to a device; training goes on there.
    ///
    /// # Errors
    /// When the device has no room for them.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        match self.moved_to(device) {
            Err(e) if e.is_out_of_memory() => Err(self.no_room(device)),
            other => other,
        }
    }

    fn moved_to(&mut self, device: &Device) -> Result<()> {
        self.params = self.params.to_device(device)?;
        self.ema = self.ema.as_ref().map(|ema| ema.to_device(device)).transpose()?;
        for (_, store) in &mut self.optimiser.kept {
            *store = store.to_device(device)?;
        }
        self.device = device.clone();
        Ok(())
    }

    /// That the device computes in this precision; sets the device up for it.
    ///
    /// # Errors
    /// Says which precisions there are.
    pub fn check_precision(&self) -> Result<()> {
        if self.device.is_cpu() && matches!(self.precision, Precision::Tf32 | Precision::F16) {
            let name = self.precision.to_possible_value().map_or_else(String::new, |v| v.get_name().into());
            let what = format!("`{name}` is for GPUs (`--device cuda`); the CPU computes in `f32` or `bf16`");
            return Err(Error::config("precision", what));
        }
        candle_core::cuda::set_gemm_reduced_precision_f32(self.precision == Precision::Tf32);
        Ok(())
    }

    /// What the loss is multiplied with.
    fn scale(&self) -> f64 {
        if self.precision == Precision::F16 { self.loss_scale.scale } else { 1.0 }
    }

    /// Keeps the parameters and buffers whose names match one of `patterns` (`*` for any text, `?` for a character) as they
    /// are; gives how many parameters are left to train.
    ///
    /// # Errors
    /// When a pattern matches nothing, or nothing is left to train.
    pub fn freeze(&mut self, patterns: &[String]) -> Result<usize> {
        let frozen = self.matching("freeze", patterns)?;
        let trained = |(spec, frozen): &(&ParamSpec, &bool)| spec.kind == ParamKind::Parameter && !**frozen;
        let left = self.model.specs().iter().zip(&frozen).filter(trained).count();
        self.frozen = frozen.into();
        if left == 0 {
            return Err(Error::config("freeze", "nothing is left to train; freeze less"));
        }
        Ok(left)
    }

    /// Takes weight decay off the parameters whose names match one of `patterns`, as [`Self::freeze`] reads them.
    ///
    /// # Errors
    /// When a pattern matches nothing.
    pub fn exempt_from_decay(&mut self, patterns: &[String]) -> Result<()> {
        self.optimiser.no_decay = self.matching("no-decay", patterns)?;
        Ok(())
    }

    /// Returns which parameters and buffers one of `patterns` matches, by position.
    fn matching(&self, option: &str, patterns: &[String]) -> Result<Vec<bool>> {
        let mut matching = vec![false; self.model.specs().len()];
        for pattern in patterns {
            let wild = wildmatch::WildMatch::new(pattern);
            let mut found = false;
            for (spec, matching) in self.model.specs().iter().zip(&mut matching) {
                let matches = wild.matches(&spec.name);
                *matching |= matches;
                found |= matches;
            }
            if !found {
                let names: Vec<&str> = self.model.specs().iter().take(3).map(|s| s.name.as_str()).collect();
                let what = format!(
                    "`{pattern}` matches no parameter of {}; they are called {} ...",
                    self.model.name(),
                    names.join(", ")
                );
                return Err(Error::config(option, what));
            }
        }
        Ok(matching)
    }

    /// Parameters and buffers that stay as they are, by position; empty for none.
    pub(crate) fn frozen(&self) -> Arc<[bool]> {
        self.frozen.clone()
    }

    /// Lowers the learning rate from layer to layer, from the head down: `decay ^ depth below the head`.
    pub fn decay_layers(&mut self, decay: f64) {
        self.optimiser.lr_scale = self.params.ids().map(|id| self.model.lr_scale(id, decay)).collect();
    }

    /// Bytes of the weights.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.model.specs().iter().map(|spec| 4 * spec.shape.iter().product::<usize>() as u64).sum()
    }

    /// Bytes of everything that a checkpoint holds.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.weight_bytes() * (1 + self.optimiser.kept.len() as u64 + u64::from(self.ema.is_some()))
    }

    /// Notes the buffers that this step may have to leave as they are.
    fn note_buffers(&mut self) -> Result<()> {
        if !self.before.is_empty() || (!self.undo_bad_steps && !self.frozen.contains(&true)) {
            return Ok(());
        }
        for (spec, id) in self.model.specs().iter().zip(self.params.ids()) {
            if spec.kind != ParamKind::Parameter && (self.undo_bad_steps || self.frozen[id.index()]) {
                self.before.push((id, self.params.get(id).copy()?));
            }
        }
        Ok(())
    }

    /// Puts noted buffers back: all after a bad step, else those that are frozen.
    fn put_back(&mut self, all: bool) {
        for (id, value) in std::mem::take(&mut self.before) {
            if all || self.frozen.get(id.index()).copied().unwrap_or(false) {
                self.params.set(id, value);
            }
        }
    }

    /// Changes the model's input size, with weights, moments and moving average.
    ///
    /// # Errors
    /// When the model cannot take pictures of this size.
    pub fn resize(&mut self, size: usize) -> Result<()> {
        if self.model.input_size() == [size; 2] {
            return Ok(());
        }
        let (model, changes) = self.model.at_size([size; 2])?;
        for change in changes {
            change.apply_in(&mut self.params)?;
            self.optimiser.resample(&change)?;
            if let Some(ema) = &mut self.ema {
                change.apply_in(ema)?;
            }
        }
        self.model = model;
        Ok(())
    }

    /// Gives up the step at hand: its gradients and losses are forgotten, noted buffers put back.
    pub(crate) fn abandon(&mut self) {
        self.gradients.clear();
        self.losses.clear();
        self.put_back(true);
    }

    /// Adds the gradients of one micro-batch, weighted by `share` of the step. Waits for nothing: [`Self::update`] reads the
    /// loss.
    ///
    /// # Errors
    /// When the batch does not fit the model.
    pub fn accumulate(&mut self, batch: &Batch, share: f64, drop_path: f64, seed: u64) -> Result<()> {
        self.note_buffers()?;
        let mut cx = Context::new(&self.params, Mode::Train { seed, drop_path })
            .with_compute_type(self.precision.dtype())
            .with_frozen(self.frozen.clone())
            .with_checkpointing(self.checkpoint_activations);
        let loss = self.objective.loss(&mut cx, &self.model, batch, seed)?;
        let seed = Tensor::new((share * self.scale()) as f32, &self.device)?;
        self.losses.push((loss.tensor().clone(), share));
        Ok(cx.backward(&loss, seed, &mut self.gradients)?)
    }

    /// Applies the accumulated gradients and forgets them; gives their norm, and the loss of the step.
    ///
    /// # Errors
    /// When the loss or the norm is not finite; nothing is changed then.
    pub fn update(&mut self, settings: &StepSettings, clip_grad: Option<f64>) -> Result<StepResult> {
        let update = self.begin_update(settings, clip_grad)?;
        self.end_update(update)
    }

    /// The first part of [`Self::update`], which does not wait for a GPU; [`Self::end_update`] is to follow, before anything else is done
    /// with the state.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(crate) fn begin_update(&mut self, settings: &StepSettings, clip_grad: Option<f64>) -> Result<Update> {
        for id in self.params.ids().filter(|id| self.frozen.get(id.index()).copied().unwrap_or(false)) {
            self.gradients.take(id);
        }
        let losses = std::mem::take(&mut self.losses);
        if !self.device.is_cpu() {
            return self.begin_on_gpu(settings, clip_grad, losses);
        }
        let loss = read(&losses)?;
        let clip = self.clip_factor(clip_grad, None)?;
        let grad_norm = clip.read()?.norm;
        if !loss.is_finite() || !grad_norm.is_finite() {
            self.gradients.clear();
            self.put_back(true);
            return Err(Error::NotFinite { step: settings.step, loss, grad_norm });
        }
        self.take_step(settings, &clip)?;
        self.gradients.clear();
        self.put_back(false);
        self.update_average(settings, None)?;
        Ok(Update::Applied(StepResult { loss, grad_norm }))
    }

    /// As [`Self::begin_update`]: nothing is read before all kernels are on their way.
    fn begin_on_gpu(
        &mut self,
        settings: &StepSettings,
        clip_grad: Option<f64>,
        losses: Vec<(Tensor, f64)>,
    ) -> Result<Update> {
        let factor = self.clip_factor(clip_grad, losses.last().map(|l| &l.0))?;
        self.take_step(settings, &factor)?;
        self.update_average(settings, Some(&factor))?;
        self.gradients.clear();
        Ok(Update::OnItsWay(settings.step, factor, losses))
    }

    /// Returns the norm of the accumulated gradients and the factor that clips it.
    fn clip_factor(&self, clip: Option<f64>, loss: Option<&Tensor>) -> Result<ops::ClipFactor> {
        let gradients: Vec<&Tensor> = self.gradients.iter().map(|(_, g)| g).collect();
        let limits = ops::NormLimits { clip, optimizer: self.optimiser.own_limit() };
        Ok(ops::clip_factor(&gradients, loss, 1.0 / self.scale(), limits)?)
    }

    /// Takes the optimizer's step with gradients multiplied by `factor`.
    fn take_step(&mut self, settings: &StepSettings, factor: &ops::ClipFactor) -> Result<()> {
        let Self { model, params, gradients, optimiser, .. } = self;
        let rates = (settings.lr, settings.weight_decay);
        optimiser.step_by(model.specs(), params, gradients, rates, factor)
    }

    /// Moves the average towards the weights, unless `factor` says that the step was bad.
    fn update_average(&mut self, settings: &StepSettings, factor: Option<&ops::ClipFactor>) -> Result<()> {
        let (Some(ema), Some(decay)) = (&mut self.ema, settings.ema_decay) else { return Ok(()) };
        let decay = if self.ema_warmup { warmed_decay(decay, self.ema_updates) } else { decay };
        self.ema_updates += 1;
        average(ema, &self.params, &*self.model, decay, factor)
    }

    /// What an update came to.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub(crate) fn end_update(&mut self, update: Update) -> Result<StepResult> {
        let (step, factor, losses) = match update {
            Update::Applied(result) => return Ok(result),
            Update::OnItsWay(step, factor, losses) => (step, factor, losses),
        };
        let (clip, loss) = (factor.read()?, read(&losses)?);
        let (grad_norm, good) = (clip.norm, clip.factor != 0.0);
        self.put_back(!good);
        if !good {
            self.optimiser.steps -= 1;
            self.ema_updates = self.ema_updates.saturating_sub(1);
        }
        let scaled = self.precision == Precision::F16;
        let before = self.loss_scale.scale;
        if scaled {
            self.loss_scale = self.loss_scale.after(good);
        }
        // In half precision a gradient too large for the present scale is no fault of the run.
        let tolerable = scaled && before > LossScale::LEAST && loss.is_finite();
        if !good && !tolerable {
            return Err(Error::NotFinite { step, loss, grad_norm });
        }
        Ok(StepResult { loss, grad_norm })
    }

    /// That a gradient reaches every parameter, tried on one batch without changing anything.
    ///
    /// # Errors
    /// Names the parameters that would never train.
    pub fn check_gradients(&mut self, batch: &Batch) -> Result<()> {
        // A pass as those of the step, so that it takes no more memory.
        let undo = std::mem::replace(&mut self.undo_bad_steps, true);
        let tried = self.accumulate(batch, 1.0, 0.0, 0);
        self.undo_bad_steps = undo;
        let complete = self.gradients.check_complete(self.model.name(), self.model.specs());
        self.abandon();
        tried?;
        Ok(complete?)
    }
}

/// The loss of a step from those of its micro-batches.
fn read(losses: &[(Tensor, f64)]) -> Result<f64> {
    let mut sum = 0.0;
    for (loss, share) in losses {
        sum += share * f64::from(loss.to_scalar::<f32>()?);
    }
    Ok(sum)
}
