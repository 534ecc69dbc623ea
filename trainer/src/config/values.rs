//! Option values that are names.

use clap::ValueEnum;
use efficienttrain_schedule::{LrScaling, OptimizerKind};
use serde::{Deserialize, Serialize};

/// Optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "lower")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay.
    #[serde(rename = "adamw", alias = "adam-w")]
    AdamW,
    /// Adam with each layer's step scaled to the norm of its weights.
    Lamb,
    /// Stochastic gradient descent with Nesterov momentum.
    Sgd,
}

impl OptimizerName {
    pub(crate) fn kind(self) -> OptimizerKind {
        match self {
            Self::AdamW => OptimizerKind::AdamW,
            Self::Lamb => OptimizerKind::Lamb,
            Self::Sgd => OptimizerKind::Sgd,
        }
    }
}

/// Learning-rate schedule after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CurveName {
    /// Half a cosine over the compute of the run.
    Cosine,
    /// Linear decay.
    Linear,
    /// Constant at the peak.
    Constant,
    /// Multiplied by --lr-step-factor after each --lr-step-every.
    Step,
}

/// Scaling of a recipe's learning rate with the batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingName {
    /// Proportional to the batch size.
    Linear,
    /// Proportional to its square root.
    Sqrt,
    /// No scaling.
    None,
}

impl ScalingName {
    pub(crate) fn rule(self) -> LrScaling {
        match self {
            Self::Linear => LrScaling::Linear,
            Self::Sqrt => LrScaling::Sqrt,
            Self::None => LrScaling::None,
        }
    }
}

/// Training loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Cross entropy with soft targets.
    CrossEntropy,
    /// Binary cross entropy per class.
    Bce,
}

/// Images whose statistics a batch norm normalizes by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchNormMode {
    /// Those of a device's own micro-batch.
    #[default]
    Local,
    /// Those of the micro-batches of all devices, like PyTorch's `SyncBatchNorm`.
    Synchronized,
}

/// Way of adding up gradients of several processes on GPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SumMethod {
    /// NCCL's all-reduce: the same within rounding on any number of processes.
    #[default]
    Fast,
    /// Added on the CPU in the order of devices: bitwise the same on any number of processes.
    Ordered,
}

/// Type of the numbers in which several processes send gradients to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SumType {
    /// Single precision: the sum of one process, bit for bit.
    #[default]
    F32,
    /// Half the bytes: terms and sums are rounded, additions are in single precision.
    Bf16,
}

/// Policy for steps with a non-finite loss or gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinitePolicy {
    /// Stop the run.
    Stop,
    /// Skip the step, up to --max-bad-steps times.
    Skip,
    /// Skip the step and halve the learning rate from then on, up to --max-bad-steps times.
    LowerLr,
}

/// Order of low-frequency crop and RandAugment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropOrder {
    /// Crop first: the policy works on the small image, which is cheap.
    CropThenAugment,
    /// Policy first, at base size, like the authors' code.
    AugmentThenCrop,
}

/// Method of resizing images to the size of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropMethod {
    /// The exact low-frequency crop of the paper.
    Fourier,
    /// Lanczos resampling, like the authors' code.
    Lanczos,
}

/// Filter by which the random crop of an image is resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interpolation {
    /// Bicubic.
    Bicubic,
    /// Bilinear.
    Bilinear,
    /// Lanczos with three lobes.
    Lanczos,
    /// The nearest pixel.
    Nearest,
    /// Bicubic or bilinear, drawn for each image, like timm's `random`.
    Random,
}

/// Choice of the training images of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SamplerName {
    /// Each image once.
    Uniform,
    /// As many images of each class: those of rare classes several times, those of frequent ones
    /// not all.
    Balanced,
}

/// Log in addition to `log.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `steps.csv` and `evals.csv`, with one row per step and per evaluation.
    Csv,
    /// Event files for TensorBoard, in the folder `tensorboard`.
    Tensorboard,
    /// A run on the MLflow server of `MLFLOW_TRACKING_URI`, with the same scalars.
    Mlflow,
}

/// Terminal display during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewName {
    /// A progress bar, and a line per stage and evaluation; only lines if there is no terminal.
    Bar,
    /// Full screen: curves, schedule, speed and load.
    Full,
}
