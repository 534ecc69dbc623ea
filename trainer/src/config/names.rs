//! Values of options that are names.

use clap::ValueEnum;
use efficienttrain_schedule::OptimiserKind;
use serde::{Deserialize, Serialize};

/// Rule by which the weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "lower")]
pub enum OptimiserName {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Adam whose step is measured against the size of each parameter.
    Lamb,
    /// Gradient descent with Nesterov's momentum.
    Sgd,
}

impl OptimiserName {
    pub(crate) fn kind(self) -> OptimiserKind {
        match self {
            Self::AdamW => OptimiserKind::AdamW,
            Self::Lamb => OptimiserKind::Lamb,
            Self::Sgd => OptimiserKind::Sgd,
        }
    }
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
