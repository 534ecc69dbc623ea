//! Searching for a curriculum by real training: `schedule`'s two algorithms over runs of this crate.
//!
//! ```no_run
//! use efficienttrain::config::{RunOptions, TrainConfig};
//! use efficienttrain::experiments::search::{SearchRun, SearchSettings};
//!
//! # fn main() -> Result<(), efficienttrain::Error> {
//! let config = TrainConfig { model: Some("resnet10".into()), base_size: 64, epochs: 6.0, ..TrainConfig::default() };
//! let settings = SearchSettings { stages: 3, sizes: vec![24, 48, 64], ..SearchSettings::default() };
//! let options = RunOptions { out: "runs/search".into(), ..RunOptions::default() };
//! let mut search = SearchRun::open(config, &settings, options)?;
//! if let Some(outcome) = search.run(&mut |_| {})? {
//!     println!("{outcome}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The folder of a search holds `search.json` (settings and reports, replaced in one step after each trial), `trials` (the
//! trial at hand, with checkpoints of its own) and `states` (what later trials start from). Whatever the moment of a
//! kill, opening the search again goes on from there and ends with the same outcome.

pub(crate) mod chart;
pub(crate) mod evaluator;
pub(crate) mod files;
pub(crate) mod settings;
pub(crate) mod store;
pub(crate) mod table;

pub use evaluator::{SearchRun, TrialEvent};
pub use files::write_outcome;
pub use settings::{AlgorithmName, PreferName, SearchSettings};
