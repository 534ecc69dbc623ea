//! What a configuration changes of a fresh state.

use std::sync::Arc;

use super::{BadNumbers, LossName, TrainConfig};
use crate::error::Result;
use crate::loss::{BinaryCrossEntropy, CrossEntropy, Loss};
use crate::objective::Classification;
use crate::state::TrainState;

impl TrainConfig {
    /// Sets loss, precision, layer-wise decay, frozen parts and the handling of bad numbers.
    pub(crate) fn apply_to(&self, state: &mut TrainState) -> Result<()> {
        state.objective = Arc::new(Classification(self.loss()));
        state.precision = self.precision;
        state.undo_bad_steps = self.on_bad_numbers != BadNumbers::Stop;
        if self.layer_decay < 1.0 {
            state.decay_layers(self.layer_decay);
        }
        if !self.freeze.is_empty() {
            state.freeze(&self.freeze)?;
        }
        Ok(())
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
