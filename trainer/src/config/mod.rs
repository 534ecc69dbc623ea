//! Options of a run. One definition per option gives flag, stored key, key in a file, help and
//! default.

pub(crate) mod batch;
pub(crate) mod channels;
pub(crate) mod check;
pub(crate) mod class_weights;
pub(crate) mod cost;
pub(crate) mod device;
pub(crate) mod flag_value;
pub(crate) mod flags;
pub(crate) mod images;
pub(crate) mod interval;
pub(crate) mod keys;
pub(crate) mod layers;
pub(crate) mod mae_recipe;
pub(crate) mod magnitude;
pub(crate) mod options;
pub(crate) mod policy;
pub(crate) mod precision;
pub(crate) mod pretraining;
pub(crate) mod print;
pub(crate) mod recipe;
pub(crate) mod recipe_source;
pub(crate) mod run_recipe;
pub(crate) mod schedule_errors;
pub(crate) mod seeds;
pub(crate) mod train;
pub(crate) mod values;

pub use batch::BatchSize;
pub use channels::{InputChannels, Normalization, PerChannel};
pub use class_weights::ClassWeights;
pub use cost::{CostRule, CostTable, CostUnit};
pub use device::DeviceName;
pub use flags::with_flags;
pub use images::ImagesPerClass;
pub use interval::{Interval, Length, Position};
pub use keys::{Difference, differences};
pub use layers::{ConfigLayers, Resolved, ValueOrigin};
pub use magnitude::MagnitudeRange;
pub use options::RunOptions;
pub use policy::PolicyName;
pub use precision::Precision;
pub use pretraining::{DecoderShape, TargetName};
pub use print::to_toml;
pub use recipe_source::{RecipeSource, read_recipe};
pub use train::TrainConfig;
pub use values::{
    BatchNormMode, CropMethod, CropOrder, CurveName, Interpolation, LogFormat, LossName, NonFinitePolicy,
    OptimizerName, SamplerName, ScalingName, SumMethod, SumType, ViewName,
};

use clap::{Args, FromArgMatches};

/// Default number of images per pass.
const DEFAULT_BATCH: u32 = 64;

/// Memory that one decoded image may take by default, in MiB.
pub(crate) const DEFAULT_IMAGE_MIB: u32 = 1024;

/// Returns the defaults of the flags.
pub(crate) fn flag_defaults<T: Args + FromArgMatches>() -> T {
    let command = T::augment_args(clap::Command::new("defaults"));
    let parsed = command.try_get_matches_from(["defaults"]).and_then(|m| T::from_arg_matches(&m));
    parsed.expect("every option has a default or may be absent")
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
