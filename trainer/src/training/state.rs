//! State of training: model, weights, moments and moving average.

use std::sync::Arc;

use crate::config::precision::Precision;
use candle_core::{DType, Device};
use clap::ValueEnum;
use efficienttrain_models::{
    Context, Mode, ModelOptions, ParamId, ParamKind, ParamSpec, ParamStore, create_model, ops,
};
use efficienttrain_schedule::Recipe;

use crate::error::{Error, Result};
use crate::training::loss::CrossEntropy;
use crate::training::loss_scale::LossScale;
use crate::training::network::Network;
use crate::training::objective::{Classification, Objective};
use crate::training::optimizer::Optimizer;

/// Model, weights and optimizer at one point of a run.
#[derive(Debug)]
pub struct TrainState {
    /// Structure, at the size of the current stage.
    pub model: Network,
    /// Weights.
    pub params: ParamStore,
    /// Moving average (EMA) of the weights, if the recipe has one.
    pub ema: Option<ParamStore>,
    /// Warm up the decay of the EMA, see [`warmed_decay`](crate::training::warmed_decay).
    pub ema_warmup: bool,
    /// Number of updates of the EMA.
    pub ema_updates: u64,
    /// Optimizer and its moments.
    pub optimizer: Optimizer,
    /// Activation checkpointing: keep only each block's input and recompute the block in the
    /// backward pass (less memory, identical results).
    pub checkpoint_activations: bool,
    /// Precision of activations.
    pub precision: Precision,
    /// Training objective.
    pub objective: Arc<dyn Objective>,
    /// Restore running statistics after a non-finite step.
    pub undo_bad_steps: bool,
    /// Frozen parameters and buffers, by position; empty for none.
    frozen: Arc<[bool]>,
    /// Processes that batch norms take their statistics over, if not over one micro-batch.
    pub(crate) processes: Option<Arc<dyn ops::Processes>>,
    /// Device of the tensors.
    device: Device,
    /// Factor of the loss before the backward pass, so that `f16` can represent the gradients.
    pub loss_scale: LossScale,
    /// Passes that a GPU repeats.
    #[cfg(feature = "cuda")]
    pub(crate) recorder: crate::training::recorded::Recorder,
}

impl TrainState {
    /// Creates the recipe's model with random weights from `seed`.
    ///
    /// # Errors
    /// Returns an error if the model is unknown, does not support the size, or the recipe's
    /// optimizer is not available.
    pub fn new(options: &ModelOptions, recipe: &Recipe, seed: u64) -> Result<Self> {
        Self::with_model(create_model(&recipe.model, options)?, recipe, seed)
    }

    /// Like [`Self::new`], with a custom model.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    pub fn with_model(model: impl Into<Network>, recipe: &Recipe, seed: u64) -> Result<Self> {
        let model = model.into();
        let params = ParamStore::init(model.specs(), seed, DType::F32, &Device::Cpu)?;
        let ema = recipe.ema_decay.map(|_| params.deep_clone()).transpose()?;
        let optimizer = Optimizer::new(model.specs(), &recipe.optimizer)?;
        Ok(Self {
            model,
            params,
            ema,
            ema_warmup: false,
            ema_updates: 0,
            optimizer,
            checkpoint_activations: false,
            precision: Precision::default(),
            objective: Arc::new(Classification(Arc::new(CrossEntropy))),
            undo_bad_steps: false,
            frozen: Arc::default(),
            processes: None,
            device: Device::Cpu,
            loss_scale: LossScale::default(),
            #[cfg(feature = "cuda")]
            recorder: crate::training::recorded::Recorder::default(),
        })
    }

    /// Returns a pass with the state's weights, precision and options.
    pub(crate) fn context(&self, mode: Mode) -> Context<'_> {
        Context::new(&self.params, mode)
            .with_compute_type(self.precision.dtype())
            .with_frozen(self.frozen())
            .with_checkpointing(self.checkpoint_activations)
            .with_processes(self.processes.clone())
    }

    /// Returns why the passes of a GPU are not recorded, once, if it could not be done.
    pub(crate) fn take_refusal(&mut self) -> Option<String> {
        #[cfg(feature = "cuda")]
        return self.recorder.take_refusal();
        #[cfg(not(feature = "cuda"))]
        None
    }

    /// Returns the device of the tensors.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Moves weights, average and moments to a device, on which training continues.
    ///
    /// # Errors
    /// Returns an error if they do not fit on the device.
    pub fn move_to(&mut self, device: &Device) -> Result<()> {
        match self.moved_to(device) {
            Err(e) if e.is_out_of_memory() => Err(self.oom_error(device)),
            other => other,
        }
    }

    fn moved_to(&mut self, device: &Device) -> Result<()> {
        self.params = self.params.to_device(device)?;
        self.ema = self.ema.as_ref().map(|ema| ema.to_device(device)).transpose()?;
        for (_, store) in &mut self.optimizer.moments {
            *store = store.to_device(device)?;
        }
        self.device = device.clone();
        Ok(())
    }

    /// Checks that the device supports this precision, and sets the device up for it.
    ///
    /// # Errors
    /// The error lists the available precisions.
    pub fn check_precision(&self) -> Result<()> {
        if self.device.is_cpu() && matches!(self.precision, Precision::Tf32 | Precision::F16) {
            let name = self.precision.to_possible_value().map_or_else(String::new, |v| v.get_name().into());
            let what =
                format!("`{name}` is for GPUs (option `device` cuda); the CPU computes in `f32` or `bf16`");
            return Err(Error::config("precision", what));
        }
        candle_core::cuda::set_gemm_reduced_precision_f32(self.precision == Precision::Tf32);
        Ok(())
    }

    /// Returns the factor of the loss.
    pub(crate) fn scale(&self) -> f64 {
        if self.precision == Precision::F16 { self.loss_scale.scale } else { 1.0 }
    }

    /// Freezes the parameters and buffers whose names match one of `patterns` (`*` for any text,
    /// `?` for a character). Returns the number of parameters left to train.
    ///
    /// # Errors
    /// Returns an error if a pattern matches nothing, or nothing is left to train.
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

    /// Exempts the parameters whose names match one of `patterns` from weight decay, with the
    /// syntax of [`Self::freeze`].
    ///
    /// # Errors
    /// Returns an error if a pattern matches nothing.
    pub fn exempt_from_decay(&mut self, patterns: &[String]) -> Result<()> {
        self.optimizer.no_decay = self.matching("no-decay", patterns)?;
        Ok(())
    }

    /// Returns the parameters and buffers that match one of `patterns`, by position.
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
                    "`{pattern}` matches no parameter of {}; they are named {} ...",
                    self.model.name(),
                    names.join(", ")
                );
                return Err(Error::config(option, what));
            }
        }
        Ok(matching)
    }

    /// Returns the frozen parameters and buffers, by position; empty for none.
    pub(crate) fn frozen(&self) -> Arc<[bool]> {
        self.frozen.clone()
    }

    /// Sets layer-wise learning-rate decay: `decay ^ depth below the head`.
    pub fn set_layer_decay(&mut self, decay: f64) {
        self.optimizer.lr_scale = self.params.ids().map(|id| self.model.lr_scale(id, decay)).collect();
    }

    /// Returns the size of the weights, in bytes.
    pub(crate) fn weight_bytes(&self) -> u64 {
        self.model.specs().iter().map(|spec| 4 * spec.shape.iter().product::<usize>() as u64).sum()
    }

    /// Returns the size of all tensors in a checkpoint, in bytes.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.weight_bytes() * (1 + self.optimizer.moments.len() as u64 + u64::from(self.ema.is_some()))
    }

    /// Changes the model's input size, with weights, moments and moving average.
    ///
    /// # Errors
    /// Returns an error if the model does not support images of this size.
    pub fn resize(&mut self, size: usize) -> Result<()> {
        if self.model.input_size() == [size; 2] {
            return Ok(());
        }
        let (model, changes) = self.model.at_size([size; 2])?;
        for change in changes {
            change.apply_in(&mut self.params)?;
            self.optimizer.resample(&change)?;
            if let Some(ema) = &mut self.ema {
                change.apply_in(ema)?;
            }
        }
        self.model = model;
        Ok(())
    }

    /// Returns true if a parameter or buffer is frozen.
    pub(crate) fn is_frozen(&self, id: ParamId) -> bool {
        self.frozen.get(id.index()).copied().unwrap_or(false)
    }
}
