//! `efficienttrain train`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches};
use efficienttrain_trainer::chart::{Curve, accuracy_against_compute};
use efficienttrain_trainer::checkpoint::Saved;
use efficienttrain_trainer::config::{RunOptions, TrainConfig};
use efficienttrain_trainer::event::Observer;
use efficienttrain_trainer::log::JsonLog;
use efficienttrain_trainer::progress::Progress;
use efficienttrain_trainer::{Run, Sources};
use serde_json::Value;

/// Arguments of `train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    config: TrainConfig,

    #[command(flatten)]
    options: RunOptions,

    /// Go on from the checkpoint in `--out`, with the configuration stored there
    #[arg(long, conflicts_with = "demo")]
    resume: bool,

    /// Train a small model on the built-in set by the ++ curriculum, then the baseline of equal compute beside it
    #[arg(long)]
    demo: bool,
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    let args = TrainArgs::from_arg_matches(matches)?;
    if args.demo {
        return super::demo::run(&args.options, args.config.seed);
    }
    let run = if args.resume { resumed(matches, args)? } else { fresh(args)? };
    train(run.0, &run.1, "top-1 against compute").map(|_| ())
}

fn fresh(args: TrainArgs) -> Result<(Run, PathBuf)> {
    let out = args.options.out.clone();
    if checkpoint(&out).exists() {
        bail!("{} holds a run already; go on with --resume, or choose another --out", out.display());
    }
    args.config.check()?;
    let sources = Sources::open(&args.config)?;
    Ok((Run::new(args.config, args.options, sources)?, out))
}

fn resumed(matches: &ArgMatches, args: TrainArgs) -> Result<(Run, PathBuf)> {
    let out = args.options.out.clone();
    let path = checkpoint(&out);
    if !path.exists() {
        bail!("--resume: there is no {}; give the --out of the run to go on with", path.display());
    }
    let saved = Saved::open(&path)?;
    let mut config = saved.run()?.config.clone();
    refuse_changes(matches, &args.config, &config)?;
    // The folder may have moved; its content is compared.
    if args.config.data.is_some() {
        config.data = args.config.data;
    }
    let sources = Sources::open(&config)?;
    Ok((Run::resume(&saved, args.options, sources)?, out))
}

/// Options given on the command line must agree with those the run was started with.
fn refuse_changes(matches: &ArgMatches, given: &TrainConfig, stored: &TrainConfig) -> Result<()> {
    let (given, stored) = (serde_json::to_value(given)?, serde_json::to_value(stored)?);
    let (Value::Object(given), Value::Object(stored)) = (given, stored) else { return Ok(()) };
    let explicit = |key: &str| matches.value_source(key) == Some(ValueSource::CommandLine);
    let changed: Vec<String> = given
        .iter()
        .filter(|(key, value)| *key != "data" && explicit(key) && stored.get(*key) != Some(value))
        .map(|(key, value)| format!("--{} {value} (the run has {})", key.replace('_', "-"), stored[key]))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    bail!(
        "--resume keeps the run's configuration, but other values were given: {}; leave them out",
        changed.join(", ")
    )
}

fn checkpoint(out: &Path) -> PathBuf {
    out.join("last.safetensors")
}

/// Trains with log, progress bar and chart in `out`; gives the run's curve.
pub(crate) fn train(mut run: Run, out: &Path, title: &str) -> Result<Curve> {
    std::fs::create_dir_all(out).with_context(|| format!("--out: cannot make {}", out.display()))?;
    let log = JsonLog::open(&out.join("log.jsonl"), run.step())?;
    let mut observers: Vec<Box<dyn Observer>> = vec![Box::new(log), Box::new(Progress::new())];
    run.train(&mut observers)?;
    let curve = Curve { name: run.plan().recipe().name.clone(), evals: run.history.evals.clone() };
    if !curve.evals.is_empty() {
        accuracy_against_compute(&out.join("accuracy.svg"), title, std::slice::from_ref(&curve))?;
    }
    Ok(curve)
}
