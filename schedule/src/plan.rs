//! The plan: every optimiser step of a run, made before it starts.

use crate::curriculum::{Magnitude, Order, Replay};
use crate::error::{Result, ScheduleError};
use crate::options::{PlanOptions, Rounding};
use crate::recipe::{Recipe, WarmUp};
use crate::reference::{self, ReferenceStage};
use serde::{Deserialize, Serialize};

/// One stage in whole optimiser steps.
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
    /// Micro-batches per optimiser step.
    pub accumulation: u32,
    /// Replay buffer.
    pub replay: Replay,
    /// Images trained on per optimiser step, over all devices.
    pub images_per_step: u64,
    /// Images taken from the sample order per optimiser step: `images_per_step` / replay factor.
    pub fresh_per_step: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Step of the run at which the stage starts.
    pub first_step: u64,
    /// Samples consumed before the stage.
    pub first_sample: u64,
    /// Passes over the data that the stage trains, replayed images included.
    pub epochs: f64,
    /// Compute, in epochs at base size.
    pub equivalent_epochs: f64,
    /// Compute before the stage, in epochs at base size.
    pub equivalent_epochs_before: f64,
    /// What the reference's launcher would say; only with [`Rounding::Reference`].
    pub reference: Option<ReferenceStage>,
}

/// A recipe turned into optimiser steps for one data set and machine.
///
/// Serialises with the recipe and options it was made from; reading it back makes it anew and refuses one that differs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "PlanRecord", try_from = "PlanRecord")]
pub struct Plan {
    recipe: Recipe,
    options: PlanOptions,
    stages: Vec<PlanStage>,
    equivalent_epochs: f64,
    warm_up: f64,
    drop_path: f64,
}

/// Stored form of a [`Plan`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRecord {
    recipe: Recipe,
    options: PlanOptions,
    stages: Vec<PlanStage>,
}

impl Plan {
    /// Plans a run.
    ///
    /// # Errors
    /// A field out of range in the recipe or options; a batch larger than the data; a budget below half a step; a size
    /// without a cost; or, with [`Rounding::Reference`], a request the launchers cannot express.
    pub fn new(recipe: &Recipe, options: PlanOptions) -> Result<Self> {
        recipe.validate()?;
        options.validate()?;
        let batched = options.apply_batch(recipe)?;
        options.check_batches(&batched)?;
        let drop_path = recipe.drop_path_rate(options.equivalent_epochs)?;
        let mut stages = blank_stages(&batched, &options)?;
        let least_cost = stages.iter().map(|stage| stage.cost).fold(1.0, f64::min);
        options.check_budget(least_cost)?;
        match options.rounding {
            Rounding::Exact => exact(&batched, &options, &mut stages),
            Rounding::Reference => follow_reference(&batched, &options, &mut stages)?,
        }
        let equivalent_epochs = chain(&mut stages);
        if stages.iter().all(|stage| stage.steps == 0) {
            let PlanOptions { equivalent_epochs, train_images, .. } = options;
            return Err(ScheduleError::BudgetTooSmall { equivalent_epochs, train_images });
        }
        let warm_up = warm_up_share(recipe.optimiser.warm_up, &stages, equivalent_epochs);
        Ok(Self { recipe: recipe.clone(), options, stages, equivalent_epochs, warm_up, drop_path })
    }

    /// The recipe the plan was made from.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The options the plan was made from.
    #[must_use]
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }

    /// The stages, in order. A stage may have 0 steps when the budget is very small.
    #[must_use]
    pub fn stages(&self) -> &[PlanStage] {
        &self.stages
    }

    /// Optimiser steps of the run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.last().map_or(0, |stage| stage.first_step + stage.steps)
    }

    /// Compute the plan really takes, in epochs at base size.
    #[must_use]
    pub fn equivalent_epochs(&self) -> f64 {
        self.equivalent_epochs
    }

    /// Warm-up as a share (0 to 1) of the run's compute. Exact plans only: the reference warms up in each stage's own count.
    #[must_use]
    pub fn warm_up_share(&self) -> f64 {
        self.warm_up
    }

    /// Stochastic-depth rate of the run.
    #[must_use]
    pub fn drop_path(&self) -> f64 {
        self.drop_path
    }

    /// Samples consumed before `step`: epoch = count / N and position = count % N, running on across stages.
    ///
    /// # Errors
    /// [`ScheduleError::StepOutOfRange`] past the end; the end itself gives the total.
    pub fn samples_before(&self, step: u64) -> Result<u64> {
        if step > self.total_steps() {
            return Err(ScheduleError::StepOutOfRange { step, total_steps: self.total_steps() });
        }
        let stage = &self.stages[self.stage_of(step)];
        Ok(stage.first_sample + (step - stage.first_step) * stage.fresh_per_step)
    }

    /// Index of the last stage that starts at or before `step`; stages without steps are passed over.
    pub(crate) fn stage_of(&self, step: u64) -> usize {
        let after = self.stages.partition_point(|stage| stage.first_step <= step);
        let holds = |&index: &usize| self.stages[index].steps > 0;
        (0..after).rev().find(holds).unwrap_or(0)
    }
}

impl From<Plan> for PlanRecord {
    fn from(plan: Plan) -> Self {
        Self { recipe: plan.recipe, options: plan.options, stages: plan.stages }
    }
}

impl TryFrom<PlanRecord> for Plan {
    type Error = ScheduleError;

    fn try_from(record: PlanRecord) -> Result<Self> {
        let plan = Self::new(&record.recipe, record.options)?;
        let differs = |index: &usize| plan.stages.get(*index) != record.stages.get(*index);
        match (0..plan.stages.len().max(record.stages.len())).find(differs) {
            Some(stage) => Err(ScheduleError::PlanMismatch { stage }),
            None => Ok(plan),
        }
    }
}

/// Stages without steps yet.
fn blank_stages(recipe: &Recipe, options: &PlanOptions) -> Result<Vec<PlanStage>> {
    let curriculum = &recipe.curriculum;
    let blank = |stage: &crate::Stage| {
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
    curriculum.stages.iter().map(blank).collect()
}

/// Gives each stage the steps that bring the run's compute nearest to where the stage should end. What one stage is
/// over or under, the next makes up for; so the whole run is off by at most half a step.
fn exact(recipe: &Recipe, options: &PlanOptions, stages: &mut [PlanStage]) {
    let costs: Vec<f64> = stages.iter().map(|stage| stage.cost).collect();
    let shares = recipe.curriculum.compute_shares(&costs);
    let images = options.train_images as f64;
    let budget = options.equivalent_epochs * images;
    let (mut share_due, mut done) = (0.0, 0.0);
    let last = stages.len() - 1;
    for (index, (stage, share)) in stages.iter_mut().zip(shares).enumerate() {
        share_due = if index == last { 1.0 } else { share_due + share };
        let step = stage.images_per_step as f64 * stage.cost;
        // Negative only when a large step before went past the end of a short stage; the cast makes it 0.
        stage.steps = ((share_due * budget - done) / step).round() as u64;
        done += stage.steps as f64 * step;
        stage.epochs = stage.steps as f64 * stage.images_per_step as f64 / images;
    }
}

fn follow_reference(recipe: &Recipe, options: &PlanOptions, stages: &mut [PlanStage]) -> Result<()> {
    for (stage, launched) in stages.iter_mut().zip(reference::stages(recipe, options)?) {
        stage.steps = launched.steps();
        // Whole epochs, though each drops the images that do not fill a batch: so the reference counts.
        stage.epochs = (launched.epochs_run() * u64::from(stage.replay.times)) as f64;
        stage.reference = Some(launched);
    }
    Ok(())
}

/// Fills in what each stage takes over from the one before; returns the compute of all.
fn chain(stages: &mut [PlanStage]) -> f64 {
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

fn warm_up_share(rule: WarmUp, stages: &[PlanStage], total: f64) -> f64 {
    match rule {
        WarmUp::None => 0.0,
        WarmUp::Share(share) => share,
        WarmUp::Epochs { epochs, at_most_share } => {
            let (mut left, mut compute) = (epochs, 0.0);
            for stage in stages {
                let passes = stage.epochs.min(left);
                left -= passes;
                compute += passes * stage.cost;
            }
            (compute / total).min(at_most_share)
        }
    }
}
