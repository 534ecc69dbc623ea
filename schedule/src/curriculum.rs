//! Curricula: what the network sees, and for what share of the compute.

use crate::error::{Result, count, field};
use crate::stage::Stage;
use serde::{Deserialize, Serialize};

/// Unit of the shares of a curriculum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShareUnit {
    /// Training compute (EfficientTrain++).
    #[default]
    Compute,
    /// Passes over the data (EfficientTrain, first version).
    Epochs,
}

/// A checked list of stages over one base size.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curriculum {
    /// Size of full training and of the unit of compute, in pixels (224 in the paper).
    pub base_size: u32,
    /// Unit of [`Stage::share`].
    pub share_of: ShareUnit,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

/// Shares may miss 1 by this much: enough for ten times 0.1 in floating point, too little to hide a
/// forgotten stage.
const SHARE_TOLERANCE: f64 = 1e-9;

impl Curriculum {
    /// Makes a curriculum and checks it.
    ///
    /// # Errors
    /// Returns the errors of [`Curriculum::validate`].
    pub fn new(base_size: u32, share_of: ShareUnit, stages: Vec<Stage>) -> Result<Self> {
        let curriculum = Self { base_size, share_of, stages };
        curriculum.validate()?;
        Ok(curriculum)
    }

    /// Checks every field; the fields are public, so planning checks again.
    ///
    /// # Errors
    /// [`ScheduleError::Field`](crate::ScheduleError::Field) naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        count("base_size", self.base_size, "give the full training size, such as 224")?;
        if self.stages.is_empty() {
            return Err(field("stages", "at least one stage", "none", "add a stage with share 1"));
        }
        for (index, stage) in self.stages.iter().enumerate() {
            stage.validate(index, self.base_size)?;
        }
        let sum: f64 = self.stages.iter().map(|stage| stage.share).sum();
        if (sum - 1.0).abs() > SHARE_TOLERANCE {
            return Err(field(
                "stages[..].share",
                "shares that sum to 1",
                sum,
                "scale the shares or add the missing stage",
            ));
        }
        Ok(())
    }

    /// Shares of compute, given each stage's cost of one image relative to base size.
    pub(crate) fn compute_shares(&self, costs: &[f64]) -> Vec<f64> {
        let weight = |(stage, cost): (&Stage, &f64)| match self.share_of {
            ShareUnit::Compute => stage.share,
            ShareUnit::Epochs => stage.share * cost,
        };
        let weights: Vec<f64> = self.stages.iter().zip(costs).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|weight| weight / sum).collect()
    }
}
