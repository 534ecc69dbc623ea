//! Options of a run: one definition each for flag, stored key, key in a file, help and default.

pub(crate) mod batch;
pub(crate) mod check;
pub(crate) mod device;
pub(crate) mod flag_value;
pub(crate) mod images;
pub(crate) mod interval;
pub(crate) mod layers;
pub(crate) mod option_errors;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod precision;
pub(crate) mod pretraining;
pub(crate) mod print;
pub(crate) mod recipe;
pub(crate) mod recipe_source;
pub(crate) mod train;
pub(crate) mod values;

pub use batch::BatchSize;
pub use device::DeviceName;
pub use images::ImagesPerClass;
pub use interval::{Every, Place, Span};
pub use layers::{Layers, Origin, Resolved};
pub use options::RunOptions;
pub use policy::PolicyName;
pub use precision::Precision;
pub use pretraining::{DecoderShape, TargetName};
pub use print::to_toml;
pub use recipe_source::{read_recipe, written_recipe};
pub use train::TrainConfig;
pub use values::{
    BadNumbers, CropMethod, CropOrder, CurveName, LogFormat, LossName, OptimiserName, ScalingName, ViewName,
};

use clap::{Args, FromArgMatches};

use crate::data::decode::DEFAULT_IMAGE_LIMIT;

/// Images of a pass where nobody says how many.
const DEFAULT_BATCH: u32 = 64;

pub(crate) const DEFAULT_IMAGE_MIB: u32 = (DEFAULT_IMAGE_LIMIT >> 20) as u32;

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
