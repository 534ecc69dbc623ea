//! `efficienttrain train`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::{Result, bail};
use clap::{ArgMatches, Args, FromArgMatches};
use efficienttrain::checkpoint::{Checkpoint, LAST, newest};
use efficienttrain::config::{
    BatchSize, ConfigLayers, CostRule, Resolved, RunOptions, TrainConfig, ValueOrigin, ViewName, differences,
};
use efficienttrain::distributed::Group;
use efficienttrain::events::{Figure, Observer};
use efficienttrain::measure::autobatch::tune;
use efficienttrain::measure::forecast::forecast;
use efficienttrain::measure::with_known_cost;
use efficienttrain::observe::chart::{Curve, accuracy_against_compute};
use efficienttrain::observe::progress::Progress;
use efficienttrain::observe::{log, view};
use efficienttrain::pretrain::ENCODER;
use efficienttrain::{Error, Run, Sources};

use super::layered::Layered;
use super::ranks::RankArgs;
use super::signals::Stopped;

/// Arguments of `train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    #[command(flatten)]
    pub(super) layered: Layered,

    #[command(flatten)]
    ranks: RankArgs,

    /// Print all options as a file for --config, each with its origin, and stop
    #[arg(long, conflicts_with = "demo", help_heading = "Configuration")]
    print_config: bool,

    /// Print plan, cost, and a forecast of memory and time, and stop
    #[arg(long, conflicts_with = "demo", help_heading = "Configuration")]
    dry_run: bool,

    /// Resume from the newest complete checkpoint in `--out`, with the options stored in it; `auto`
    /// starts a new run if there is none, a FILE resumes from that checkpoint
    #[arg(long, value_name = "auto|FILE", num_args = 0..=1, default_missing_value = "", conflicts_with = "demo")]
    pub(super) resume: Option<String>,

    /// With --resume: options that may differ from those of the original run
    #[arg(long, value_name = "KEY", value_delimiter = ',', requires = "resume")]
    allow_change: Vec<String>,

    /// Train a small model on the built-in set with the ++ curriculum, and the baseline in equal time
    /// for comparison
    #[arg(long)]
    pub(super) demo: bool,
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    run_with(matches, &TrainConfig::default(), &RunOptions::default())
}

/// Runs the command; `config` and `options` are the defaults of options that are not given.
pub(crate) fn run_with(matches: &ArgMatches, config: &TrainConfig, options: &RunOptions) -> Result<()> {
    let args = TrainArgs::from_arg_matches(matches)?;
    execute(&args, args.layered.layers(matches)?.with_base(config, options, ValueOrigin::Default))
}

/// Trains, prints the configuration, or forecasts, depending on the arguments.
pub(crate) fn execute(args: &TrainArgs, layers: ConfigLayers) -> Result<()> {
    args.ranks.run(|group| execute_in(group, args, layers))
}

fn execute_in(group: &Group, args: &TrainArgs, layers: ConfigLayers) -> Result<()> {
    let out = group.agree(layers.resolve())?.options.out;
    let find = |from: &str| Checkpoint::shared(group, || checkpoint(&out, from));
    let saved = args.resume.as_deref().map(find).transpose()?.flatten();
    let mut resolved = match &saved {
        Some(saved) => resumed(&layers, saved, out, &args.allow_change)?,
        None => layers.resolve()?,
    };
    if resolved.origins.get("devices") == Some(&ValueOrigin::Default) {
        resolved.config.devices = u32::try_from(group.size()).unwrap_or(u32::MAX);
    }
    if args.print_config {
        return Ok(super::print_line(resolved.to_toml()?.trim_end())?);
    }
    let run =
        open(group, &resolved, saved.as_ref(), args.dry_run).map_err(|error| match error.downcast() {
            Ok(error) => resolved.explain(error).into(),
            Err(other) => other,
        })?;
    if args.dry_run {
        super::print_line(format!("{}\n", run.plan().summary()?))?;
        run.remarks().try_for_each(super::print_message)?;
        return Ok(super::print_message(forecast(run)?)?);
    }
    let out = &resolved.options.out;
    let title = format!("{} against compute", Figure::of_run(resolved.config.multi_label).name());
    train(run, out, &title)?;
    // These files exist only if the run reached its end instead of --stop-after.
    match ["model.safetensors", ENCODER].map(|name| out.join(name)).iter().find(|path| path.exists()) {
        Some(weights) => Ok(super::print_line(format!(
            "weights: {}; a page about the run: `efficienttrain report {}`",
            weights.display(),
            out.display()
        ))?),
        None => Ok(()),
    }
}

/// Checks that a new run does not replace another one.
fn check_new(out: &Path) -> Result<(), Error> {
    if out.join(LAST).exists() {
        let what = format!(
            "{} contains a run already; resume it with option `resume`, or choose another folder",
            out.display()
        );
        return Err(Error::Config { option: "out".into(), what });
    }
    Ok(())
}

fn open(group: &Group, resolved: &Resolved, saved: Option<&Checkpoint>, dry: bool) -> Result<Run> {
    let (mut config, options) = (resolved.config.clone(), resolved.options.clone());
    if let (None, None, Some(init)) = (saved, &config.model, &config.init) {
        // Before anything is measured with another model.
        let description = group.agree(Checkpoint::open(init))?.description()?;
        description.iter().for_each(|description| description.complete(&mut config));
    }
    let writes = group.is_first() && saved.is_none() && !dry;
    let new = if writes { check_new(&options.out) } else { Ok(()) };
    // Agreed on step by step, so that an error of all is told as such by the first process.
    group.agree(new.and_then(|()| Run::check(&config)).and_then(|()| options.check()))?;
    if group.is_first() {
        super::note_built_in_set(&config);
    }
    let sources = group.agree(Sources::open(&config))?;
    let needs_two = config.target.is_none() && !config.multi_label;
    if let ([class], true) = (sources.train.classes(), needs_two) {
        bail!(
            "--data: `{class}` is the only class, and a classifier needs two or more; add others, or train without labels with `efficienttrain pretrain`"
        );
    }
    if config.batch == BatchSize::Auto {
        config.batch = tuned(group, &config, &options, &sources)?;
    }
    config.cost = known(group, &config, &options, &sources)?;
    let run = group.agree(match saved {
        Some(saved) => Run::resume_as(saved, config, options, sources),
        None => Run::new(config, options, sources),
    })?;
    Ok(run.with_group(group.clone())?)
}

/// Returns the batches that are fast on the machine of the first process.
fn tuned(group: &Group, config: &TrainConfig, options: &RunOptions, sources: &Sources) -> Result<BatchSize> {
    let measure = || -> Result<String, Error> {
        let chosen = tune(config, options, sources.train.classes().len(), sources.train.len())?;
        super::eprint_line(&chosen);
        Ok(chosen.batch().to_string())
    };
    let own = group.agree(if group.is_first() { measure() } else { Ok(String::new()) })?;
    let chosen = String::from_utf8(group.broadcast(|| own.into_bytes())?)?;
    chosen.parse().map_err(|what: String| anyhow::anyhow!(what))
}

/// Returns the unit of the budget, with the costs of images on the machine of the first process.
fn known(group: &Group, config: &TrainConfig, options: &RunOptions, sources: &Sources) -> Result<CostRule> {
    if !matches!(config.cost, CostRule::Wanted(_)) {
        return Ok(config.cost.clone());
    }
    let measure = || with_known_cost(config, options, sources, &[]).map(|config| config.cost.to_string());
    let own = group.agree(if group.is_first() { measure() } else { Ok(String::new()) })?;
    let known = String::from_utf8(group.broadcast(|| own.into_bytes())?)?;
    known.parse().map_err(|what: String| anyhow::anyhow!(what))
}

/// Keys that cannot change when a run is resumed, and why.
const FIXED: [(&str, &str); 7] = [
    ("init", "the run has started, so initial weights have no effect any more"),
    ("init-ema", "the run has started, so initial weights have no effect any more"),
    ("images-per-class", "it selects the training images, and the run counts them"),
    ("val-share", "it selects the training images, and the run counts them"),
    ("synthetic-images", "it selects the training images, and the run counts them"),
    ("multi-label", "it defines what is trained"),
    ("target", "it defines what is trained"),
];

/// Returns the options of a resumed run. Options given now must agree with those of the original
/// run, except for `allowed` keys and the folder of the data, which may have moved (its content is
/// compared).
fn resumed(layers: &ConfigLayers, saved: &Checkpoint, out: PathBuf, allowed: &[String]) -> Result<Resolved> {
    let record = saved.run()?;
    let stored = &record.config;
    let options = RunOptions { out, ..record.options.clone().unwrap_or_default() };
    let mut resolved = layers.clone().with_base(stored, &options, ValueOrigin::Run).resolve()?;
    // The batch size measured at the start of the run is kept.
    if resolved.config.batch == BatchSize::Auto {
        resolved.config.batch = stored.batch.clone();
        super::eprint_line(format!("note: --batch auto: the run keeps its batch size of {}", stored.batch));
    }
    if matches!(resolved.config.cost, CostRule::Wanted(_)) {
        resolved.config.cost = stored.cost.clone();
        super::eprint_line(format!("note: --cost: the run keeps its costs, {}", stored.cost));
    }
    if let Some((key, why)) = FIXED.iter().find(|(key, _)| allowed.iter().any(|allowed| allowed == key)) {
        bail!("--allow-change {key}: {why}; leave it out, or start another run");
    }
    if let Some(unknown) = allowed.iter().find(|key| !resolved.origins.contains_key(*key)) {
        bail!("--allow-change: there is no option `{unknown}`; expected keys as --print-config shows them");
    }
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

/// Returns the checkpoint to resume from; none if `auto` finds none.
fn checkpoint(out: &Path, from: &str) -> Result<Option<Checkpoint>, Error> {
    if !matches!(from, "" | "auto") {
        return Ok(Some(Checkpoint::open(Path::new(from))?));
    }
    let Some(newest) = newest(out)? else {
        if from == "auto" {
            return Ok(None);
        }
        let what = format!(
            "{} does not exist; give the option `out` of the run to resume",
            out.join(LAST).display()
        );
        return Err(Error::Config { option: "resume".into(), what });
    };
    for damage in &newest.damaged {
        super::eprint_line(format!("warning: {damage}"));
    }
    if !newest.damaged.is_empty() {
        super::eprint_line(format!("warning: resuming from {} instead", newest.path.display()));
    }
    Ok(Some(newest.saved))
}

/// Trains with log, progress bar and chart in `out`, and returns the run's curve. A signal ends it
/// with [`Stopped`].
pub(crate) fn train(mut run: Run, out: &Path, title: &str) -> Result<Curve> {
    let (first, stop) = (run.group().is_first(), run.stop_flag());
    let mut observers = Vec::new();
    if first {
        run.claim()?;
        observers = log::open(run.config(), run.options(), run.step())?;
        // Dropped first, so that the terminal is restored before the logs tell what failed.
        observers.insert(0, display(run.options(), &stop)?);
    } else {
        super::signals::set_on_stop(&stop)?;
    }
    let finished = run.train(&mut observers);
    // Restores the terminal.
    drop(observers);
    if first && matches!(finished, Err(Error::Io { .. })) && out.join(LAST).exists() {
        super::eprint_line("note: everything up to the newest checkpoint is saved; continue with --resume");
    }
    let finished = finished?;
    let curve = Curve { name: run.plan().recipe().name.clone(), evals: run.history.evals.clone() };
    if first && !curve.evals.is_empty() {
        accuracy_against_compute(&out.join("accuracy.svg"), title, std::slice::from_ref(&curve))?;
    }
    if !finished && run.was_stopped() {
        return Err(Stopped::RESUME.into());
    }
    Ok(curve)
}

/// Returns the terminal display of a run, with the signals that stop it.
fn display(options: &RunOptions, stop: &Arc<AtomicBool>) -> Result<Box<dyn Observer>> {
    let full = options.view == ViewName::Full;
    if full && view::is_possible() {
        super::signals::set_on_stop_after(stop, view::restore)?;
        return Ok(Box::new(view::FullScreen::enter()?));
    }
    if full {
        super::eprint_line(
            "note: --view full needs a terminal on the standard output; printing plain lines instead",
        );
    }
    super::signals::set_on_stop(stop)?;
    Ok(Box::new(Progress::new()))
}
