//! Pre-training of a vision transformer as a masked autoencoder, by the same runs as everything else.
//!
//! A [`TrainConfig`](crate::config::TrainConfig) with a `target` is such a run: recipe, sizes and magnitudes, checkpoints,
//! resuming and log are those of any other. What differs is the [`Objective`](crate::objective::Objective) (labels are not
//! looked at, so there is no accuracy to evaluate) and what the run leaves: `encoder.safetensors`, the encoder's weights
//! under timm's names.

mod masked;
mod names;
mod recipe;

pub(crate) use masked::encoder_of;
pub use masked::{Reconstruction, autoencoder};
pub use names::{DecoderShape, TargetName};
pub(crate) use recipe::for_pretraining;

/// The file of the encoder's weights in a run's folder.
pub const ENCODER: &str = "encoder.safetensors";
