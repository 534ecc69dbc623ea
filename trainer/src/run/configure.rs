//! What a configuration changes of a fresh state.

use std::sync::Arc;

use crate::checkpoint::read::Saved;
use crate::config::train::TrainConfig;
use crate::config::values::{BadNumbers, LossName};
use crate::error::{Error, Result};
use crate::training::loss::{BinaryCrossEntropy, CrossEntropy, Loss};
use crate::training::objective::Classification;
use crate::training::state::TrainState;

impl TrainConfig {
    /// Sets loss, precision, layer-wise decay, frozen parts and the handling of bad numbers.
    pub(crate) fn apply_to(&self, state: &mut TrainState) -> Result<()> {
        state.objective = Arc::new(Classification(self.loss()));
        state.precision = self.precision;
        state.ema_warmup = self.ema_warmup;
        state.undo_bad_steps = self.on_bad_numbers != BadNumbers::Stop;
        if self.layer_decay < 1.0 {
            state.decay_layers(self.layer_decay);
        }
        if !self.freeze.is_empty() {
            state.freeze(&self.freeze)?;
        }
        if !self.no_decay.is_empty() {
            state.exempt_from_decay(&self.no_decay)?;
        }
        Ok(())
    }

    /// Whether `--freeze` names a parameter.
    pub(crate) fn freezes(&self, name: &str) -> bool {
        self.freeze.iter().any(|pattern| wildmatch::WildMatch::new(pattern).matches(name))
    }

    /// The file of `--init`.
    pub(crate) fn first_weights(&self) -> Result<Option<Saved>> {
        let named = |error: Error| match error {
            Error::Io { path, source } => {
                Error::config("init", format!("cannot read {}: {source}", path.display()))
            }
            other => other,
        };
        self.init.as_deref().map(Saved::open).transpose().map_err(named)
    }

    fn loss(&self) -> Arc<dyn Loss> {
        match self.loss {
            LossName::CrossEntropy => Arc::new(CrossEntropy),
            LossName::Bce => Arc::new(BinaryCrossEntropy {
                threshold: self.bce_threshold.map(|threshold| threshold as f32),
            }),
        }
    }
}
