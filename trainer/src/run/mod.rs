//! Training run: all stages of a plan, in one process or as one of several.

pub(crate) mod bad_images;
pub(crate) mod checkpointing;
pub(crate) mod checks;
pub(crate) mod evaluate;
pub(crate) mod init_weights;
pub(crate) mod memory_check;
pub(crate) mod nonfinite;
pub(crate) mod offset;
pub(crate) mod oom;
pub(crate) mod prefetch;
pub(crate) mod resume;
pub(crate) mod setup;
pub(crate) mod shared;
pub(crate) mod sources;
pub(crate) mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use efficienttrain_models::{ParamId, ParamKind, ParamSpec};
use efficienttrain_schedule::{Plan, StepSettings};

use crate::checkpoint::folder::LAST;
use crate::checkpoint::writer::CheckpointWriter;
use crate::config::interval::Position;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::data::loader::Loader;
use crate::data::pipeline::train::TrainPipeline;
use crate::data::source::digest::DataDigest;
use crate::data::source::notes::SplitNotes;
use crate::distributed::buckets::Buckets;
use crate::distributed::control::Phase;
use crate::distributed::group::Group;
use crate::error::Result;
use crate::events::history::History;
use crate::events::{Event, Observer, StageStart, Start, pass_on_notices};
use crate::run::memory_check::largest_on_host;
use crate::run::sources::Sources;
use crate::training::state::TrainState;
use crate::util::disk::check_room;

use crate::checkpoint::offset::PlanOffset;
use crate::run::bad_images::BadImages;
use crate::run::prefetch::Prefetcher;
use crate::run::setup::class_weights;

/// A run and its position.
#[derive(Debug)]
pub struct Run {
    pub(crate) config: TrainConfig,
    pub(crate) options: RunOptions,
    pub(crate) sources: Sources,
    pub(crate) plan: Plan,
    /// Model, weights and optimizer.
    pub state: TrainState,
    /// Evaluations and time so far.
    pub history: History,
    step: u64,
    /// Offset between the counts of the run and those of its plan.
    offset: PlanOffset,
    /// Report of the initial weights.
    init: Option<String>,
    /// Names and labels of the training images.
    data: DataDigest,
    /// Notes to report at the start.
    notes: Vec<String>,
    /// Likely mistakes to report at the start.
    warnings: Vec<String>,
    bad: BadImages,
    stop: Arc<AtomicBool>,
    /// Processes that train together.
    group: Group,
    /// True once all of them know that one was asked to stop.
    stop_agreed: bool,
    /// Gradients on their way to other processes.
    pub(crate) buckets: Buckets,
    writer: Option<CheckpointWriter>,
}

impl Run {
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Returns the options that decide the outcome.
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Returns the options that do not affect the outcome.
    pub fn options(&self) -> &RunOptions {
        &self.options
    }

    /// Returns notes and warnings for the user before training, one per line.
    pub fn remarks(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().map(|note| format!("note: {note}"));
        notes.chain(self.warnings.iter().map(|warning| format!("warning: {warning}")))
    }

    /// Returns the number of optimizer steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Returns a flag that makes [`Self::train`] finish its step, save, and return when set.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Locks the run's folder against other processes, like the start of [`Self::train`].
    ///
    /// # Errors
    /// Returns an error if another process uses the folder, or the disk is not writable or full.
    pub fn claim(&mut self) -> Result<()> {
        if self.writer.is_none() {
            let (options, state) = (&self.options, &self.state);
            // A checkpoint is written before an old one is removed; a resumed run already has its
            // checkpoints.
            let kept = u64::from(options.keep_last.max(1)) + u64::from(options.keep_best);
            let written = options.out.join(LAST).exists();
            let checkpoints = if written { 1 } else { (kept + 1).min(self.checkpoints_at_most()?) };
            check_room(&self.options.out, checkpoints, state.stored_bytes(), state.weight_bytes())?;
            let resumed = (self.step > 0).then_some(self.step);
            self.writer = Some(CheckpointWriter::open(&self.options, resumed, &self.history.ranking())?);
        }
        Ok(())
    }

    /// Trains to the end of the plan, or to that by `--early-stop`, or to the step of `--stop-after`, or until
    /// [`Self::stop_flag`] is set. Returns true if the run is complete.
    ///
    /// # Errors
    /// Returns an error if data, model or disk fail; the newest checkpoint remains.
    pub fn train(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        let total = self.total_steps();
        let last = self.options.stop_after.map_or(total, |n| n.min(total));
        self.options.check_replay(&self.plan, self.group.host_slots())?;
        self.check_batch_norm_mode()?;
        if let Some((step, host)) = largest_on_host(&self.state, &self.plan)? {
            step.check(host)?;
        }
        if self.group.is_first() {
            self.claim()?;
            self.store_config()?;
        }
        observer.observe(&Event::Start(self.start()?))?;
        let mut clock = Instant::now();
        self.evaluate_if_missed(&mut clock, observer)?;
        let mut prefetcher = Prefetcher::new(self.loader(last)?);
        while self.step < last && !self.was_stopped() && self.stalled_since().is_none() {
            let before = self.place()?;
            let mut settings = self.settings(self.step)?;
            settings.lr *= self.lr_factor();
            self.enter_stage(&settings, observer)?;
            let begun = Instant::now();
            let record = match self.train_step(&settings, &mut prefetcher, clock, observer) {
                Err(e) if e.is_out_of_memory() => return Err(self.out_of_memory(&settings)),
                other => other?,
            };
            self.history.step_seconds += begun.elapsed().as_secs_f64();
            self.step += 1;
            if let Some(record) = record {
                observer.observe(&Event::Step(record))?;
            }
            self.tick(&mut clock);
            let evaluated = self.should_evaluate(before)? && self.evaluate(&mut clock, observer)?;
            if self.group.is_first() && self.should_save(before, evaluated)? {
                self.group.enter(Phase::Files, self.step);
                self.save(observer)?;
            }
            self.report_written(observer)?;
            pass_on_notices(observer)?;
        }
        self.tick(&mut clock);
        self.report_early_stop(observer)?;
        self.compare_with_forecast(observer)?;
        self.group.enter(Phase::Files, self.step);
        let complete = if self.group.is_first() { self.finish(observer)? } else { self.is_complete() };
        pass_on_notices(observer)?;
        Ok(complete)
    }

    /// Tells at the end of a run that it has ended early, and why.
    fn report_early_stop(&self, observer: &mut dyn Observer) -> Result<()> {
        let (Some(best), Some(span)) = (self.stalled_since(), self.options.early_stop) else { return Ok(()) };
        let text = format!(
            "stopped early: no evaluation for {span} was better than {:.2}% {} after step {}",
            100.0 * best.score(),
            best.figure().name(),
            best.step
        );
        observer.observe(&Event::Note { text })
    }

    /// Tells at the end of a run whose budget is counted in time how much its steps took.
    fn compare_with_forecast(&self, observer: &mut dyn Observer) -> Result<()> {
        let Some(table) = self.config.cost.seconds() else { return Ok(()) };
        let base = table.of(self.plan.recipe().curriculum.base_size);
        let (Some(base), true, false) = (base, self.step == self.total_steps(), self.group.is_shared())
        else {
            return Ok(());
        };
        let forecast = self.plan.equivalent_epochs() * self.sources.train.len() as f64 * base;
        let took = self.history.step_seconds;
        let off = 100.0 * (took / forecast - 1.0);
        let text = format!("optimizer steps took {took:.1} s, forecast were {forecast:.1} s ({off:+.0}%)");
        observer.observe(&Event::Note { text })
    }

    fn enter_stage(&mut self, s: &StepSettings, observer: &mut dyn Observer) -> Result<()> {
        let stage = &self.plan.stages()[s.stage];
        if self.starts_stage(s) {
            let event = StageStart {
                stage: s.stage,
                stages: self.plan.stages().len(),
                step: s.step,
                steps: stage.steps,
                size: s.size,
                magnitude: s.magnitude,
            };
            observer.observe(&Event::Stage(event))?;
        }
        self.state.resize(s.size as usize)
    }

    /// Creates the loader of all steps from the current one to `last`.
    fn loader(&self, last: u64) -> Result<Loader> {
        // A GPU has time for the final transforms, and raw bytes take a quarter of the transfer.
        let raw_batches = !self.state.device().is_cpu();
        let pipeline = TrainPipeline {
            raw_batches,
            class_weights: class_weights(&self.config, &*self.sources.train)?,
            ..TrainPipeline::new(&self.config, self.plan.recipe())
        };
        let requests = self.requests(self.step..last)?;
        Ok(Loader::train(self.sources.train.clone(), pipeline, requests, self.options.workers())?)
    }

    /// Returns true if the run is at its end: that of its plan, or an earlier one by
    /// `--early-stop`.
    pub(crate) fn is_complete(&self) -> bool {
        self.step == self.total_steps() || self.stalled_since().is_some()
    }

    /// Returns true if the run was asked to stop; in several processes, once all know it.
    pub fn was_stopped(&self) -> bool {
        if self.group.is_shared() { self.stop_agreed } else { self.stop.load(Ordering::Relaxed) }
    }

    /// Adds the time since the last tick to that of the run.
    fn tick(&mut self, clock: &mut Instant) {
        self.history.seconds += clock.elapsed().as_secs_f64();
        *clock = Instant::now();
    }

    fn start(&self) -> Result<Start> {
        let specs = self.state.model.specs().iter().zip(self.state.params.ids());
        let specs: Vec<_> = specs.filter(|(spec, _)| spec.kind == ParamKind::Parameter).collect();
        let frozen = specs.iter().filter(|(_, id)| self.state.is_frozen(*id));
        let train_notes = SplitNotes::of(&*self.sources.train);
        // If both splits are parts of one set, their notes are the same.
        let val_notes = SplitNotes::of(&*self.sources.val);
        let val_notes = if val_notes == train_notes { SplitNotes::default() } else { val_notes };
        let numbers = |(spec, _): &(&ParamSpec, ParamId)| spec.shape.iter().product::<usize>();
        Ok(Start {
            model: self.state.model.name().into(),
            recipe: self.plan.recipe().name.clone(),
            parameters: specs.iter().map(numbers).sum(),
            frozen: frozen.map(numbers).sum(),
            init: self.init.clone(),
            train_images: self.sources.train.len(),
            val_images: self.sources.val.len(),
            classes: self.sources.train.classes().len(),
            multi_label: self.config.multi_label,
            train_notes,
            val_notes,
            first_step: self.step,
            plan_offset: self.offset.steps,
            notes: self.notes.clone(),
            warnings: self.warnings.clone(),
            refill_images: self.refill_images()?,
            plan: self.plan.summary()?,
        })
    }

    /// Returns the largest number of checkpoints on disk, the one being written included.
    fn checkpoints_at_most(&self) -> Result<u64> {
        Ok((self.total_steps() - self.step).saturating_add(1).max(2))
    }

    /// Returns the position before the next step.
    fn place(&self) -> Result<Position> {
        self.position_at(self.step)
    }

    /// Returns the position at the end of the run.
    pub(crate) fn end_position(&self) -> Result<Position> {
        self.position_at(self.total_steps())
    }
}
