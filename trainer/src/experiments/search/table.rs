//! Trials of a search as table rows.

use efficienttrain_schedule::search::{Outcome, Report, Verdict};
use serde::Serialize;

/// Row of a trial.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Row {
    /// Name of the trial.
    pub(crate) trial: String,
    /// Stage whose candidate was tried, from 1; none for plain training.
    pub(crate) stage: Option<usize>,
    /// Image size B, in pixels.
    pub(crate) size: u32,
    /// RandAugment magnitude, if it is searched.
    pub(crate) magnitude: Option<f64>,
    /// Batch size, if it is searched.
    pub(crate) batch: Option<u32>,
    /// Seed.
    pub(crate) seed: u64,
    /// Top-1, or mAP of a multi-label search, 0 to 1; none if the trial diverged.
    pub(crate) accuracy: Option<f64>,
    /// Compute of the trial, in compute epochs.
    pub(crate) equivalent_epochs: f64,
    /// Wall time, in seconds.
    pub(crate) seconds: f64,
    /// Decision about the candidate.
    pub(crate) verdict: String,
}

pub(crate) const HEAD: [&str; 10] = [
    "trial",
    "stage",
    "size",
    "magnitude",
    "batch",
    "seed",
    "accuracy",
    "equivalent_epochs",
    "seconds",
    "verdict",
];

impl Row {
    /// Returns the cells, in the order of [`HEAD`].
    pub(crate) fn cells(&self) -> [String; 10] {
        let or_empty = |value: Option<String>| value.unwrap_or_default();
        [
            self.trial.clone(),
            or_empty(self.stage.map(|stage| stage.to_string())),
            self.size.to_string(),
            or_empty(self.magnitude.map(|m| m.to_string())),
            or_empty(self.batch.map(|b| b.to_string())),
            self.seed.to_string(),
            or_empty(self.accuracy.map(|a| a.to_string())),
            format!("{:.4}", self.equivalent_epochs),
            format!("{:.1}", self.seconds),
            self.verdict.clone(),
        ]
    }
}

/// Returns the trials in the order of their reports.
pub(crate) fn rows(outcome: &Outcome, seconds: &[f64]) -> Vec<Row> {
    let row = |(index, trial): (usize, &efficienttrain_schedule::search::TrialRow)| Row {
        trial: trial.id.to_string(),
        stage: trial.id.stage.map(|stage| stage + 1),
        size: trial.choice.size,
        magnitude: trial.choice.magnitude,
        batch: trial.choice.batch.map(|batch| batch.per_device * batch.accumulation),
        seed: trial.seed,
        accuracy: match trial.report {
            Report::Accuracy(accuracy) => Some(accuracy),
            Report::Failed(_) => None,
        },
        equivalent_epochs: trial.equivalent_epochs,
        seconds: seconds.get(index).copied().unwrap_or(0.0),
        verdict: verdict(outcome, trial),
    };
    outcome.trials.iter().enumerate().map(row).collect()
}

fn verdict(outcome: &Outcome, trial: &efficienttrain_schedule::search::TrialRow) -> String {
    let Some(stage) = trial.id.stage.and_then(|stage| outcome.stages.get(stage)) else {
        return "plain training".into();
    };
    let of = stage.candidates.iter().find(|c| c.candidate == trial.id.candidate);
    of.map_or(Verdict::NotTried, |c| c.verdict.clone()).to_string()
}
