//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and
//! augmentation.
//!
//! The binary `efficienttrain` is a thin layer over this library.
//!
//! | to | use |
//! | --- | --- |
//! | describe a run | [`config::TrainConfig`], [`config::RunOptions`] |
//! | take its options from layers | [`config::ConfigLayers`] |
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
//! | look at single steps | [`tools::Preview`], [`tools::crop_image`] |
//! | know what the machine does | [`bench::preprocess`], [`bench::step`] |
//! | know whether machine and build can train | [`doctor::checkup`] |
//! | use the result | [`checkpoint::Checkpoint`], [`evaluate::evaluate`], [`predict::Predictor`] |

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
