//! Trials, and the reports of an evaluator.

use crate::plan::Plan;
use crate::search::space::Choice;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// Part of a stage that a trial trains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrialPart {
    /// All of it.
    Whole,
    /// The beginning, after which hopeless candidates are given up.
    Probe,
    /// The part after the probe.
    Rest,
}

/// Identity of a trial. It is displayed as a valid file name, such as `stage2-candidate0-seed1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialId {
    /// Index of the stage whose candidate is tried; none for the greedy search's plain training.
    pub stage: Option<usize>,
    /// Index into [`Space::choices`](crate::search::Space::choices); 0 for plain training.
    pub candidate: usize,
    /// Index into the seeds.
    pub seed: usize,
    /// Part of the stage.
    pub part: TrialPart,
}

impl fmt::Display for TrialId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.stage {
            None => write!(out, "baseline")?,
            Some(stage) => write!(out, "stage{stage}-candidate{}", self.candidate)?,
        }
        write!(out, "-seed{}", self.seed)?;
        match self.part {
            TrialPart::Whole => Ok(()),
            TrialPart::Probe => write!(out, "-probe"),
            TrialPart::Rest => write!(out, "-rest"),
        }
    }
}

/// A state of training at a step of a trial: weights, moments, averages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedState {
    /// The trial.
    pub trial: TrialId,
    /// Optimizer steps of the run before the state.
    pub step: u64,
}

/// The short training at full size that ends a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FineTuneRun {
    /// Its steps, all of them.
    pub plan: Plan,
    /// Samples that the run has consumed before the fine-tuning, which continues from there in the
    /// data.
    pub samples_before: u64,
}

/// One piece of work: continue from a state, train some steps of a plan, measure.
///
/// 1. Load `start`, or initialize the network with `seed`.
/// 2. Train `steps` of `plan`, as [`Plan::at`] says; keep the state at each step of `keep`.
/// 3. Fine-tune, if so asked, without changing what was kept.
/// 4. Report the accuracy on the validation images at full size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Identity.
    pub id: TrialId,
    /// The candidate.
    pub choice: Choice,
    /// Seed of initialization, sample order and augmentation.
    pub seed: u64,
    /// The state to continue from; none starts afresh.
    pub start: Option<SavedState>,
    /// The whole run that the steps belong to.
    pub plan: Plan,
    /// Optimizer steps to train.
    pub steps: Range<u64>,
    /// Steps before which the state is to be kept, under this trial's identity; ascending.
    pub keep: Vec<u64>,
    /// The fine-tuning after them.
    pub fine_tune: Option<FineTuneRun>,
}

impl Trial {
    /// Returns the compute of the trial, in compute epochs: its own steps and its fine-tuning.
    #[must_use]
    pub fn equivalent_epochs(&self) -> f64 {
        let images = self.plan.options().train_images as f64;
        let trained = self.plan.stages().iter().map(|stage| {
            let (first, end) = (stage.first_step, stage.first_step + stage.steps);
            let steps = self.steps.end.min(end).saturating_sub(self.steps.start.max(first));
            steps as f64 * stage.images_per_step as f64 * stage.cost / images
        });
        trained.sum::<f64>() + self.fine_tune.as_ref().map_or(0.0, |run| run.plan.equivalent_epochs())
    }
}

/// Result of a trial.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// Accuracy on the validation images: more is better. A number that is not finite counts as a
    /// failure.
    Accuracy(f64),
    /// Reason for which the trial could not be finished.
    Failed(String),
}

/// A trial's report, as a search keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FinishedTrial {
    /// The trial.
    pub id: TrialId,
    /// Result.
    pub report: Report,
}
