//! `efficienttrain finetune`: `train` with other defaults.

use anyhow::{Result, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use efficienttrain_trainer::checkpoint::Saved;
use efficienttrain_trainer::config::{Layers, OptimizerName, Origin, RunOptions, TrainConfig};
use efficienttrain_trainer::{Every, Span};

use super::train::{TrainArgs, go};

/// Folder of runs where no other is given.
const OUT: &str = "runs/finetune";

/// What has no effect here.
const DEMO: [&str; 1] = ["demo"];

/// The arguments of `train`, with what `finetune` takes where they are not given.
pub(crate) fn args(command: Command) -> Command {
    let defaults = [("out", OUT), ("recipe", "baseline"), ("epochs", "10"), ("layer_decay", "0.9")];
    let command = super::without(TrainArgs::augment_args(command), &DEMO);
    defaults.into_iter().fold(command, |c, (name, value)| c.mut_arg(name, |a| a.default_value(value))).after_help(
        "Also, where it is not given: --opt adamw --lr 1e-4 --weight-decay 0.05 --warmup 5% --ema-decay 0.999 --ema-warmup --mixup 0 \
         --cutmix 0; --model and --base-size are those of the run that --init is from.",
    )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    super::refuse(matches, "finetune", &DEMO)?;
    let args = TrainArgs::from_arg_matches(matches)?;
    let given = args.layered.layers(matches)?;
    let resolved = given.resolve()?;
    let Some(init) = &resolved.config.init else {
        if args.resume.is_some() {
            let options = RunOptions { out: OUT.into(), ..RunOptions::default() };
            return go(&args, given.rebase(&TrainConfig::default(), &options, Origin::Default));
        }
        bail!(
            "--init: give the weights to begin with: a run's model.safetensors, or a file of timm with --model"
        );
    };
    let saved = Saved::open(init)?;
    if saved.record.is_none() && resolved.config.model.is_none() {
        bail!("--model: {} does not say which model its weights are of; name it", init.display());
    }
    go(&args, on_defaults(given, &saved)?)
}

/// What fine-tuning takes where nothing else is given: full size throughout, little augmentation, small steps, smaller ones
/// towards the stem (0.9 a layer, as the paper fine-tunes), and the average of the weights.
fn on_defaults(given: Layers, saved: &Saved) -> Result<Layers> {
    let mut config = TrainConfig {
        recipe: "baseline".into(),
        epochs: 10.0,
        opt: Some(OptimizerName::AdamW),
        lr: Some(1e-4),
        weight_decay: Some(0.05),
        warmup: Some(Span(Some(Every::Percent(5.0)))),
        layer_decay: 0.9,
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ema_decay: Some(0.999),
        ema_warmup: true,
        ..TrainConfig::default()
    };
    if let Some(record) = &saved.record {
        // Of pre-training, the encoder.
        config.model = Some(match record.config.target {
            Some(_) => record.config.recipe()?.model,
            None => record.model.clone(),
        });
        config.base_size = u32::try_from(record.base_size).unwrap_or(config.base_size);
    }
    let options = RunOptions { out: OUT.into(), ..RunOptions::default() };
    Ok(given.rebase(&config, &options, Origin::Default))
}
