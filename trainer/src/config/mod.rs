//! Options of a run: one definition each for flag, stored key, key in a file, help and default.

mod apply;
mod batch;
mod check;
mod flag_value;
mod images;
mod layers;
mod names;
mod options;
mod policy;
mod print;
mod recipe;
mod train;
mod wording;
mod written;

pub use batch::BatchSize;
pub(crate) use batch::stages_by_size;
pub use images::ImagesPerClass;
pub(crate) use layers::keys_of;
pub use layers::{Layers, Origin, Resolved};
pub use names::{
    BadNumbers, CropMethod, CropOrder, CurveName, LogFormat, LossName, OptimizerName, ScalingName, ViewName,
};
pub use options::RunOptions;
pub use policy::PolicyName;
pub use print::to_toml;
pub(crate) use recipe::edge_multiple;
pub use train::TrainConfig;
pub use written::{read_recipe, written_recipe};

use std::path::{Path, PathBuf};

use clap::{Args, FromArgMatches};

use crate::data::DEFAULT_IMAGE_LIMIT;

/// Images of a pass where nobody says how many.
const DEFAULT_BATCH: u32 = 64;

pub(crate) const DEFAULT_IMAGE_MIB: u32 = (DEFAULT_IMAGE_LIMIT >> 20) as u32;

/// The same path from anywhere; as it is where the present folder has no name in UTF-8, which options are kept in.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).ok().filter(|absolute| absolute.to_str().is_some()).unwrap_or(path)
}

/// A path as messages show it: with the folder that it is relative to.
pub(crate) fn shown(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if path.is_relative() => format!("{} (relative to {})", path.display(), here.display()),
        _ => path.display().to_string(),
    }
}

/// The defaults of the flags, so that there is one definition of each.
pub(crate) fn flag_defaults<T: Args + FromArgMatches>() -> T {
    let command = T::augment_args(clap::Command::new("defaults"));
    let parsed = command.try_get_matches_from(["defaults"]).and_then(|m| T::from_arg_matches(&m));
    parsed.expect("every option has a default or may be absent")
}

/// A key whose value differs between two configurations.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key, as its flag is called.
    pub key: String,
    /// Its value in the first, as JSON; `null` where it is not set.
    pub ours: String,
    /// Its value in the second.
    pub theirs: String,
}

/// The keys in which two configurations differ.
pub fn differences(ours: &TrainConfig, theirs: &TrainConfig) -> Vec<Difference> {
    let theirs = layers::keys_of(theirs);
    let other = |key: &str| theirs.get(key).cloned().unwrap_or_default();
    let differs = |(key, value): (String, serde_json::Value)| {
        let theirs = other(&key);
        (theirs != value).then(|| Difference { key, ours: value.to_string(), theirs: theirs.to_string() })
    };
    layers::keys_of(ours).into_iter().filter_map(differs).collect()
}

impl Default for TrainConfig {
    fn default() -> Self {
        flag_defaults()
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        flag_defaults()
    }
}
