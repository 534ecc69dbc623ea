//! `efficienttrain train`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use efficienttrain_trainer::chart::{Curve, accuracy_against_compute};
use efficienttrain_trainer::checkpoint::Saved;
use efficienttrain_trainer::config::{Layers, Origin, Resolved, RunOptions, TrainConfig, differences};
use efficienttrain_trainer::event::Observer;
use efficienttrain_trainer::forecast::forecast;
use efficienttrain_trainer::log::JsonLog;
use efficienttrain_trainer::progress::Progress;
use efficienttrain_trainer::{Run, Sources};

/// Arguments of `train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    config: TrainConfig,

    #[command(flatten)]
    options: RunOptions,

    /// Read options from a TOML file, whose keys are the names of these flags; flags and --set win over it
    #[arg(long = "config", value_name = "FILE", help_heading = "Configuration")]
    file: Option<PathBuf>,

    /// Set an option by its key, as in a file; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration")]
    set: Vec<String>,

    /// Print all options as a file for --config, each with where it comes from, and stop
    #[arg(long, help_heading = "Configuration")]
    print_config: bool,

    /// Print plan, cost, and a forecast of memory and time, and stop
    #[arg(long, help_heading = "Configuration")]
    dry_run: bool,

    /// Go on from the checkpoint in `--out`, with the configuration stored there
    #[arg(long, conflicts_with = "demo")]
    resume: bool,

    /// With --resume: options that may differ from those the run was started with
    #[arg(long, value_name = "KEY", value_delimiter = ',', requires = "resume")]
    allow_change: Vec<String>,

    /// Train a small model on the built-in set by the ++ curriculum, then the baseline of equal compute beside it
    #[arg(long)]
    demo: bool,
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    let args = TrainArgs::from_arg_matches(matches)?;
    if args.demo {
        return super::demo::run(&args.options, args.config.seed);
    }
    let mut layers = Layers::new();
    if let Some(file) = &args.file {
        layers = layers.file(file)?;
    }
    for assignment in &args.set {
        layers = layers.set(assignment)?;
    }
    layers = layers.flags(matches)?;
    let saved =
        if args.resume { Some(Saved::open(&checkpoint(&layers.resolve()?.options.out)?)?) } else { None };
    let resolved = match &saved {
        Some(saved) => resumed(&layers, saved, &args.allow_change)?,
        None => layers.resolve()?,
    };
    if args.print_config {
        return Ok(super::show(resolved.to_toml()?.trim_end())?);
    }
    let run = open(&resolved, saved.as_ref(), args.dry_run).map_err(|error| match error.downcast() {
        Ok(error) => resolved.explain(error).into(),
        Err(other) => other,
    })?;
    if args.dry_run {
        super::show(format!("{}\n", run.plan().summary()?))?;
        return Ok(super::show(forecast(run)?)?);
    }
    train(run, &resolved.options.out, "top-1 against compute").map(|_| ())
}

fn open(resolved: &Resolved, saved: Option<&Saved>, dry: bool) -> Result<Run> {
    let (config, options) = (resolved.config.clone(), resolved.options.clone());
    let held = options.out.join("last.safetensors");
    if saved.is_none() && !dry && held.exists() {
        bail!("{} holds a run already; go on with --resume, or choose another --out", options.out.display());
    }
    config.check()?;
    let sources = Sources::open(&config)?;
    Ok(match saved {
        Some(saved) => Run::resume_as(saved, config, options, sources)?,
        None => Run::new(config, options, sources)?,
    })
}

/// The options of a run that goes on. What is given now must agree with what it was started with, but for `allowed` keys
/// and for the folder of the data, which may have moved: its content is compared.
fn resumed(layers: &Layers, saved: &Saved, allowed: &[String]) -> Result<Resolved> {
    let stored = &saved.run()?.config;
    let resolved = layers.clone().rebase(stored, &RunOptions::default(), Origin::Run).resolve()?;
    let free = |key: &str| key == "data" || allowed.iter().any(|a| a == key);
    let changed: Vec<String> = differences(&resolved.config, stored)
        .into_iter()
        .filter(|d| !free(&d.key))
        .map(|d| format!("--{} {} (the run has {})", d.key, d.ours, d.theirs))
        .collect();
    if changed.is_empty() {
        return Ok(resolved);
    }
    bail!(
        "--resume keeps the run's configuration, but other values were given: {}; leave them out, or allow them with \
         --allow-change KEY",
        changed.join(", ")
    )
}

fn checkpoint(out: &Path) -> Result<PathBuf> {
    let path = out.join("last.safetensors");
    if !path.exists() {
        bail!("--resume: there is no {}; give the --out of the run to go on with", path.display());
    }
    Ok(path)
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
