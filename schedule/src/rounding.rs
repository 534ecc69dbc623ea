//! Rounding of stages to whole optimizer steps, by either rule.

use crate::curriculum::ShareUnit;
use crate::error::Result;
use crate::optimizer::{LrOver, WarmUp};
use crate::options::PlanOptions;
use crate::recipe::Recipe;
use crate::reference::{self, ReferenceStage};
use crate::stage::{Magnitude, Order, Replay};
use serde::{Deserialize, Serialize};

/// One stage in whole optimizer steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanStage {
    /// B: side of the low-frequency crop, in pixels.
    pub size: u32,
    /// Cost of one image, relative to base size.
    pub cost: f64,
    /// RandAugment magnitude.
    pub magnitude: Magnitude,
    /// Order of crop and augmentation.
    pub order: Order,
    /// Images one device trains on per micro-batch, replayed images included.
    pub batch_per_device: u32,
    /// Micro-batches per optimizer step.
    pub accumulation: u32,
    /// Replay buffer.
    pub replay: Replay,
    /// Images trained on per optimizer step, over all devices.
    pub images_per_step: u64,
    /// Images taken from the sample order per optimizer step: `images_per_step` / replay factor.
    pub fresh_per_step: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// Step of the run at which the stage starts.
    pub first_step: u64,
    /// Samples consumed before the stage.
    pub first_sample: u64,
    /// Passes over the data that the stage trains, replayed images included.
    pub epochs: f64,
    /// Compute, in compute epochs.
    pub equivalent_epochs: f64,
    /// Compute before the stage, in compute epochs.
    pub equivalent_epochs_before: f64,
    /// Stage of the reference's launcher; only with
    /// [`Rounding::Reference`](crate::Rounding::Reference).
    pub reference: Option<ReferenceStage>,
}

/// Makes the stages, without steps yet.
pub(crate) fn blank(recipe: &Recipe, options: &PlanOptions) -> Result<Vec<PlanStage>> {
    let curriculum = &recipe.curriculum;
    let stage = |stage: &crate::Stage| {
        let images_per_step = stage.global_batch(options.devices);
        Ok(PlanStage {
            size: stage.size,
            cost: options.cost.relative(stage.size, curriculum.base_size)?,
            magnitude: stage.magnitude,
            order: stage.order,
            batch_per_device: stage.batch_per_device,
            accumulation: stage.accumulation,
            replay: stage.replay,
            images_per_step,
            fresh_per_step: images_per_step / u64::from(stage.replay.times),
            steps: 0,
            first_step: 0,
            first_sample: 0,
            epochs: 0.0,
            equivalent_epochs: 0.0,
            equivalent_epochs_before: 0.0,
            reference: None,
        })
    };
    curriculum.stages.iter().map(stage).collect()
}

/// A stage that ends in the middle of a step gets the step, even if floating-point arithmetic falls
/// just short of the middle. The rounding error depends on all stages, but a search requires that
/// the first stages have the same steps for every choice of later stages.
const TIE: f64 = 1e-7;

/// Gives each stage the number of steps that brings the run's compute nearest to the planned end of
/// the stage. The next stage compensates for the difference, so the whole run is off by at most
/// half a step (and `TIE` of one).
pub(crate) fn exact(recipe: &Recipe, options: &PlanOptions, stages: &mut [PlanStage]) {
    let costs: Vec<f64> = stages.iter().map(|stage| stage.cost).collect();
    let shares = recipe.curriculum.compute_shares(&costs);
    let images = options.train_images as f64;
    let budget = options.equivalent_epochs * images;
    let (mut share_due, mut done) = (0.0, 0.0);
    let last = stages.len() - 1;
    for (index, (stage, share)) in stages.iter_mut().zip(shares).enumerate() {
        share_due = if index == last { 1.0 } else { share_due + share };
        let step = stage.images_per_step as f64 * stage.cost;
        // Negative only when a large step before went past the end of a short stage; the cast makes
        // it 0.
        stage.steps = ((share_due * budget - done) / step + TIE).round() as u64;
        done += stage.steps as f64 * step;
        stage.epochs = stage.steps as f64 * stage.images_per_step as f64 / images;
    }
}

/// Gives each stage the steps of the reference's launcher.
pub(crate) fn follow_reference(
    recipe: &Recipe,
    options: &PlanOptions,
    stages: &mut [PlanStage],
) -> Result<()> {
    for (stage, launched) in stages.iter_mut().zip(reference::stages(recipe, options)?) {
        stage.steps = launched.steps();
        // The reference counts whole epochs, though each drops the images that do not fill a batch.
        stage.epochs = (launched.epochs_run() * u64::from(stage.replay.times)) as f64;
        stage.reference = Some(launched);
    }
    Ok(())
}

/// Fills in the first step, first sample and compute before each stage; returns the compute of all
/// stages.
pub(crate) fn accumulate_offsets(stages: &mut [PlanStage]) -> f64 {
    let (mut step, mut sample, mut compute) = (0, 0, 0.0);
    for stage in stages {
        (stage.first_step, stage.first_sample, stage.equivalent_epochs_before) = (step, sample, compute);
        stage.equivalent_epochs = stage.epochs * stage.cost;
        step += stage.steps;
        sample += stage.steps * stage.fresh_per_step;
        compute += stage.equivalent_epochs;
    }
    compute
}

/// Returns the length of the warm-up as a share of the quantity over which the learning rate is
/// defined, for exact plans.
pub(crate) fn warm_up_share(recipe: &Recipe, stages: &[PlanStage]) -> f64 {
    // If shares are passes, every pass has the same weight.
    let passes =
        recipe.optimizer.lr_over == LrOver::Shares && recipe.curriculum.share_of == ShareUnit::Epochs;
    let weight = |stage: &PlanStage| if passes { 1.0 } else { stage.cost };
    let total: f64 = stages.iter().map(|stage| stage.epochs * weight(stage)).sum();
    match recipe.optimizer.warm_up {
        WarmUp::None => 0.0,
        WarmUp::Share(share) => share,
        WarmUp::Steps(steps) => {
            let of = |stage: &PlanStage| {
                let inside = steps.saturating_sub(stage.first_step).min(stage.steps);
                stage.equivalent_epochs * inside as f64 / stage.steps.max(1) as f64
            };
            (stages.iter().map(of).sum::<f64>() / total).min(1.0)
        }
        WarmUp::Epochs { epochs, at_most_share } => {
            let (mut left, mut compute) = (epochs, 0.0);
            for stage in stages {
                let passes = stage.epochs.min(left);
                left -= passes;
                compute += passes * weight(stage);
            }
            (compute / total).min(at_most_share)
        }
    }
}
