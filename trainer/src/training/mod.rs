//! Optimizer steps: model, weights and moments, loss and precision, update and moving average.

pub(crate) mod ema;
pub(crate) mod loss;
pub(crate) mod loss_scale;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod objective;
pub(crate) mod optimizer;
pub(crate) mod pass_report;
pub(crate) mod pending;
#[cfg(feature = "cuda")]
pub(crate) mod recorded;
pub(crate) mod state;
pub(crate) mod step;

pub use ema::warmed_decay;
pub use loss::{BinaryCrossEntropy, CrossEntropy, Loss};
pub use loss_scale::LossScale;
pub use network::Network;
pub use objective::{Classification, DeviceBatch, Objective};
pub use optimizer::Optimizer;
pub use state::TrainState;
pub use step::{Step, StepResult};
