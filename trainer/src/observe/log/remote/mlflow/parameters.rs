//! Options of a run as MLflow's parameters.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::keys::keys_of;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;

/// Number of characters of a value that all versions of MLflow accept.
const LONGEST: usize = 500;
/// End of values that were longer.
const CUT: &str = "...";
/// The path of an address may contain a secret.
const SECRET: &str = "log-url";

/// Texts by name.
pub(crate) type Texts = BTreeMap<String, String>;

/// Returns the options that are set, named like their flags.
pub(crate) fn parameters(config: &TrainConfig, options: &RunOptions) -> Texts {
    let options = keys_of(options).into_iter().filter(|(key, _)| key != SECRET);
    let set = keys_of(config).into_iter().chain(options).filter(|(_, value)| !value.is_null());
    set.map(|(key, value)| (key, text(value))).collect()
}

/// Returns true if options that decide the outcome of a run are the same in both.
pub(crate) fn same_outcome(config: &TrainConfig, ours: &Texts, theirs: &Texts) -> bool {
    keys_of(config).keys().all(|key| ours.get(key) == theirs.get(key))
}

fn text(value: Value) -> String {
    let text = match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        None => text,
        Some(_) => text.chars().take(LONGEST - CUT.len()).chain(CUT.chars()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_texts_of_at_most_500_characters() {
        let long = "é".repeat(501);
        let cut = text(Value::String(long));
        assert_eq!((cut.chars().count(), cut.ends_with("é...")), (500, true));
        assert_eq!(text(Value::String("é".repeat(500))), "é".repeat(500));
        assert_eq!(text(serde_json::json!([1, 2])), "[1,2]");
    }

    #[test]
    fn unset_and_secret_options_are_left_out() {
        let options = RunOptions {
            log_url: Some("https://host/secret".into()),
            workers: None,
            ..RunOptions::default()
        };
        let config = TrainConfig { seed: 3, lr: None, ..TrainConfig::default() };
        let parameters = parameters(&config, &options);
        assert_eq!(parameters["seed"], "3");
        assert!(["log-url", "workers", "lr"].iter().all(|key| !parameters.contains_key(*key)));
        let other = TrainConfig { seed: 4, ..config.clone() };
        assert!(same_outcome(&config, &parameters, &parameters));
        assert!(!same_outcome(&config, &parameters, &super::parameters(&other, &options)));
    }
}
