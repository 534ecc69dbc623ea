//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and
//! augmentation.
//!
//! The binary `efficienttrain` is a thin layer over this library. A run takes three steps: describe
//! it ([`config::TrainConfig`]), open its images ([`Sources::open`]), and train ([`Run::new`],
//! [`Run::train`]). It writes checkpoints from which [`Run::resume`] continues bitwise.
//!
//! ```no_run
//! use efficienttrain::config::{RunOptions, TrainConfig};
//! use efficienttrain::observe::progress::Progress;
//! use efficienttrain::{Run, Sources};
//!
//! # fn main() -> Result<(), efficienttrain::Error> {
//! let config = TrainConfig { data: Some("photos".into()), epochs: 30.0, ..TrainConfig::default() };
//! let sources = Sources::open(&config)?;
//! let mut run = Run::new(config, RunOptions::default(), sources)?;
//! run.train(&mut Progress::new())?;
//! # Ok(())
//! # }
//! ```
//!
//! | task | items |
//! | --- | --- |
//! | describe a run | [`config::TrainConfig`], [`config::RunOptions`] |
//! | merge options of several origins | [`config::ConfigLayers`] |
//! | open images | [`Sources::open`], or your own [`data::Source`] |
//! | train, resume | [`Run::new`], [`Run::train`], [`Run::resume`] |
//! | pre-train an encoder | [`pretrain`] |
//! | use your own loss or model | [`training::Loss`], [`Run::with_loss`], [`Run::with_backbone`] |
//! | observe a run | [`events::Observer`]: [`observe::log::JsonLog`], [`observe::progress::Progress`], or your own |
//! | write a report about runs | [`observe::report::RunLog`], [`observe::report::write`] |
//! | view single steps of the pipeline | [`observe::preview::Preview`], [`observe::preview::crop_image`] |
//! | compare configurations at equal compute | [`experiments::compare::Comparison`] |
//! | search for a curriculum | [`experiments::search::SearchRun`] |
//! | find and read checkpoints | [`checkpoint::newest`], [`checkpoint::Checkpoint`] |
//! | evaluate and predict | [`inference::evaluate::evaluate`], [`inference::predict::Predictor`] |
//! | extract and evaluate features | [`inference::features`] |
//! | forecast memory and time of a run | [`measure::forecast::forecast`] |
//! | measure the machine | [`measure::bench::preprocess()`], [`measure::bench::step()`] |
//! | check machine and build | [`measure::doctor::checkup`] |
//!
//! # Features
//!
//! `cli` (default) adds the binary, the progress bar and the full-screen view; `parquet` reads
//! Parquet files; `cuda` and `cudnn` train on NVIDIA GPUs.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/library-guide.md")]
struct LibraryGuide;

pub mod checkpoint;
pub mod config;
pub mod data;
pub(crate) mod error;
pub mod events;
pub mod experiments;
pub mod inference;
pub mod measure;
pub mod observe;
pub mod pretrain;
pub(crate) mod run;
pub mod training;
pub(crate) mod util;

pub use error::{DataError, Error, Result};
pub use run::Run;
pub use run::sources::Sources;
