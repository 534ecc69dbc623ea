//! Everything of a run that is not a tensor.

use serde::{Deserialize, Serialize};

use crate::checkpoint::offset::PlanOffset;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::data::source::digest::DataDigest;
use crate::events::history::History;
use crate::training::loss_scale::LossScale;

/// Everything of a run that is not a tensor.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RunRecord {
    /// Layout of this record.
    pub format: u32,
    /// The configuration of the run.
    pub config: TrainConfig,
    /// Name of the model.
    pub model: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Training images.
    pub train_images: usize,
    /// Names and labels of the training images; none in files from before they were digested.
    #[serde(default)]
    pub data: Option<DataDigest>,
    /// Optimizer steps done.
    pub step: u64,
    /// What the run's counts are ahead of those of its plan.
    #[serde(default)]
    pub offset: PlanOffset,
    /// Edge of the pictures that the weights belong to, in pixels.
    pub size: usize,
    /// Edge of the pictures in evaluation, in pixels.
    pub base_size: usize,
    /// Steps the optimizer has counted.
    #[serde(rename = "optimiser_steps")]
    pub optimizer_steps: u64,
    /// Updates that the average has had; none in files from before it was counted, where each step was one.
    #[serde(default)]
    pub ema_updates: Option<u64>,
    /// What losses are multiplied with in half precision.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// What was measured so far.
    pub history: History,
    /// Options that do not touch the outcome, as they were; a run that goes on begins with them.
    #[serde(default)]
    pub options: Option<RunOptions>,
}

/// The version of [`RunRecord`] that this build writes and reads.
pub const FORMAT: u32 = 1;
