//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and augmentation.

pub mod chart;
pub mod checkpoint;
pub mod config;
pub mod data;
mod duration;
mod error;
pub mod evaluate;
pub mod event;
mod history;
pub mod log;
mod optimiser;
pub mod predict;
pub mod progress;
mod run;
mod sources;
mod state;

pub use duration::{Every, Place};
pub use error::{DataError, Error, Result};
pub use history::{EvalRecord, History};
pub use optimiser::AdamW;
pub use run::Run;
pub use sources::Sources;
pub use state::{StepResult, TrainState};
