//! Position of a run relative to its plan, which is at another step if the plan was changed during
//! the run.

use std::ops::Range;

use efficienttrain_schedule::{Plan, StepSettings};

use crate::checkpoint::offset::PlanOffset;
use crate::checkpoint::record::RunRecord;
use crate::config::interval::Position;
use crate::config::train::TrainConfig;
use crate::data::loader::request::BatchRequest;
use crate::data::loader::request::{replay_warmup_steps, requests};
use crate::error::{Error, Result};
use crate::run::Run;

impl Run {
    /// Returns the number of optimizer steps at the end of the run, including those before a change
    /// of plan.
    pub fn total_steps(&self) -> u64 {
        self.plan.total_steps().saturating_add_signed(self.offset.steps)
    }

    /// Takes the position of a checkpoint whose configuration may have another plan.
    ///
    /// # Errors
    /// Returns an error if the plan of the run has less compute than the checkpoint has spent.
    pub(crate) fn take_position_of(&mut self, record: &RunRecord) -> Result<()> {
        let before = record.config.plan(record.train_images)?;
        self.offset = moved(&self.plan, &self.config, &before, record)?;
        if before.stages() == self.plan.stages() {
            return Ok(());
        }
        let spent = self.plan.compute_before(self.offset.plan_step(record.step))?;
        self.notes.push(format!(
            "the plan has changed: with {spent:.2} of {:.2} epochs of compute spent, {} of its {} steps are left",
            self.plan.equivalent_epochs(),
            self.total_steps() - record.step,
            self.plan.total_steps()
        ));
        // Converts the compute of earlier evaluations to the unit of the plan.
        let unit = (f64::from(record.config.base_size) / f64::from(self.config.base_size)).powi(2);
        self.history.evals.iter_mut().for_each(|eval| eval.equivalent_epochs *= unit);
        Ok(())
    }

    /// Returns the settings of a step of the run.
    pub(crate) fn settings(&self, step: u64) -> Result<StepSettings> {
        Ok(StepSettings { step, ..self.plan.at(self.offset.plan_step(step))? })
    }

    /// Returns true if a stage of the plan starts with a step of the run.
    pub(crate) fn starts_stage(&self, s: &StepSettings) -> bool {
        self.plan.stages()[s.stage].first_step == self.offset.plan_step(s.step)
    }

    /// Returns the loader requests of this process for steps of the run.
    pub(crate) fn requests(
        &self,
        steps: Range<u64>,
    ) -> Result<impl Iterator<Item = BatchRequest> + Send + use<>> {
        let own = self.group.own_slots();
        Ok(self.requests_of_all(steps)?.filter(move |request| own.contains(&request.slot)))
    }

    /// Returns the loader requests of all processes for steps of the run.
    pub(crate) fn requests_of_all(
        &self,
        steps: Range<u64>,
    ) -> Result<impl Iterator<Item = BatchRequest> + Send + use<>> {
        let offset = self.offset;
        let moved = move |r: BatchRequest| BatchRequest { first_sample: offset.sample(r.first_sample), ..r };
        let steps = offset.plan_step(steps.start)..offset.plan_step(steps.end);
        Ok(requests(&self.plan, steps)?.map(moved))
    }

    /// Returns the number of images that fill the replay buffer before the first step.
    pub(crate) fn refill_images(&self) -> Result<u64> {
        let steps = replay_warmup_steps(&self.plan, self.offset.plan_step(self.step))?;
        Ok(self.plan.samples_before(steps.end)? - self.plan.samples_before(steps.start)?)
    }

    /// Returns the position of the run before a step.
    pub(crate) fn position_at(&self, step: u64) -> Result<Position> {
        let (images, at) = (self.sources.train.len() as f64, self.offset.plan_step(step));
        let compute = if at == self.plan.total_steps() { 1.0 } else { self.plan.at(at)?.compute_fraction };
        let samples = self.offset.sample(self.plan.samples_before(at)?);
        Ok(Position { steps: step, epochs: samples as f64 / images, compute })
    }
}

/// Returns the offset for a run of `plan` that continues the run of `record`, whose plan was
/// `before`: after the same compute, and at the same position in the sample order.
///
/// # Errors
/// Returns an error if `plan` has less compute than has been spent.
fn moved(plan: &Plan, config: &TrainConfig, before: &Plan, record: &RunRecord) -> Result<PlanOffset> {
    let (old_step, total) = (record.offset.plan_step(record.step), plan.total_steps());
    // An epoch costs as the square of the base size.
    let unit = (f64::from(record.config.base_size) / f64::from(config.base_size)).powi(2);
    let spent = before.compute_before(old_step)? * unit;
    // Both plans are rounded to whole steps.
    let of_last_step = |plan: &Plan| {
        let last = plan.stages().iter().rfind(|stage| stage.steps > 0);
        last.map_or(0.0, |stage| stage.equivalent_epochs / stage.steps as f64)
    };
    if spent > plan.equivalent_epochs() + of_last_step(plan).max(of_last_step(before) * unit) {
        let what = format!(
            "the checkpoint is at step {} and has spent {spent:.2} epochs of compute at {} pixels, but the run now \
             ends after {:.2}; raise option `epochs`",
            record.step,
            config.base_size,
            plan.equivalent_epochs()
        );
        return Err(Error::config("resume", what));
    }
    let step = plan.step_at_compute(spent).min(total);
    let samples = record.offset.sample(before.samples_before(old_step)?);
    let ahead = |run: u64, plan: u64| run.cast_signed().saturating_sub(plan.cast_signed());
    Ok(PlanOffset { steps: ahead(record.step, step), samples: ahead(samples, plan.samples_before(step)?) })
}
