//! Cosine learning-rate curves: the reference's table with one value per step, and one over the
//! compute of a run.

use crate::error::{Result, ScheduleError};
use std::f64::consts::PI;

/// The reference's curve, one value per optimizer step: evenly spaced warm-up that reaches `base`
/// on its last step, then a cosine that starts at `base` (so `base` occurs twice) and stops one
/// step short of `last`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReferenceCosine {
    /// Peak.
    pub base: f64,
    /// Limit of the cosine, never reached.
    pub last: f64,
    /// Value of the first warm-up step.
    pub start: f64,
    /// Steps of warm-up.
    pub warm_up_steps: u64,
    /// Steps in all.
    pub total_steps: u64,
}

impl ReferenceCosine {
    /// The curve of the reference's `cosine_scheduler` with its own parameters.
    /// `warm_up_steps`, if given, overrides the length that `warm_up_epochs` sets.
    ///
    /// # Errors
    /// [`ScheduleError::NotReference`] when the warm-up is longer than the run, or its steps are
    /// given with `warm_up_epochs` = 0: the reference stops there too.
    pub fn new(
        (base, last): (f64, f64),
        epochs: u64,
        steps_per_epoch: u64,
        warm_up_epochs: u64,
        start: f64,
        warm_up_steps: Option<u64>,
    ) -> Result<Self> {
        let total_steps = epochs.saturating_mul(steps_per_epoch);
        let warm_up = warm_up_steps
            .filter(|&steps| steps > 0)
            .unwrap_or(warm_up_epochs.saturating_mul(steps_per_epoch));
        if warm_up > total_steps || (warm_up_epochs == 0 && warm_up > 0) {
            let reason = format!(
                "a warm-up of {warm_up} steps ({warm_up_epochs} epochs) in a run of {total_steps} steps ({epochs} epochs)"
            );
            return Err(ScheduleError::NotReference { reason });
        }
        Ok(Self { base, last, start, warm_up_steps: warm_up, total_steps })
    }

    /// Value at `step`, counted from 0; past the end, the limit of the cosine.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warm_up_steps {
            return self.warm_up(step);
        }
        let (i, n) = (step - self.warm_up_steps, self.total_steps - self.warm_up_steps);
        if i >= n {
            return self.last;
        }
        self.last + 0.5 * (self.base - self.last) * (1.0 + (PI * i as f64 / n as f64).cos())
    }

    /// Evenly spaced, both ends included; the last is set, not computed, and a single step has the
    /// start value.
    fn warm_up(&self, step: u64) -> f64 {
        match self.warm_up_steps - 1 {
            0 => self.start,
            gaps if step == gaps => self.base,
            gaps => step as f64 * ((self.base - self.start) / gaps as f64) + self.start,
        }
    }

    /// All values.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        (0..self.total_steps).map(|step| self.at(step))
    }
}

/// Returns the learning rate after `done` (0 to 1) of the run's compute: linear from 0 to `peak`
/// during `warm_up`, then one cosine to `last` (method section 3). Continuous, whatever the stages.
#[must_use]
pub fn cosine_in_compute(peak: f64, last: f64, warm_up: f64, done: f64) -> f64 {
    if done < warm_up {
        return peak * done / warm_up;
    }
    if warm_up >= 1.0 {
        return peak;
    }
    last + 0.5 * (peak - last) * (1.0 + (PI * (done - warm_up) / (1.0 - warm_up)).cos())
}
