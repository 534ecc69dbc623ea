//! Options of commands that train, from a file, `--set` and flags.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgMatches, Args};
use efficienttrain::config::{ConfigLayers, RunOptions, TrainConfig};

/// Sources of the options of a run.
#[derive(Args)]
pub(crate) struct Layered {
    #[command(flatten)]
    pub(crate) config: TrainConfig,

    #[command(flatten)]
    pub(crate) options: RunOptions,

    /// Read options from a TOML file whose keys are the names of these flags; flags and --set
    /// override it
    #[arg(long = "config", value_name = "FILE", help_heading = "Configuration")]
    file: Option<PathBuf>,

    /// Set an option by its key in the file; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
}

impl Layered {
    /// Returns all layers above the defaults. `matches` are the matches that `self` was parsed
    /// from.
    pub(crate) fn layers(&self, matches: &ArgMatches) -> Result<ConfigLayers> {
        let mut layers = ConfigLayers::new();
        if let Some(file) = &self.file {
            layers = layers.file(file)?;
        }
        for assignment in &self.set {
            layers = layers.set(assignment)?;
        }
        Ok(layers.flags(matches)?)
    }
}
