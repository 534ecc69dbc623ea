//! A plan as a table: JSON for programs, text for people.

use crate::error::Result;
use crate::plan::Plan;
use crate::rounding::PlanStage;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One row of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryStage {
    /// B, in pixels.
    pub size: u32,
    /// RandAugment magnitude; the mean if it changes within the stage.
    pub magnitude: f64,
    /// Images one device trains on per micro-batch, replayed images included.
    pub batch_per_device: u32,
    /// Micro-batches per optimizer step.
    pub accumulation: u32,
    /// Optimizer steps.
    pub steps: u64,
    /// Passes over the data, replayed images included.
    pub epochs: f64,
    /// Share of the run's compute.
    pub share: f64,
    /// Learning rate of the first step; none for a stage without steps.
    pub lr_first: Option<f64>,
    /// Learning rate of the last step.
    pub lr_last: Option<f64>,
    /// The replay buffer, if the stage has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay: Option<ReplayRow>,
}

/// Savings and memory of a stage's replay buffer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplayRow {
    /// Times a prepared image is trained on, on average.
    pub times: u32,
    /// Passes over the data that are decoded and augmented: `epochs` / `times`.
    pub decoded_epochs: f64,
    /// Memory of one device's buffer when it is fullest, in bytes.
    pub buffer_bytes: u64,
}

/// Table of a plan: [`Display`](fmt::Display) writes text, `serde` writes JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Compute after rounding, in compute epochs.
    pub equivalent_epochs: f64,
    /// Optimizer steps of the run.
    pub total_steps: u64,
    /// The stages, in order.
    pub stages: Vec<SummaryStage>,
    /// Images decoded and augmented over images trained on; none if no stage has a replay buffer
    /// (the ratio is then 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoded_share: Option<f64>,
}

impl Plan {
    /// Makes a table of the plan.
    ///
    /// # Errors
    /// None for a plan made by [`Plan::new`].
    pub fn summary(&self) -> Result<Summary> {
        let stages: Vec<SummaryStage> =
            (0..self.stages().len()).map(|index| self.row(index)).collect::<Result<_>>()?;
        let replays = stages.iter().any(|row| row.replay.is_some());
        Ok(Summary {
            equivalent_epochs: self.equivalent_epochs(),
            total_steps: self.total_steps(),
            decoded_share: replays.then(|| decoded_share(&stages)),
            stages,
        })
    }

    fn row(&self, index: usize) -> Result<SummaryStage> {
        let stage: &PlanStage = &self.stages()[index];
        let lr = |step: u64| self.at(step).map(|settings| settings.lr);
        let (lr_first, lr_last) = match stage.steps {
            0 => (None, None),
            steps => (Some(lr(stage.first_step)?), Some(lr(stage.first_step + steps - 1)?)),
        };
        Ok(SummaryStage {
            size: stage.size,
            magnitude: stage.magnitude.mean(),
            batch_per_device: stage.batch_per_device,
            accumulation: stage.accumulation,
            steps: stage.steps,
            epochs: stage.epochs,
            share: stage.equivalent_epochs / self.equivalent_epochs(),
            lr_first,
            lr_last,
            replay: (stage.replay.times > 1).then(|| ReplayRow {
                times: stage.replay.times,
                decoded_epochs: stage.epochs / f64::from(stage.replay.times),
                buffer_bytes: u64::try_from(self.replay_bytes(index)).unwrap_or(u64::MAX),
            }),
        })
    }
}

fn decoded_share(stages: &[SummaryStage]) -> f64 {
    let decoded = |row: &SummaryStage| row.replay.as_ref().map_or(row.epochs, |r| r.decoded_epochs);
    let trained: f64 = stages.iter().map(|row| row.epochs).sum();
    stages.iter().map(decoded).sum::<f64>() / trained
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replays = self.decoded_share.is_some();
        write!(out, "size  magnitude  batch  accumulate     steps    epochs  share %  lr first   lr last")?;
        writeln!(out, "{}", if replays { "  replay   decoded  buffer MiB" } else { "" })?;
        let lr = |value: Option<f64>| value.map_or("-".to_owned(), |lr| format!("{lr:.2e}"));
        for row in &self.stages {
            let (batch, accumulation, share) = (row.batch_per_device, row.accumulation, 100.0 * row.share);
            write!(
                out,
                "{:4}  {:9.1}  {batch:5}  {accumulation:10}  {:8}",
                row.size, row.magnitude, row.steps
            )?;
            write!(
                out,
                "  {:8.2}  {share:7.2}  {:>8}  {:>8}",
                row.epochs,
                lr(row.lr_first),
                lr(row.lr_last)
            )?;
            if let Some(replay) = &row.replay {
                let mib = replay.buffer_bytes as f64 / f64::from(1 << 20);
                write!(out, "  {:6}  {:8.2}  {mib:10.0}", replay.times, replay.decoded_epochs)?;
            } else if replays {
                write!(out, "  {:>6}  {:8.2}  {:>10}", "-", row.epochs, "-")?;
            }
            writeln!(out)?;
        }
        write!(out, "{} steps, {:.4} compute epochs", self.total_steps, self.equivalent_epochs)?;
        match self.decoded_share {
            Some(share) => write!(out, "; {:.1}% of the images trained on are decoded anew", 100.0 * share),
            None => Ok(()),
        }
    }
}
