//! AdamW over all parameters of a model.

use candle_core::{DType, Device};
use efficienttrain_models::{Gradients, Kind, ParamSpec, ParamStore, Resample, ops};
use efficienttrain_schedule::{Optimiser, OptimiserKind};

use crate::error::{Error, Result};

/// AdamW with the decay groups of the model's specification, and its two moments.
#[derive(Debug)]
pub struct AdamW {
    /// Means of the gradients.
    pub exp_avg: ParamStore,
    /// Means of the squared gradients.
    pub exp_avg_sq: ParamStore,
    /// Steps taken.
    pub steps: u64,
    betas: (f64, f64),
    eps: f64,
}

impl AdamW {
    /// Zero moments for the parameters of `specs`.
    ///
    /// # Errors
    /// When the recipe asks for another optimiser.
    pub fn new(specs: &[ParamSpec], numbers: &Optimiser) -> Result<Self> {
        if numbers.kind != OptimiserKind::AdamW {
            let what = format!(
                "this recipe trains with {:?}, and only AdamW is available; choose another",
                numbers.kind
            );
            return Err(Error::config("recipe", what));
        }
        // Buffers have no moments, but a store has the model's whole list: give them an element each.
        let moments: Vec<ParamSpec> = specs.iter().map(moment_of).collect();
        let zeros = || ParamStore::zeros(&moments, DType::F32, &Device::Cpu);
        Ok(Self { exp_avg: zeros()?, exp_avg_sq: zeros()?, steps: 0, betas: numbers.betas, eps: numbers.eps })
    }

    /// One step with these gradients.
    ///
    /// # Errors
    /// When a gradient has the wrong shape.
    pub fn step(
        &mut self,
        specs: &[ParamSpec],
        params: &ParamStore,
        gradients: &Gradients,
        lr: f64,
        weight_decay: f64,
    ) -> Result<()> {
        self.steps += 1;
        for (id, gradient) in gradients.iter() {
            let numbers = ops::AdamW {
                lr,
                beta1: self.betas.0,
                beta2: self.betas.1,
                eps: self.eps,
                weight_decay: if specs[id.index()].decay { weight_decay } else { 0.0 },
                step: self.steps,
            };
            ops::adamw_step(
                params.get(id),
                gradient,
                self.exp_avg.get(id),
                self.exp_avg_sq.get(id),
                &numbers,
            )?;
        }
        Ok(())
    }

    /// Follows a change of the model's input size.
    ///
    /// # Errors
    /// When a moment does not have the shape that the change starts from.
    pub fn resample(&mut self, change: &Resample) -> Result<()> {
        change.apply_in(&mut self.exp_avg)?;
        Ok(change.apply_in(&mut self.exp_avg_sq)?)
    }
}

/// The specification of a parameter's moment; a scalar for what is not trained.
pub(crate) fn moment_of(spec: &ParamSpec) -> ParamSpec {
    let shape = if spec.kind == Kind::Parameter { spec.shape.clone() } else { Vec::new() };
    ParamSpec { shape, ..spec.clone() }
}
