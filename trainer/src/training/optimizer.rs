//! Optimizers of a run: AdamW, LAMB or SGD over all parameters of a model.

use candle_core::{DType, Device};
use efficienttrain_models::{Gradients, ParamId, ParamKind, ParamSpec, ParamStore, Resample, ops};
use efficienttrain_schedule::{Optimizer as Numbers, OptimizerKind};

use crate::error::Result;

/// Above this norm, LAMB divides all gradients by their common norm, like in timm.
const LAMB_MAX_NORM: f64 = 1.0;

/// Optimizer with the weight-decay groups of the model, and its state.
#[derive(Debug)]
pub struct Optimizer {
    /// State of each parameter by name: `exp_avg` and `exp_avg_sq` (AdamW, LAMB), or
    /// `momentum_buffer` (SGD).
    pub moments: Vec<(&'static str, ParamStore)>,
    /// Number of steps taken.
    pub steps: u64,
    /// Learning-rate factors, one per parameter; empty for none.
    pub lr_scale: Vec<f64>,
    /// Parameters without weight decay in addition to the model's own, by position; empty for none.
    pub no_decay: Vec<bool>,
    numbers: Numbers,
}

impl Optimizer {
    /// Creates an optimizer with zero moments for the parameters of `specs`.
    ///
    /// # Errors
    /// Returns an error if there is not enough memory.
    pub fn new(specs: &[ParamSpec], numbers: &Numbers) -> Result<Self> {
        let names: &[&'static str] = match numbers.kind {
            OptimizerKind::AdamW | OptimizerKind::Lamb => &["exp_avg", "exp_avg_sq"],
            OptimizerKind::Sgd => &["momentum_buffer"],
        };
        // Buffers have no moments, but a store has entries for the model's whole list: gives them
        // one element each.
        let moments: Vec<ParamSpec> = specs.iter().map(moment_of).collect();
        let zeros = |&name: &&'static str| Ok((name, ParamStore::zeros(&moments, DType::F32, &Device::Cpu)?));
        Ok(Self {
            moments: names.iter().map(zeros).collect::<Result<_>>()?,
            steps: 0,
            lr_scale: Vec::new(),
            no_decay: Vec::new(),
            numbers: numbers.clone(),
        })
    }

    /// Returns the kind of the optimizer.
    #[must_use]
    pub fn kind(&self) -> OptimizerKind {
        self.numbers.kind
    }

    /// Returns the optimizer's own limit of the norm of all gradients.
    #[must_use]
    pub fn own_limit(&self) -> Option<f64> {
        (self.numbers.kind == OptimizerKind::Lamb).then_some(LAMB_MAX_NORM)
    }

    /// Takes one step with gradients multiplied by the result of [`ops::clip_factor`], and moves the
    /// averages of the parameters that have a gradient, with the given decay. Changes nothing but the
    /// count if the factor is zero.
    ///
    /// # Errors
    /// Returns an error if a gradient has the wrong shape.
    pub fn step(
        &mut self,
        specs: &[ParamSpec],
        params: &ParamStore,
        gradients: &Gradients,
        (lr, weight_decay): (f64, f64),
        factor: &ops::ClipFactor,
        average: Option<(&ParamStore, f64)>,
    ) -> Result<()> {
        self.steps += 1;
        let Numbers { betas: (beta1, beta2), eps, momentum, kind, .. } = self.numbers;
        let step = self.steps;
        let last = self.moments.len() - 1;
        let decays = |id: ParamId| {
            specs[id.index()].decay && !self.no_decay.get(id.index()).is_some_and(|&exempt| exempt)
        };
        let stepped = |(id, grad)| ops::Stepped {
            param: params.get(id),
            grad,
            kept: [0, 1].map(|i| self.moments[i.min(last)].1.get(id)),
            lr: lr * self.lr_scale.get(id.index()).copied().unwrap_or(1.0),
            weight_decay: if decays(id) { weight_decay } else { 0.0 },
            average: average.map(|(store, decay)| ops::Average { tensor: store.get(id), decay }),
        };
        let tensors: Vec<ops::Stepped> = gradients.iter().map(stepped).collect();
        match kind {
            OptimizerKind::AdamW => {
                ops::adamw_all(
                    &tensors,
                    &ops::AdamW { lr, beta1, beta2, eps, weight_decay, step },
                    Some(factor),
                )?;
            }
            OptimizerKind::Lamb => {
                let (always_adapt, trust_clip) = (false, false);
                let rule = ops::Lamb { lr, beta1, beta2, eps, weight_decay, step, always_adapt, trust_clip };
                ops::lamb_all(&tensors, &rule, Some(factor))?;
            }
            OptimizerKind::Sgd => {
                ops::sgd_all(
                    &tensors,
                    &ops::Sgd { lr, momentum, nesterov: true, weight_decay, step },
                    Some(factor),
                )?;
            }
        }
        Ok(())
    }

    /// Adapts to a change of the model's input size.
    ///
    /// # Errors
    /// Returns an error if a moment does not have the shape before the change.
    pub fn resample(&mut self, change: &Resample) -> Result<()> {
        Ok(self.moments.iter_mut().try_for_each(|(_, store)| change.apply_in(store))?)
    }
}

/// Returns the specification of a parameter's moment; a scalar for buffers.
pub(crate) fn moment_of(spec: &ParamSpec) -> ParamSpec {
    let shape = if spec.kind == ParamKind::Parameter { spec.shape.clone() } else { Vec::new() };
    ParamSpec { shape, ..spec.clone() }
}
