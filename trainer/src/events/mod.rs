//! Events of a run, which its observers receive; each is one line in the log.

pub(crate) mod history;

pub use history::{EvalRecord, Figure, History, MultiLabelEval};

use std::ops::Range;
use std::path::PathBuf;

use efficienttrain_schedule::Summary;
use serde::{Deserialize, Serialize};

use crate::data::source::BadImage;
use crate::data::source::notes::SplitNotes;
use crate::error::Result;

/// Event of a run. In the log, each is a JSON object with its name under `event`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "events are passed by reference, one at a time")]
pub enum Event {
    /// The run starts, or resumes after a stop.
    Start(Start),
    /// A stage starts.
    Stage(StageStart),
    /// An optimizer step is done.
    Step(StepRecord),
    /// The model was evaluated.
    Eval(EvalRecord),
    /// An image could not be read and was replaced by the next in order.
    BadImage(BadImage),
    /// Something that a user may want to know, which changes no result.
    Note {
        /// The note.
        text: String,
    },
    /// A step had a non-finite loss or gradient.
    #[serde(rename = "bad-numbers")]
    NonFinite(NonFiniteStep),
    /// A checkpoint has been written.
    Checkpoint {
        /// Optimizer steps done.
        step: u64,
        /// The file.
        path: PathBuf,
    },
    /// A checkpoint could not be written or kept; the run continues.
    CheckpointFailed {
        /// Optimizer steps done.
        step: u64,
        /// Reason.
        reason: String,
        /// True if it has replaced the newest one, and could only not be kept for later. Otherwise
        /// the previous one remains.
        #[serde(default)]
        written: bool,
    },
    /// All steps are done, or the run was stopped.
    End {
        /// Optimizer steps done.
        step: u64,
        /// True if these were all steps.
        finished: bool,
        /// Wall time over all processes of the run, in seconds.
        seconds: f64,
    },
}

/// Start of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Name of the model.
    pub model: String,
    /// Name of the recipe.
    pub recipe: String,
    /// Number of parameters, including frozen ones.
    pub parameters: usize,
    /// Number of parameters that `--freeze` excludes from training.
    #[serde(default)]
    pub frozen: usize,
    /// Report of the initial weights.
    #[serde(default)]
    pub init: Option<String>,
    /// Number of training images.
    pub train_images: usize,
    /// Number of evaluation images.
    pub val_images: usize,
    /// Number of classes.
    pub classes: usize,
    /// True if images have any number of labels.
    #[serde(default)]
    pub multi_label: bool,
    /// Notes about the training images.
    #[serde(default, skip_serializing_if = "SplitNotes::is_empty")]
    pub train_notes: SplitNotes,
    /// Notes about the evaluation images; empty if they are a part of the training set.
    #[serde(default, skip_serializing_if = "SplitNotes::is_empty")]
    pub val_notes: SplitNotes,
    /// First step; above 0 for a resumed run.
    pub first_step: u64,
    /// Offset of the run's steps from its plan's; not 0 if the plan was changed during the run.
    #[serde(default)]
    pub plan_offset: i64,
    /// Notes about the run.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Likely mistakes.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Number of images that are prepared again to restore the replay buffer.
    pub refill_images: u64,
    /// The plan.
    pub plan: Summary,
}

impl Start {
    /// Returns the figure by which evaluations of the run are judged.
    pub fn figure(&self) -> Figure {
        Figure::of_run(self.multi_label)
    }

    /// Returns the number of optimizer steps at the end of the run.
    pub fn total_steps(&self) -> u64 {
        self.plan.total_steps.saturating_add_signed(self.plan_offset)
    }

    /// Returns the steps of the run in each stage of the plan. Steps before a change of plan belong
    /// to no stage.
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

/// Start of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageStart {
    /// Index of the stage, from 0.
    pub stage: usize,
    /// Number of stages.
    pub stages: usize,
    /// Its first step.
    pub step: u64,
    /// Its number of steps.
    pub steps: u64,
    /// Edge of the images, in pixels.
    pub size: u32,
    /// RandAugment magnitude at its start.
    pub magnitude: f64,
}

/// One optimizer step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, counted from 0.
    pub step: u64,
    /// Index of its stage, from 0.
    pub stage: usize,
    /// Edge of the images, in pixels.
    pub size: u32,
    /// RandAugment magnitude.
    pub magnitude: f64,
    /// Learning rate.
    pub lr: f64,
    /// Loss, averaged over the step's images.
    #[serde(with = "crate::util::float_serde")]
    pub loss: f64,
    /// Norm of all gradients together, before clipping; not finite in a skipped step of half
    /// precision.
    #[serde(with = "crate::util::float_serde")]
    pub grad_norm: f64,
    /// Images of the step.
    pub images: u64,
    /// Images decoded and augmented for this step; the others come from the replay buffer.
    pub fresh_images: u64,
    /// Wall time of the step, in seconds.
    pub seconds: f64,
    /// Of that, time spent waiting for the loader, in seconds.
    pub data_seconds: f64,
    /// Fraction of the loader threads' time spent on preparing images during the step, 0 to 1.
    /// Batches count when they are ready, so it may exceed 1 in a single step.
    pub loader_load: f64,
    /// Passes over the training set done after the step.
    pub epoch: f64,
    /// Fraction of the run's compute done after the step, 0 to 1.
    pub compute: f64,
    /// Wall time of the run after the step, over all processes, evaluations included, in seconds.
    pub elapsed: f64,
}

/// Step with a non-finite loss or gradient. Numbers are stored as texts, since JSON has no `NaN`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonFiniteStep {
    /// The step, counted from 0.
    pub step: u64,
    /// Index of its stage, from 0.
    pub stage: usize,
    /// The loss.
    pub loss: String,
    /// The norm of all gradients.
    pub grad_norm: String,
    /// Names of the images in their source.
    pub images: Vec<String>,
    /// File with the batch, for inspection.
    pub kept: PathBuf,
    /// Consequence for the run.
    pub action: String,
}

/// Receiver of a run's events: a log, a progress bar, a test.
pub trait Observer {
    /// Takes an event.
    ///
    /// # Errors
    /// An error ends the run; what was saved stays.
    fn observe(&mut self, event: &Event) -> Result<()>;

    /// Returns what the observer itself has to tell since the last call, such as that a server does
    /// not answer. The run passes it on to all observers as [`Event::Note`].
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// Syncs files to the disk, before a checkpoint is written: a run that is resumed from it after a
    /// power cut continues these files and does not write their earlier lines again.
    ///
    /// # Errors
    /// An error ends the run, as one of [`Self::observe`].
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Tells observers what one of them has to tell.
pub(crate) fn pass_on_notices(observer: &mut dyn Observer) -> Result<()> {
    observer.notices().into_iter().try_for_each(|text| observer.observe(&Event::Note { text }))
}

/// Forwards events to several observers in order.
impl Observer for Vec<Box<dyn Observer>> {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.observe(event))
    }

    fn notices(&mut self) -> Vec<String> {
        self.iter_mut().flat_map(|observer| observer.notices()).collect()
    }

    fn sync(&mut self) -> Result<()> {
        self.iter_mut().try_for_each(|observer| observer.sync())
    }
}

/// Ignores all events.
impl Observer for () {
    fn observe(&mut self, _: &Event) -> Result<()> {
        Ok(())
    }
}
