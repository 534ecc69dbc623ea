//! `efficienttrain finetune`: `train` with other defaults.

use anyhow::{Result, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{
    ConfigLayers, Difference, Interval, Length, OptimizerName, RunOptions, TrainConfig, ValueOrigin,
    differences,
};

use super::train::{TrainArgs, execute};

/// Default output folder.
const OUT: &str = "runs/finetune";

/// Options that have no effect here.
const DEMO: [&str; 1] = ["demo"];

/// Returns the defaults of fine-tuning: full size throughout, little augmentation, a small learning
/// rate that decays towards the stem (0.9 per layer, as in the paper's fine-tuning), and an average
/// of the weights.
fn defaults() -> (TrainConfig, RunOptions) {
    let config = TrainConfig {
        recipe: "baseline".into(),
        epochs: 10.0,
        opt: Some(OptimizerName::AdamW),
        lr: Some(1e-4),
        weight_decay: Some(0.05),
        warmup: Some(Length(Some(Interval::Percent(5.0)))),
        layer_decay: 0.9,
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ema_decay: Some(0.999),
        ema_warmup: true,
        ..TrainConfig::default()
    };
    (config, RunOptions { out: OUT.into(), ..RunOptions::default() })
}

/// Gives the arguments of `train` the defaults of [`defaults`]: in their own help if they have a
/// default there, otherwise in a list below all of them.
pub(crate) fn args(command: Command) -> Command {
    let command =
        super::without(TrainArgs::augment_args(command), &DEMO).mut_arg("out", |a| a.default_value(OUT));
    let mut others = Vec::new();
    let changed = differences(&defaults().0, &TrainConfig::default());
    let command = changed.into_iter().fold(command, |command, Difference { key, ours, .. }| {
        let (id, value) = (key.replace('-', "_"), ours.trim_matches('"').to_string());
        let has_default =
            command.get_arguments().any(|arg| *arg.get_id() == id && !arg.get_default_values().is_empty());
        if has_default {
            return command.mut_arg(id, |arg| arg.default_value(value));
        }
        others.push(format!("--{key} {value}"));
        command
    });
    command.after_help(format!(
        "Other defaults: {}; --model and --base-size are those of the run that wrote the --init file, or of timm's config.json beside it.",
        others.join(" ")
    ))
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    super::refuse(matches, "finetune", &DEMO)?;
    let args = TrainArgs::from_arg_matches(matches)?;
    let given = args.layered.layers(matches)?;
    let resolved = given.resolve()?;
    let Some(init) = &resolved.config.init else {
        if args.resume.is_some() {
            return execute(
                &args,
                given.with_base(&TrainConfig::default(), &defaults().1, ValueOrigin::Default),
            );
        }
        bail!(
            "--init: initial weights are required: the model.safetensors of a run, or a timm file with --model"
        );
    };
    let saved = Checkpoint::open(init)?;
    if saved.record.is_none() && saved.description()?.is_none() && resolved.config.model.is_none() {
        bail!("--model: {} does not record its model; give its name", init.display());
    }
    execute(&args, on_defaults(given, &saved)?)
}

/// Returns the defaults, with the model and size of the run that wrote the weights.
fn on_defaults(given: ConfigLayers, saved: &Checkpoint) -> Result<ConfigLayers> {
    let (mut config, options) = defaults();
    if let Some(record) = &saved.record {
        // Pre-training leaves an encoder.
        config.model = Some(match record.config.target {
            Some(_) => record.config.recipe()?.model,
            None => record.model.clone(),
        });
        config.base_size = u32::try_from(record.base_size).unwrap_or(config.base_size);
    } else if let Some(description) = saved.description()? {
        config.base_size = u32::try_from(description.size).unwrap_or(config.base_size);
        description.complete(&mut config);
    }
    Ok(given.with_base(&config, &options, ValueOrigin::Default))
}
