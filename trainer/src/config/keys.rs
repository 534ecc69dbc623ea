//! Keys of a configuration, named like its flags.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::train::TrainConfig;

/// Returns the stored keys and values of options, named like their flags.
pub(crate) fn keys_of(options: &impl Serialize) -> Map<String, Value> {
    let map = match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        // Options are structs of plain values.
        _ => Map::new(),
    };
    map.into_iter().map(|(key, value)| (key.replace('_', "-"), value)).collect()
}

/// Keys that earlier versions had under another name.
const RENAMED: [(&str, &str); 1] = [("on-bad-numbers", "on-nonfinite")];

/// Returns the current name of a key.
pub(crate) fn present_name(key: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new)
}

/// A key with different values in two configurations.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The key, named like its flag.
    pub key: String,
    /// Value in the first configuration, as JSON; `null` if unset.
    pub ours: String,
    /// Value in the second configuration.
    pub theirs: String,
}

/// Returns the keys in which two configurations differ.
pub fn differences(ours: &TrainConfig, theirs: &TrainConfig) -> Vec<Difference> {
    let theirs = keys_of(theirs);
    let other = |key: &str| theirs.get(key).cloned().unwrap_or_default();
    let differs = |(key, value): (String, Value)| {
        let theirs = other(&key);
        (theirs != value).then(|| Difference { key, ours: value.to_string(), theirs: theirs.to_string() })
    };
    keys_of(ours).into_iter().filter_map(differs).collect()
}
