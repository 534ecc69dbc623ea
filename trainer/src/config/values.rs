//! Values of options that are names.

use clap::ValueEnum;
use efficienttrain_schedule::{LrScaling, OptimizerKind};
use serde::{Deserialize, Serialize};

/// Rule by which the weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "lower")]
pub enum OptimizerName {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Adam whose step is measured against the size of each parameter.
    Lamb,
    /// Gradient descent with Nesterov's momentum.
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

/// How the learning rate falls behind its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CurveName {
    /// Half a cosine over the run's compute.
    Cosine,
    /// A straight line.
    Linear,
    /// The peak to the end.
    Constant,
    /// Times --lr-step-factor after each --lr-step-every.
    Step,
}

/// How the learning rate of a recipe follows the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScalingName {
    /// In proportion to the batch.
    Linear,
    /// In proportion to its square root.
    Sqrt,
    /// Not at all.
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

/// What training brings down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossName {
    /// Cross entropy with soft targets.
    CrossEntropy,
    /// Binary cross entropy of each class.
    Bce,
}

/// What to do when a loss or a gradient is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonFinitePolicy {
    /// Stop the run.
    Stop,
    /// Leave the step out, up to --max-bad-steps times.
    Skip,
    /// Leave the step out, and halve the learning rate from then on, up to --max-bad-steps times.
    LowerLr,
}

/// Order of low-frequency crop and RandAugment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropOrder {
    /// RandAugment works on the small image: cheap.
    CropThenAugment,
    /// RandAugment works at base size: as the authors' code.
    AugmentThenCrop,
}

/// How images are brought to the size of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropMethod {
    /// The exact low-frequency crop of the paper.
    Fourier,
    /// Lanczos down-sampling, as the authors' code.
    Lanczos,
}

/// A log that is written beside `log.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// `steps.csv` and `evals.csv`, a row a step and a row an evaluation.
    Csv,
    /// Event files for TensorBoard, in the folder `tensorboard`.
    Tensorboard,
}

/// What the terminal shows during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewName {
    /// A progress bar, and a line for each stage and evaluation; lines alone where there is no terminal.
    Bar,
    /// The whole screen: curves, schedule, speed and load.
    Full,
}
