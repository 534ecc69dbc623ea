//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and
//! augmentation.
//!
//! The binary `efficienttrain` is a thin layer over this library.
//!
//! | task | use |
//! | --- | --- |
//! | describe a run | [`config::TrainConfig`], [`config::RunOptions`] |
//! | combine options from defaults, a file and the command line | [`config::ConfigLayers`] |
//! | open images | [`Sources::open`], or your own [`data::Source`] |
//! | train | [`Run::new`], [`Run::resume`], [`Run::train`] |
//! | train your own model, or with your own loss | [`Run::with_backbone`], [`Run::with_loss`] |
//! | watch a run | [`events::Observer`]: [`observe::log`], [`observe::progress`], or your own |
//! | evaluate, predict, extract features | [`inference`] |
//! | read and write checkpoints | [`checkpoint`] |
//! | pre-train an encoder | [`pretrain`] |
//! | compare runs, search for a curriculum | [`experiments`] |
//! | forecast memory and time, measure speed, check an installation | [`measure`] |
//! | draw charts, write reports, preview the input pipeline | [`observe`] |
//!
//! The feature `cli`, on by default, adds the binary, the progress bar and the full-screen view. With
//! `default-features = false` the library has none of their dependencies.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(doctest)]
#[doc = include_str!("../../docs/library-guide.md")]
struct LibraryGuide;

pub mod checkpoint;
pub mod config;
pub mod data;
pub mod distributed;
pub(crate) mod error;
pub mod events;
pub mod experiments;
pub(crate) mod hub;
pub mod inference;
pub mod measure;
pub mod observe;
pub mod pretrain;
pub(crate) mod run;
pub mod training;
pub(crate) mod util;

pub use error::{DataError, Error, Result};
pub use hub::HubSpec;
pub use run::Run;
pub use run::sources::Sources;
