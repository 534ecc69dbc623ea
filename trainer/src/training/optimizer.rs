//! The optimizer of a run: AdamW, LAMB or gradient descent over all parameters of a model.

use candle_core::{DType, Device};
use efficienttrain_models::{Gradients, ParamId, ParamKind, ParamSpec, ParamStore, Resample, ops};
use efficienttrain_schedule::{Optimizer as Numbers, OptimizerKind};

use crate::error::Result;

/// LAMB divides all gradients by their common norm where it is above this, as timm does.
const LAMB_MAX_NORM: f64 = 1.0;

/// An optimizer with the decay groups of the model's specification, and what it keeps of earlier steps.
#[derive(Debug)]
pub struct Optimizer {
    /// What it keeps for each parameter, by name: `exp_avg` and `exp_avg_sq` (AdamW, LAMB), or `momentum_buffer` (SGD).
    pub kept: Vec<(&'static str, ParamStore)>,
    /// Steps taken.
    pub steps: u64,
    /// Factors of the learning rate, one a parameter; empty for none.
    pub lr_scale: Vec<f64>,
    /// Parameters that do not decay though their model lets them, by position; empty for none.
    pub no_decay: Vec<bool>,
    numbers: Numbers,
}

impl Optimizer {
    /// Zero moments for the parameters of `specs`.
    ///
    /// # Errors
    /// Returns an error if there is no memory for them.
    pub fn new(specs: &[ParamSpec], numbers: &Numbers) -> Result<Self> {
        let names: &[&'static str] = match numbers.kind {
            OptimizerKind::AdamW | OptimizerKind::Lamb => &["exp_avg", "exp_avg_sq"],
            OptimizerKind::Sgd => &["momentum_buffer"],
        };
        // Buffers have no moments, but a store has the model's whole list: give them an element each.
        let moments: Vec<ParamSpec> = specs.iter().map(moment_of).collect();
        let zeros = |&name: &&'static str| Ok((name, ParamStore::zeros(&moments, DType::F32, &Device::Cpu)?));
        Ok(Self {
            kept: names.iter().map(zeros).collect::<Result<_>>()?,
            steps: 0,
            lr_scale: Vec::new(),
            no_decay: Vec::new(),
            numbers: numbers.clone(),
        })
    }

    /// Which optimizer it is.
    #[must_use]
    pub fn kind(&self) -> OptimizerKind {
        self.numbers.kind
    }

    /// The norm of all gradients together that the optimizer itself divides larger ones by.
    #[must_use]
    pub fn own_limit(&self) -> Option<f64> {
        (self.numbers.kind == OptimizerKind::Lamb).then_some(LAMB_MAX_NORM)
    }

    /// One step with these gradients.
    ///
    /// # Errors
    /// Returns an error if a gradient has the wrong shape.
    pub fn step(
        &mut self,
        specs: &[ParamSpec],
        params: &ParamStore,
        gradients: &Gradients,
        lr: f64,
        weight_decay: f64,
    ) -> Result<()> {
        self.step_with(specs, params, gradients, (lr, weight_decay), None)
    }

    /// As [`Self::step`], with gradients multiplied by what [`ops::clip_factor`] gave; nothing where that is zero.
    ///
    /// # Errors
    /// Returns an error if a gradient has the wrong shape.
    pub fn step_by(
        &mut self,
        specs: &[ParamSpec],
        params: &ParamStore,
        gradients: &Gradients,
        rates: (f64, f64),
        factor: &ops::ClipFactor,
    ) -> Result<()> {
        self.step_with(specs, params, gradients, rates, Some(factor))
    }

    fn step_with(
        &mut self,
        specs: &[ParamSpec],
        params: &ParamStore,
        gradients: &Gradients,
        (lr, weight_decay): (f64, f64),
        factor: Option<&ops::ClipFactor>,
    ) -> Result<()> {
        self.steps += 1;
        let Numbers { betas: (beta1, beta2), eps, momentum, kind, .. } = self.numbers;
        let step = self.steps;
        let last = self.kept.len() - 1;
        let decays = |id: ParamId| {
            specs[id.index()].decay && !self.no_decay.get(id.index()).is_some_and(|&exempt| exempt)
        };
        let stepped = |(id, grad)| ops::Stepped {
            param: params.get(id),
            grad,
            kept: [0, 1].map(|i| self.kept[i.min(last)].1.get(id)),
            lr: lr * self.lr_scale.get(id.index()).copied().unwrap_or(1.0),
            weight_decay: if decays(id) { weight_decay } else { 0.0 },
        };
        let tensors: Vec<ops::Stepped> = gradients.iter().map(stepped).collect();
        match kind {
            OptimizerKind::AdamW => {
                ops::adamw_all(&tensors, &ops::AdamW { lr, beta1, beta2, eps, weight_decay, step }, factor)?;
            }
            OptimizerKind::Lamb => {
                let (always_adapt, trust_clip) = (false, false);
                let rule = ops::Lamb { lr, beta1, beta2, eps, weight_decay, step, always_adapt, trust_clip };
                ops::lamb_all(&tensors, &rule, factor)?;
            }
            OptimizerKind::Sgd => {
                ops::sgd_all(
                    &tensors,
                    &ops::Sgd { lr, momentum, nesterov: true, weight_decay, step },
                    factor,
                )?;
            }
        }
        Ok(())
    }

    /// Follows a change of the model's input size.
    ///
    /// # Errors
    /// Returns an error if a moment does not have the shape that the change starts from.
    pub fn resample(&mut self, change: &Resample) -> Result<()> {
        Ok(self.kept.iter_mut().try_for_each(|(_, store)| change.apply_in(store))?)
    }
}

/// The specification of a parameter's moment; a scalar for what is not trained.
pub(crate) fn moment_of(spec: &ParamSpec) -> ParamSpec {
    let shape = if spec.kind == ParamKind::Parameter { spec.shape.clone() } else { Vec::new() };
    ParamSpec { shape, ..spec.clone() }
}
