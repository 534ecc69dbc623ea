//! Adapting a recipe to another base size, another machine, or another number of stages.

use crate::curriculum::Curriculum;
use crate::error::{Result, count, field};
use crate::optimizer::LrScaling;
use crate::recipe::Recipe;
use crate::stage::{Magnitude, Order, Replay, Stage};

impl Recipe {
    /// Changes the full size: every size keeps its ratio to base (96/224, 160/224 ...), rounded to
    /// the nearest multiple of `multiple` (2 for convolutional nets, the patch size for DeiT, 32
    /// for Swin).
    ///
    /// # Errors
    /// A field error when `base_size` is not a multiple of `multiple`.
    pub fn at_base_size(mut self, base_size: u32, multiple: u32) -> Result<Self> {
        count("multiple", multiple, "1 rounds to whole pixels")?;
        count("base_size", base_size, "give the full training size, such as 128")?;
        if !base_size.is_multiple_of(multiple) {
            let hint = "choose a base size the model can take, or another multiple";
            return Err(field("base_size", format!("a multiple of {multiple}"), base_size, hint));
        }
        self.validate()?;
        let ratio = f64::from(base_size) / f64::from(self.curriculum.base_size);
        for stage in &mut self.curriculum.stages {
            let units = (f64::from(stage.size) * ratio / f64::from(multiple)).round().max(1.0);
            // At most base_size, since size <= old base and base_size is a multiple itself.
            stage.size = units as u32 * multiple;
        }
        self.curriculum.base_size = base_size;
        self.validate()?;
        Ok(self)
    }

    /// Sets the same batch in every stage. The learning rate follows by
    /// [`Optimizer::lr_scaling`](crate::Optimizer).
    ///
    /// # Errors
    /// A field error when a number is 0 or a stage's replay factor does not divide the batch.
    pub fn with_batch(mut self, batch_per_device: u32, accumulation: u32) -> Result<Self> {
        for stage in &mut self.curriculum.stages {
            stage.batch_per_device = batch_per_device;
            stage.accumulation = accumulation;
        }
        self.validate()?;
        Ok(self)
    }

    /// Sets the rule by which the peak learning rate follows the global batch.
    #[must_use]
    pub fn with_lr_scaling(mut self, rule: LrScaling) -> Self {
        self.optimizer.lr_scaling = rule;
        self
    }

    /// Sets the order of crop and augmentation in every stage.
    #[must_use]
    pub fn with_order(mut self, order: Order) -> Self {
        for stage in &mut self.curriculum.stages {
            stage.order = order;
        }
        self
    }

    /// Sets replay in every stage below the base size: each prepared image is trained on `times`
    /// times on average, from a buffer of `buffer_batches` mini-batches. 1 for `times` disables
    /// replay.
    ///
    /// # Errors
    /// A field error when a number is 0, or `times` does not divide a stage's batch.
    pub fn with_replay(mut self, times: u32, buffer_batches: u32) -> Result<Self> {
        let base_size = self.curriculum.base_size;
        for stage in self.curriculum.stages.iter_mut().filter(|stage| stage.size < base_size) {
            stage.replay = if times == 1 { Replay::OFF } else { Replay { times, buffer_batches } };
        }
        self.validate()?;
        Ok(self)
    }

    /// Sets the magnitude m(t) = (t/T) * `last`, linear over the run instead of in steps; t has the
    /// unit of the shares.
    ///
    /// # Errors
    /// A field error when `last` is not in 0..=10.
    pub fn with_linear_magnitude(mut self, last: f64) -> Result<Self> {
        self.validate()?;
        let mut done = 0.0;
        for stage in &mut self.curriculum.stages {
            let from = done * last;
            done = (done + stage.share).min(1.0);
            stage.magnitude = Magnitude::Linear { from, to: done * last };
        }
        self.validate()?;
        Ok(self)
    }

    /// Divides the run into `stages` stages of equal share: each takes size and batch from the old
    /// stage that contains its middle, and the magnitude climbs in equal steps from `first` to
    /// `last`.
    ///
    /// # Errors
    /// A field error when `stages` is 0 or above 10000, or a magnitude is not in 0..=10.
    pub fn with_stages(mut self, stages: u32, first: f64, last: f64) -> Result<Self> {
        self.validate()?;
        if !(1..=10_000).contains(&stages) {
            return Err(field("stages", "a whole number in 1..=10000", stages, "the authors use 10"));
        }
        let share = 1.0 / f64::from(stages);
        let stage = |index: u32| {
            let climbed = if stages == 1 { 1.0 } else { f64::from(index) / f64::from(stages - 1) };
            let magnitude = Magnitude::Fixed(first + (last - first) * climbed);
            Stage { share, magnitude, ..stage_at(&self.curriculum, (f64::from(index) + 0.5) * share).clone() }
        };
        self.curriculum.stages = (0..stages).map(stage).collect();
        self.validate()?;
        Ok(self)
    }
}

/// Returns the stage that contains a share of the run; the curriculum must have at least one stage.
pub(crate) fn stage_at(curriculum: &Curriculum, at: f64) -> &Stage {
    let mut end = 0.0;
    let inside = |stage: &&Stage| {
        end += stage.share;
        at < end
    };
    curriculum.stages.iter().find(inside).unwrap_or(&curriculum.stages[curriculum.stages.len() - 1])
}
