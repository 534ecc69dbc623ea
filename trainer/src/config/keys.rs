//! Keys of a configuration, under the names of their flags.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::train::TrainConfig;

/// The stored keys of options, under the names of their flags.
pub(crate) fn keys_of(options: &impl Serialize) -> Map<String, Value> {
    let map = match serde_json::to_value(options) {
        Ok(Value::Object(map)) => map,
        // Options are structs of plain values.
        _ => Map::new(),
    };
    map.into_iter().map(|(key, value)| (key.replace('_', "-"), value)).collect()
}

/// Keys that earlier versions had under other names.
const RENAMED: [(&str, &str); 1] = [("on-bad-numbers", "on-nonfinite")];

/// Returns the present name of a key.
pub(crate) fn present_name(key: &str) -> &str {
    RENAMED.iter().find(|(old, _)| *old == key).map_or(key, |(_, new)| new)
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
    let theirs = keys_of(theirs);
    let other = |key: &str| theirs.get(key).cloned().unwrap_or_default();
    let differs = |(key, value): (String, Value)| {
        let theirs = other(&key);
        (theirs != value).then(|| Difference { key, ours: value.to_string(), theirs: theirs.to_string() })
    };
    keys_of(ours).into_iter().filter_map(differs).collect()
}
