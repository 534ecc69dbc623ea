//! What a run tells its observers: one event a line in the log.

pub(crate) mod history;

pub use history::{EvalRecord, History};

use std::ops::Range;
use std::path::PathBuf;

use efficienttrain_schedule::Summary;
use serde::{Deserialize, Serialize};

use crate::data::source::BadImage;
use crate::data::source::notes::SplitNotes;
use crate::error::Result;

/// Something that happened in a run. In the log each is a JSON object with its name under `event`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run begins, or goes on after a stop.
    Start(Start),
    /// A stage begins.
    Stage(StageStart),
    /// An optimizer step is done.
    Step(StepRecord),
    /// The model was evaluated.
    Eval(EvalRecord),
    /// An image could not be read and was replaced by the next in order.
    BadImage(BadImage),
    /// A step whose loss or gradient is not a number.
    #[serde(rename = "bad-numbers")]
    NonFinite(NonFiniteStep),
    /// A checkpoint is on the disk.
    Checkpoint {
        /// Optimizer steps done.
        step: u64,
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint could not be written; the one before stays, and the run goes on.
    CheckpointFailed {
        /// Optimizer steps done.
        step: u64,
        /// Why not.
        reason: String,
    },
    /// All steps are done, or the run stops as asked.
    End {
        /// Optimizer steps done.
        step: u64,
        /// Whether these were all.
        finished: bool,
        /// Wall time over all processes of the run, in seconds.
        seconds: f64,
    },
}

/// The beginning of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// The model.
    pub model: String,
    /// The recipe.
    pub recipe: String,
    /// Parameters, frozen ones too.
    pub parameters: usize,
    /// Of these, parameters that `--freeze` keeps as they are.
    #[serde(default)]
    pub frozen: usize,
    /// What became of the weights that the run began with.
    #[serde(default)]
    pub init: Option<String>,
    /// Training images.
    pub train_images: usize,
    /// Evaluation images.
    pub val_images: usize,
    /// Classes.
    pub classes: usize,
    /// What the training images lack.
    #[serde(default, skip_serializing_if = "SplitNotes::is_empty")]
    pub train_notes: SplitNotes,
    /// What the evaluation images lack; empty where they are a part of the training images' set.
    #[serde(default, skip_serializing_if = "SplitNotes::is_empty")]
    pub val_notes: SplitNotes,
    /// The first step, above 0 after a stop.
    pub first_step: u64,
    /// Steps that the run is ahead of its plan: other than 0 where the plan was changed on the way.
    #[serde(default)]
    pub plan_offset: i64,
    /// What is worth knowing about the run before it trains.
    #[serde(default)]
    pub notes: Vec<String>,
    /// What looks like a mistake.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Images that are prepared again to fill the replay buffer as it was at the stop.
    pub refill_images: u64,
    /// The plan.
    pub plan: Summary,
}

impl Start {
    /// Optimizer steps at the end of the run.
    pub fn total_steps(&self) -> u64 {
        self.plan.total_steps.saturating_add_signed(self.plan_offset)
    }

    /// Steps of the run in each stage of the plan; those of stages before a change of plan are not the plan's.
    pub fn stage_steps(&self) -> Vec<Range<u64>> {
        let mut begin = 0u64;
        let run_step = |plan_step: u64| plan_step.saturating_add_signed(self.plan_offset);
        let range = |steps: u64| {
            let range = run_step(begin)..run_step(begin + steps);
            begin += steps;
            range
        };
        self.plan.stages.iter().map(|stage| stage.steps).map(range).collect()
    }
}

/// The beginning of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStart {
    /// The stage, counted from 0.
    pub stage: usize,
    /// Number of stages.
    pub stages: usize,
    /// Its first step.
    pub step: u64,
    /// Its number of steps.
    pub steps: u64,
    /// Edge of the pictures, in pixels.
    pub size: u32,
    /// RandAugment magnitude at its beginning.
    pub magnitude: f64,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, counted from 0.
    pub step: u64,
    /// Its stage.
    pub stage: usize,
    /// Edge of the pictures, in pixels.
    pub size: u32,
    /// RandAugment magnitude.
    pub magnitude: f64,
    /// Learning rate.
    pub lr: f64,
    /// Loss, averaged over the step's images.
    #[serde(with = "crate::util::float_serde")]
    pub loss: f64,
    /// Norm of all gradients, before clipping; not finite in a step of half precision that was left out.
    #[serde(with = "crate::util::float_serde")]
    pub grad_norm: f64,
    /// Images of the step.
    pub images: u64,
    /// Of these, images that were decoded and augmented for it; the others come from the replay buffer.
    pub fresh_images: u64,
    /// Wall time of the step, in seconds.
    pub seconds: f64,
    /// Of that, time spent waiting for the loader, in seconds.
    pub data_seconds: f64,
    /// Share of the time of the loader's threads that went into preparing images during the step, 0 to 1; they count a
    /// batch when it is ready, so it may pass 1 in a single step.
    pub loader_load: f64,
    /// Passes over the training set done after the step.
    pub epoch: f64,
    /// Share of the run's compute done after the step, 0 to 1.
    pub compute: f64,
    /// Wall time of the run after the step, over all processes, evaluations included, in seconds.
    pub elapsed: f64,
}

/// A step whose loss or gradient is not a number. Numbers are texts here: JSON has no `NaN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonFiniteStep {
    /// The step, counted from 0.
    pub step: u64,
    /// Its stage, counted from 0.
    pub stage: usize,
    /// The loss.
    pub loss: String,
    /// The norm of all gradients.
    pub grad_norm: String,
    /// The images, by the names of their source.
    pub images: Vec<String>,
    /// Where the batch is kept for inspection.
    pub kept: PathBuf,
    /// What the run does now.
    pub action: String,
}

/// Something that wants to know what happens in a run: a log, a progress bar, a test.
pub trait Observer {
    /// Takes an event.
    ///
    /// # Errors
    /// An error ends the run; what was saved stays.
    fn observe(&mut self, event: &Event) -> Result<()>;
}

/// Several observers, one after the other.
impl Observer for Vec<Box<dyn Observer>> {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.observe(event))
    }
}

/// Nobody.
impl Observer for () {
    fn observe(&mut self, _: &Event) -> Result<()> {
        Ok(())
    }
}
