//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and augmentation.
//!
//! The binary `efficienttrain` is a thin face of this library.
//!
//! | to | use |
//! | --- | --- |
//! | describe a run | [`config::TrainConfig`], [`config::RunOptions`] |
//! | take its options from layers | [`config::Layers`] |
//! | know what it will take | [`forecast::forecast`] |
//! | bring images | [`Sources::open`], or your own [`data::Source`] |
//! | train | [`Run::new`], [`Run::resume`], [`Run::train`] |
//! | set ways to train beside each other | [`compare::Comparison`] |
//! | find a curriculum | [`search::SearchRun`] |
//! | pre-train an encoder | [`pretrain`] |
//! | see what features are worth | [`features`] |
//! | bring your own loss or model | [`loss::Loss`], [`Run::with_loss`], [`Run::with_backbone`] |
//! | find the newest checkpoint | [`checkpoint::newest`] |
//! | watch | [`event::Observer`]: [`log::JsonLog`], [`progress::Progress`], or your own |
//! | show runs as a page | [`report::RunLog`], [`report::write`] |
//! | look at single steps | [`tools::Preview`], [`tools::crop_picture`] |
//! | know what the machine does | [`bench::preprocess`], [`bench::step`] |
//! | know whether machine and build can train | [`doctor::checkup`] |
//! | use the result | [`checkpoint::Saved`], [`evaluate::evaluate`], [`predict::Predictor`] |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod batch;
pub mod bench;
pub mod chart;
pub mod checkpoint;
pub mod compare;
pub mod config;
mod costs;
mod csv;
pub mod data;
mod device;
mod disk;
pub mod doctor;
mod duration;
mod ema;
mod error;
pub mod evaluate;
pub mod event;
pub mod features;
mod float_serde;
pub mod forecast;
mod history;
pub mod log;
pub mod loss;
mod loss_scale;
mod memory;
mod network;
pub mod objective;
mod optimiser;
pub mod predict;
pub mod pretrain;
pub mod progress;
mod regular;
pub mod report;
mod requests;
mod run;
pub mod search;
mod sources;
mod state;
mod text;
mod timing;
pub mod tools;
pub mod view;

pub use costs::macs_of;
pub use device::DeviceName;
pub use duration::{Every, Place, Span};
pub use ema::warmed_decay;
pub use error::{DataError, Error, Result};
pub use history::{EvalRecord, History};
pub use loss_scale::LossScale;
pub use network::Network;
pub use optimiser::Optimiser;
pub use run::{PlanOffset, Run};
pub use sources::Sources;
pub use state::{Precision, StepResult, TrainState};
