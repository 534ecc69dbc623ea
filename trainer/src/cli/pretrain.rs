//! `efficienttrain pretrain`: a run of `train` with a target to reconstruct.

use anyhow::Result;
use clap::{ArgMatches, Args, Command};
use efficienttrain::config::TargetName;
use efficienttrain::config::{RunOptions, TrainConfig};

use super::train::TrainArgs;

/// Options that other commands take from a file and do not show.
const OPTIONS: [&str; 3] = ["target", "mask_ratio", "decoder"];

/// The command of a run without the options of pre-training in its help.
pub(super) fn hide(command: Command) -> Command {
    super::without(command, &OPTIONS)
}

/// Folder of runs where no other is given.
const OUT: &str = "runs/pretrain";

/// Options of a run that have no effect here: labels are not looked at, so nothing is evaluated.
const OF_CLASSES: [&str; 6] = ["demo", "loss", "bce_threshold", "eval_every", "keep_best", "label_smoothing"];

/// The command of a run with other defaults than `train`'s in its help, and without what is for classes.
pub(super) fn args(command: Command) -> Command {
    super::without(TrainArgs::augment_args(command), &OF_CLASSES)
        .mut_arg("out", |arg| arg.default_value(OUT))
        .mut_arg("target", |arg| {
            arg.help("What the decoder predicts of the patches that the encoder does not see [default: hog]")
        })
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
