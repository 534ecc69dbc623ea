//! Pre-training of a vision transformer as a masked autoencoder, with the same runs as all other
//! training.
//!
//! A [`TrainConfig`](crate::config::train::TrainConfig) with a `target` pre-trains: recipe, sizes
//! and magnitudes, checkpoints, resume and log are those of any run. The differences are the
//! [`Objective`](crate::training::objective::Objective) (labels are not used, so there is no
//! accuracy) and the output: `encoder.safetensors`, the encoder's weights with timm's names.

pub(crate) mod masked;

pub use masked::{Reconstruction, autoencoder};

/// File name of the encoder's weights in a run's folder.
pub const ENCODER: &str = "encoder.safetensors";
