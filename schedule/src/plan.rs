//! The plan: every optimizer step of a run, made before the run starts.

use crate::error::{Result, ScheduleError};
use crate::options::{PlanOptions, Rounding};
use crate::recipe::Recipe;
use crate::rounding::{self, PlanStage};
use serde::{Deserialize, Serialize};

/// A recipe turned into optimizer steps for one data set and machine.
///
/// It is stored with its recipe and options. Reading it makes the plan again and refuses a stored
/// plan that differs.
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
    /// A field out of range in the recipe or options; a batch larger than the data; a budget below
    /// half a step; a size without a cost; or, with [`Rounding::Reference`], a request the
    /// launchers cannot express.
    pub fn new(recipe: &Recipe, options: PlanOptions) -> Result<Self> {
        recipe.validate()?;
        options.validate()?;
        let batched = options.apply_batch(recipe)?;
        options.check_batches(&batched)?;
        let drop_path = recipe.drop_path_rate(options.equivalent_epochs)?;
        let mut stages = rounding::blank(&batched, &options)?;
        let least_cost = stages.iter().map(|stage| stage.cost).fold(1.0, f64::min);
        options.check_budget(least_cost)?;
        match options.rounding {
            Rounding::Exact => rounding::exact(&batched, &options, &mut stages),
            Rounding::Reference => rounding::follow_reference(&batched, &options, &mut stages)?,
        }
        let equivalent_epochs = rounding::accumulate_offsets(&mut stages);
        if stages.iter().all(|stage| stage.steps == 0) {
            let PlanOptions { equivalent_epochs, train_images, .. } = options;
            return Err(ScheduleError::BudgetTooSmall { equivalent_epochs, train_images });
        }
        let warm_up = rounding::warm_up_share(recipe, &stages);
        Ok(Self { recipe: recipe.clone(), options, stages, equivalent_epochs, warm_up, drop_path })
    }

    /// Recipe from which the plan was made.
    #[must_use]
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Options from which the plan was made.
    #[must_use]
    pub fn options(&self) -> &PlanOptions {
        &self.options
    }

    /// The stages, in order. A stage may have 0 steps when the budget is very small.
    #[must_use]
    pub fn stages(&self) -> &[PlanStage] {
        &self.stages
    }

    /// Optimizer steps of the run.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.last().map_or(0, |stage| stage.first_step + stage.steps)
    }

    /// Compute that the plan takes after rounding, in compute epochs.
    #[must_use]
    pub fn equivalent_epochs(&self) -> f64 {
        self.equivalent_epochs
    }

    /// Warm-up as a share (0 to 1) of the run's compute, unless [`LrOver`](crate::LrOver) says
    /// otherwise. Exact plans only: the reference warms up in each stage's own count.
    #[must_use]
    pub fn warm_up_share(&self) -> f64 {
        self.warm_up
    }

    /// Stochastic-depth rate of the run.
    #[must_use]
    pub fn drop_path(&self) -> f64 {
        self.drop_path
    }

    /// Returns the samples consumed before `step`, counted across stages: epoch = count / N and
    /// position = count % N.
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

    /// Returns the compute spent before `step`, in compute epochs.
    ///
    /// # Errors
    /// [`ScheduleError::StepOutOfRange`] past the end; the end itself gives the total.
    pub fn compute_before(&self, step: u64) -> Result<f64> {
        if step > self.total_steps() {
            return Err(ScheduleError::StepOutOfRange { step, total_steps: self.total_steps() });
        }
        let stage = &self.stages[self.stage_of(step)];
        let done = (step - stage.first_step) as f64 / stage.steps.max(1) as f64;
        Ok(stage.equivalent_epochs_before + stage.equivalent_epochs * done)
    }

    /// Returns the step before which the compute spent is nearest to `compute`, in epochs at base
    /// size; the end for more than the run has.
    #[must_use]
    pub fn step_at_compute(&self, compute: f64) -> u64 {
        let ends = |stage: &PlanStage| stage.equivalent_epochs_before + stage.equivalent_epochs;
        let stage = self.stages.iter().find(|stage| stage.steps > 0 && compute < ends(stage));
        let Some(stage) = stage else { return self.total_steps() };
        let done = (compute - stage.equivalent_epochs_before).max(0.0) / stage.equivalent_epochs;
        stage.first_step + (done * stage.steps as f64).round() as u64
    }

    /// Returns the index of the last stage that starts at or before `step`, except stages without
    /// steps.
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
