//! Configurations as TOML files.

use clap::Args;
use efficienttrain_schedule::{DropPath, Recipe};
use serde_json::Value;

use crate::config::keys::keys_of;
use crate::config::layers::{Resolved, ValueOrigin};
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::Result;

/// Formats the options as a file for `--config`, from which the run can be repeated.
///
/// # Errors
/// Returns an error if the recipe is unknown or a value out of range.
pub fn to_toml(config: &TrainConfig, options: &RunOptions) -> Result<String> {
    print(config, options, |_| None)
}

impl Resolved {
    /// Formats the options like [`to_toml`], with the origin of each value in a comment.
    ///
    /// # Errors
    /// Returns an error if the recipe is unknown or a value out of range.
    pub fn to_toml(&self) -> Result<String> {
        let origin = |key: &str| self.origins.get(key).cloned();
        print(&self.config, &self.options, origin).map_err(|e| self.explain(e))
    }
}

fn print(
    config: &TrainConfig,
    options: &RunOptions,
    origin: impl Fn(&str) -> Option<ValueOrigin>,
) -> Result<String> {
    let recipe = config.recipe()?;
    let mut out = String::from("# Options of `efficienttrain train`; use them with --config.\n");
    // In the order and groups of `--help`.
    let command = RunOptions::augment_args(TrainConfig::augment_args(clap::Command::new("train")));
    let (mut keys, mut group) = (keys_of(config), None);
    keys.extend(keys_of(options));
    for argument in command.get_arguments() {
        let key = argument.get_id().as_str().replace('_', "-");
        let Some(value) = keys.get(&key) else { continue };
        if group != argument.get_help_heading() {
            group = argument.get_help_heading();
            out += &format!("\n# {}\n", group.unwrap_or("Options"));
        }
        let from = origin(&key).map(|origin| origin.to_string());
        out += &match (readable(&key, value).or_else(|| toml_of(value)), of_recipe(&key, &recipe)) {
            (Some(value), _) => line(&format!("{key} = {value}"), from),
            (None, Some(value)) => {
                line(&format!("# {key} = {value}"), Some(format!("recipe {}", recipe.name)))
            }
            (None, None) => line(&format!("# {key} ="), Some("not set".into())),
        };
    }
    Ok(out)
}

fn line(assignment: &str, comment: Option<String>) -> String {
    match comment {
        Some(comment) => format!("{assignment:<40}  # {comment}\n"),
        None => format!("{assignment}\n"),
    }
}

/// Formats an inline recipe over several lines.
fn readable(key: &str, value: &Value) -> Option<String> {
    let text = value.as_str().filter(|text| key == "recipe" && text.starts_with('{'))?;
    let recipe: Recipe = serde_json::from_str(text).ok()?;
    let lines = serde_json::to_string_pretty(&recipe).ok().filter(|lines| !lines.contains("'''"))?;
    Some(format!("'''\n{lines}'''"))
}

/// Formats a value as TOML; none if there is no value.
fn toml_of(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        // TOML distinguishes integers from floats like JSON does.
        other => toml::Value::try_from(other).ok().map(|value| value.to_string()),
    }
}

/// Returns the value that the recipe gives to an option that is not set. Options that are set are
/// already applied to this recipe.
fn of_recipe(key: &str, recipe: &Recipe) -> Option<String> {
    let (o, a) = (&recipe.optimizer, &recipe.augmentation);
    let number = |x: f64| Some(format!("{x:?}"));
    match key {
        "model" => Some(format!("{:?}", recipe.model)),
        "opt" => Some(format!("\"{}\"", format!("{:?}", o.kind).to_lowercase())),
        "weight-decay" => number(o.weight_decay),
        "clip-grad" => number(o.clip_grad.unwrap_or(0.0)),
        "ema-decay" => number(recipe.ema_decay.unwrap_or(0.0)),
        "auto-augment" => Some(format!("{:?}", a.policy(9.0))),
        "mixup" => number(a.mixup),
        "cutmix" => number(a.cutmix),
        "label-smoothing" => number(a.label_smoothing),
        "hflip" => number(a.flip),
        "erasing" => number(a.erasing),
        "drop-path" => match recipe.drop_path {
            DropPath::Constant(rate) => number(rate),
            DropPath::Scaled { rate, at_epochs } => {
                Some(format!("{rate:?} at {at_epochs} epochs, in proportion"))
            }
        },
        _ => None,
    }
}
