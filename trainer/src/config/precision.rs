//! Precision of activations.

use candle_core::DType;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Precision of activations. Arithmetic inside ops, weights, their gradients and moments are always
/// `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16: half the memory; the residual stream stays in single precision.
    Bf16,
    /// Single precision with the factors of matrix products rounded to 10-bit mantissas; GPUs only.
    Tf32,
    /// Half precision: half the memory and a small range, so the loss is scaled; GPUs only.
    F16,
}

impl Precision {
    /// Returns the element type.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 | Self::Tf32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}
