//! The settings of one optimizer step.

use crate::curve::RunProgress;
use crate::error::{Result, ScheduleError};
use crate::optimizer::LrOver;
use crate::plan::Plan;
use crate::stage::{Order, Replay};
use serde::Serialize;

/// Everything the training loop sets before one optimizer step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct StepSettings {
    /// The step, counted from 0.
    pub step: u64,
    /// Index of its stage.
    pub stage: usize,
    /// B: side of the low-frequency crop, in pixels.
    pub size: u32,
    /// RandAugment magnitude, 0 to 10.
    pub magnitude: f64,
    /// Order of crop and augmentation.
    pub order: Order,
    /// Images one device trains on per micro-batch, replayed images included.
    pub batch_per_device: u32,
    /// Micro-batches per optimizer step.
    pub accumulation: u32,
    /// Images trained on in this step, over all devices.
    pub global_batch: u64,
    /// Replay buffer of the stage.
    pub replay: Replay,
    /// Learning rate.
    pub lr: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Stochastic-depth rate.
    pub drop_path: f64,
    /// Decay of the weight average, if one is kept.
    pub ema_decay: Option<f64>,
    /// Samples consumed before this step; the step takes `fresh_samples` from here on.
    pub samples_before: u64,
    /// Samples this step consumes, over all devices.
    pub fresh_samples: u64,
    /// Passes over the data finished before this step: `samples_before` / N.
    pub epoch: u64,
    /// Position in the sample order of that pass: `samples_before` % N.
    pub position: u64,
    /// Share of the run's compute done before this step, 0 to 1.
    pub compute_fraction: f64,
}

impl Plan {
    /// Returns the settings of a step. Cheap: a binary search over the stages and one cosine.
    ///
    /// # Errors
    /// [`ScheduleError::StepOutOfRange`] at or past the end.
    pub fn at(&self, step: u64) -> Result<StepSettings> {
        if step >= self.total_steps() {
            return Err(ScheduleError::StepOutOfRange { step, total_steps: self.total_steps() });
        }
        let index = self.stage_of(step);
        let stage = &self.stages()[index];
        let local = step - stage.first_step;
        let in_stage = local as f64 / stage.steps as f64;
        let done =
            (stage.equivalent_epochs_before + stage.equivalent_epochs * in_stage) / self.equivalent_epochs();
        let samples_before = stage.first_sample + local * stage.fresh_per_step;
        let train_images = self.options().train_images;
        Ok(StepSettings {
            step,
            stage: index,
            size: stage.size,
            magnitude: stage.magnitude.at(in_stage),
            order: stage.order,
            batch_per_device: stage.batch_per_device,
            accumulation: stage.accumulation,
            global_batch: stage.images_per_step,
            replay: stage.replay,
            lr: self.lr(index, local, done, samples_before as f64 / train_images as f64)?,
            weight_decay: self.recipe().optimizer.weight_decay,
            drop_path: self.drop_path(),
            ema_decay: self.recipe().ema_decay,
            samples_before,
            fresh_samples: stage.fresh_per_step,
            epoch: samples_before / train_images,
            position: samples_before % train_images,
            compute_fraction: done,
        })
    }

    fn lr(&self, index: usize, local: u64, done: f64, epochs: f64) -> Result<f64> {
        let (optimizer, stage) = (&self.recipe().optimizer, &self.stages()[index]);
        if let Some(reference) = &stage.reference {
            let cosine = reference.cosine(optimizer.lr, optimizer.min_lr)?;
            return Ok(cosine.at(reference.start_epoch * reference.steps_per_epoch + local));
        }
        let peak =
            optimizer.lr * optimizer.lr_scaling.factor(stage.images_per_step, optimizer.reference_batch);
        let compute = match optimizer.lr_over {
            LrOver::Compute => done,
            LrOver::Shares => self.share_done(index, local as f64 / stage.steps as f64),
        };
        let now = RunProgress { steps: stage.first_step + local, epochs, compute };
        Ok(optimizer.curve.at(peak, optimizer.min_lr.min(peak), self.warm_up_share(), now))
    }

    /// Share of the curriculum done after a fraction of a stage; depends on the stages up to it
    /// alone.
    fn share_done(&self, index: usize, in_stage: f64) -> f64 {
        let stages = &self.recipe().curriculum.stages;
        let before: f64 = stages[..index].iter().map(|stage| stage.share).sum();
        before + stages[index].share * in_stage
    }
}
