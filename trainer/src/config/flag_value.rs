//! Values written like those of flags: after `--set`, and as texts in a file.

use clap::{Args, Command, FromArgMatches};
use serde_json::Value;

use crate::config::keys::keys_of;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;

/// Parses a value like the flag of its key; none if the flag does not accept it, or takes no value.
pub(crate) fn flag_value(key: &str, text: &str) -> Option<Value> {
    let command = RunOptions::augment_args(TrainConfig::augment_args(Command::new("set")));
    let matches = command.no_binary_name(true).try_get_matches_from([format!("--{key}={text}")]).ok()?;
    let mut keys = keys_of(&TrainConfig::from_arg_matches(&matches).ok()?);
    keys.extend(keys_of(&RunOptions::from_arg_matches(&matches).ok()?));
    keys.remove(key).filter(|value| !value.is_null())
}
