//! Record of a run: everything except its tensors.

use serde::{Deserialize, Serialize};

use crate::checkpoint::offset::PlanOffset;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::data::source::digest::DataDigest;
use crate::events::history::History;
use crate::training::loss_scale::LossScale;

/// Everything of a run except its tensors.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct RunRecord {
    /// Version of this record.
    pub format: u32,
    /// Configuration of the run.
    pub config: TrainConfig,
    /// Name of the model.
    pub model: String,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Number of training images.
    pub train_images: usize,
    /// Names and labels of the training images; none in older files without a digest.
    #[serde(default)]
    pub data: Option<DataDigest>,
    /// Number of optimizer steps done.
    pub step: u64,
    /// Offset of the run's counts from those of its plan.
    #[serde(default)]
    pub offset: PlanOffset,
    /// Edge of the images at which the weights were trained last, in pixels.
    pub size: usize,
    /// Edge of the images in evaluation, in pixels.
    pub base_size: usize,
    /// Step count of the optimizer.
    #[serde(rename = "optimiser_steps")]
    pub optimizer_steps: u64,
    /// Number of updates of the EMA; none in older files, where it equals the number of steps.
    #[serde(default)]
    pub ema_updates: Option<u64>,
    /// Loss scale of half precision.
    #[serde(default)]
    pub loss_scale: LossScale,
    /// Measurements so far.
    pub history: History,
    /// Options that do not affect the outcome; the defaults of a resumed run.
    #[serde(default)]
    pub options: Option<RunOptions>,
}

/// Version of [`RunRecord`] that this build writes and reads.
pub const FORMAT: u32 = 1;
