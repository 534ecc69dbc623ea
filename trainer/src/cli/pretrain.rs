//! `efficienttrain pretrain`: `train` with a target to reconstruct.

use anyhow::Result;
use clap::{ArgMatches, Args, Command};
use efficienttrain::config::TargetName;
use efficienttrain::config::{RunOptions, TrainConfig};

use super::train::TrainArgs;

/// Options that other commands read from a file but do not show.
const OPTIONS: [&str; 3] = ["target", "mask_ratio", "decoder"];

/// Hides the options of pre-training in the help of another command.
pub(super) fn hide(command: Command) -> Command {
    super::without(command, &OPTIONS)
}

/// Default output folder.
const OUT: &str = "runs/pretrain";

/// Options that have no effect here: pre-training uses no labels and evaluates nothing.
const OF_CLASSES: [&str; 10] = [
    "demo",
    "loss",
    "bce_threshold",
    "class_weights",
    "sampler",
    "drop_rate",
    "eval_every",
    "early_stop",
    "keep_best",
    "label_smoothing",
];

/// Adapts the help of `train`: other defaults, and no options that concern classes.
pub(super) fn args(command: Command) -> Command {
    super::without(TrainArgs::augment_args(command), &OF_CLASSES)
        .mut_arg("out", |arg| arg.default_value(OUT))
        .mut_arg("target", |arg| arg.help("Prediction target for masked patches [default: hog]"))
        .mut_arg("model", |arg| {
            arg.help("Encoder: `deit_tiny`, `deit_small` or `deit_base` [default: deit_small]")
        })
}

pub(super) fn run(matches: &ArgMatches) -> Result<()> {
    super::refuse(matches, "pretrain", &OF_CLASSES)?;
    let config = TrainConfig {
        target: Some(TargetName::Hog),
        model: Some("deit_small".into()),
        ..TrainConfig::default()
    };
    super::train::run_with(matches, &config, &RunOptions { out: OUT.into(), ..RunOptions::default() })
}
