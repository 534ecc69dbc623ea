//! A plan as a table: JSON for other programs, text for people.

use crate::error::Result;
use crate::layout::PlanStage;
use crate::plan::Plan;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One row of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryStage {
    /// B, in pixels.
    pub size: u32,
    /// RandAugment magnitude; the mean where it changes within the stage.
    pub magnitude: f64,
    /// Images one device trains on per micro-batch, replayed images included.
    pub batch_per_device: u32,
    /// Micro-batches per optimiser step.
    pub accumulation: u32,
    /// Optimiser steps.
    pub steps: u64,
    /// Passes over the data, replayed images included.
    pub epochs: f64,
    /// Share of the run's compute.
    pub share: f64,
    /// Learning rate of the first step; none for a stage without steps.
    pub lr_first: Option<f64>,
    /// Learning rate of the last step.
    pub lr_last: Option<f64>,
}

/// What `efficienttrain plan` prints; [`Display`](fmt::Display) is the text table, `serde` gives the JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Compute really taken, in epochs at base size.
    pub equivalent_epochs: f64,
    /// Optimiser steps of the run.
    pub total_steps: u64,
    /// The stages, in order.
    pub stages: Vec<SummaryStage>,
}

impl Plan {
    /// The plan as a table.
    ///
    /// # Errors
    /// None for a plan made by [`Plan::new`].
    pub fn summary(&self) -> Result<Summary> {
        let stages = self.stages().iter().map(|stage| self.row(stage)).collect::<Result<_>>()?;
        Ok(Summary { equivalent_epochs: self.equivalent_epochs(), total_steps: self.total_steps(), stages })
    }

    fn row(&self, stage: &PlanStage) -> Result<SummaryStage> {
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
        })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "size  magnitude  batch  accumulate     steps    epochs  share %  lr first   lr last")?;
        let lr = |value: Option<f64>| value.map_or("-".to_owned(), |lr| format!("{lr:.2e}"));
        for row in &self.stages {
            let (batch, accumulation, share) = (row.batch_per_device, row.accumulation, 100.0 * row.share);
            write!(
                out,
                "{:4}  {:9.1}  {batch:5}  {accumulation:10}  {:8}",
                row.size, row.magnitude, row.steps
            )?;
            writeln!(
                out,
                "  {:8.2}  {share:7.2}  {:>8}  {:>8}",
                row.epochs,
                lr(row.lr_first),
                lr(row.lr_last)
            )?;
        }
        write!(out, "{} steps, {:.4} equivalent epochs", self.total_steps, self.equivalent_epochs)
    }
}
