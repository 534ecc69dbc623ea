//! Search for a curriculum by training: the two algorithms of `schedule`, with runs of this crate.
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
//! The folder of a search contains `search.json` (settings and reports, replaced atomically after
//! each trial), `trials` (the current trial with its checkpoints) and `states` (initial states of
//! later trials). A search that is killed at any moment can be opened again; it then continues and
//! has the same outcome.

pub(crate) mod chart;
pub(crate) mod evaluator;
pub(crate) mod files;
pub(crate) mod settings;
pub(crate) mod store;
pub(crate) mod table;

pub use evaluator::{SearchRun, TrialEvent};
pub use files::write_outcome;
pub use settings::{AlgorithmName, PreferName, SearchSettings};
