//! Pre-training of a vision transformer as a masked autoencoder, by the same runs as everything else.
//!
//! A [`TrainConfig`](crate::config::train::TrainConfig) with a `target` is such a run: recipe, sizes and magnitudes, checkpoints,
//! resuming and log are those of any other. What differs is the [`Objective`](crate::training::objective::Objective) (labels are not
//! looked at, so there is no accuracy to evaluate) and what the run leaves: `encoder.safetensors`, the encoder's weights
//! under timm's names.

pub(crate) mod masked;

pub use masked::{Reconstruction, autoencoder};

/// The file of the encoder's weights in a run's folder.
pub const ENCODER: &str = "encoder.safetensors";
