//! Precision of activations.

use candle_core::DType;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What activations are stored as. Arithmetic inside of ops, weights, their gradients and moments are `f32` in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Half the memory: eight binary places; the residual stream stays in single precision.
    Bf16,
    /// As `f32`, with the factors of products rounded to eleven binary places; on a GPU alone.
    Tf32,
    /// Half the memory: eleven binary places and a small range, so that the loss is scaled; on a GPU alone.
    F16,
}

impl Precision {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}
