//! An update whose result a GPU may not know yet.

use efficienttrain_models::ops;

use crate::config::precision::Precision;
use crate::error::{Error, Result};
use crate::training::loss_scale::LossScale;
use crate::training::step::{Step, StepResult, total};

/// Update that is complete on the CPU, and pending on a GPU.
#[derive(Debug)]
pub(crate) struct PendingUpdate<'a> {
    number: u64,
    step: Step<'a>,
    clip: ops::ClipFactor,
    /// Result, once known.
    result: Option<StepResult>,
}

impl<'a> PendingUpdate<'a> {
    pub(super) fn new(
        number: u64,
        step: Step<'a>,
        clip: ops::ClipFactor,
        result: Option<StepResult>,
    ) -> Self {
        Self { number, step, clip, result }
    }

    /// Waits for the update.
    ///
    /// # Errors
    /// Same as [`Step::update`].
    pub(crate) fn finish(mut self) -> Result<StepResult> {
        self.settle()
    }

    fn settle(&mut self) -> Result<StepResult> {
        if let Some(result) = self.result {
            return Ok(result);
        }
        let (clip, loss) = (self.clip.read()?, total(&self.step.losses)?);
        let (grad_norm, good) = (clip.norm, clip.factor != 0.0);
        let result = StepResult { loss, grad_norm };
        self.result = Some(result);
        let Step { state, buffers, .. } = &mut self.step;
        if good {
            buffers.clear();
        } else {
            // The update has left weights and moments unchanged; dropping the step restores the
            // buffers.
            state.optimizer.steps -= 1;
            state.ema_updates = state.ema_updates.saturating_sub(1);
        }
        let scaled = state.precision == Precision::F16;
        let before = state.loss_scale.scale;
        if scaled {
            state.loss_scale = state.loss_scale.after(good);
        }
        // In half precision, a gradient that overflows at the present scale is not an error of the
        // run.
        let tolerable = scaled && before > LossScale::LEAST && loss.is_finite();
        if !good && !tolerable {
            return Err(Error::NotFinite { step: self.number, loss, grad_norm });
        }
        Ok(result)
    }
}

/// The counters of the state are correct after any update.
impl Drop for PendingUpdate<'_> {
    fn drop(&mut self) {
        let _ = self.settle();
    }
}
