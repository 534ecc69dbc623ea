//! Options of a run, for the commands that train: from a file, `--set` and flags.

use std::path::PathBuf;

use anyhow::Result;
use clap::{ArgMatches, Args};
use efficienttrain::config::{ConfigLayers, RunOptions, TrainConfig};

/// Options of a run and where they may be taken from.
#[derive(Args)]
pub(crate) struct Layered {
    #[command(flatten)]
    pub(crate) config: TrainConfig,

    #[command(flatten)]
    pub(crate) options: RunOptions,

    /// Read options from a TOML file, whose keys are the names of these flags; flags and --set win over it
    #[arg(long = "config", value_name = "FILE", help_heading = "Configuration")]
    file: Option<PathBuf>,

    /// Set an option by its key, as in a file; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,
}

impl Layered {
    /// All layers above the defaults; `matches` are those that this was read from.
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
