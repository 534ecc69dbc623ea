//! `efficienttrain search`.

use std::sync::atomic::Ordering;

use anyhow::{Result, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use efficienttrain::config::{RunOptions, TrainConfig, ValueOrigin};
use efficienttrain::events::Figure;
use efficienttrain::experiments::search::{SearchRun, SearchSettings, TrialEvent, write_outcome};
use efficienttrain::measure::forecast::clock;
use efficienttrain_schedule::search::{Report, Trial};

use super::layered::Layered;
use super::signals::{Stopped, set_on_stop};

/// Arguments of `search`.
#[derive(Args)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    layered: Layered,

    #[command(flatten)]
    settings: SearchSettings,

    /// Resume the search in `--out`, if there is one; repeat the other options of its command
    #[arg(long)]
    resume: bool,
}

/// Default output folder.
const OUT: &str = "runs/search";

/// Options that a search sets itself: trials are evaluated at their end, keep only the checkpoints
/// that later trials need, and write no logs of their own. Magnitudes are those of the search.
const OWN: [&str; 8] =
    ["log", "view", "eval_every", "keep_last", "keep_best", "stop_after", "early_stop", "magnitude"];

/// Adds the arguments of `train` and of the search to the command.
pub(crate) fn args(command: Command) -> Command {
    let command = super::pretrain::hide(SearchArgs::augment_args(command));
    super::without(command, &OWN)
        .mut_arg("out", |arg| arg.default_value(OUT))
        // The name is that of the search's own option.
        .mut_arg("early_stop", |arg| arg.long("run-early-stop"))
        .mut_arg("seed", |arg| arg.help(super::SEED_OF_MANY))
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    super::ranks::refuse("search")?;
    super::refuse(matches, "search", &OWN)?;
    let args = SearchArgs::from_arg_matches(matches)?;
    let defaults = RunOptions { out: OUT.into(), ..RunOptions::default() };
    let layers =
        args.layered.layers(matches)?.with_base(&TrainConfig::default(), &defaults, ValueOrigin::Default);
    let resolved = layers.resolve()?;
    let out = resolved.options.out.clone();
    if SearchRun::exists(&out) && !args.resume {
        bail!(
            "{} contains a search already; resume it with --resume, or choose another --out",
            out.display()
        );
    }
    super::note_built_in_set(&resolved.config);
    let search = SearchRun::open(resolved.config.clone(), &args.settings, resolved.options.clone());
    let mut search = search.map_err(|error| resolved.explain(error))?;
    let stop = search.stop_flag();
    set_on_stop(&stop)?;
    let figure = search.figure();
    let Some(outcome) = search.run(&mut |event| print_event(event, figure))? else {
        if stop.load(Ordering::Relaxed) {
            return Err(Stopped::RESUME.into());
        }
        bail!("the search ended without a result or an error");
    };
    let recipe = write_outcome(&out, &outcome, search.seconds(), figure)?;
    let seconds: f64 = search.seconds().iter().sum();
    let trained: f64 = outcome.equivalent_epochs;
    let exhaustive = seconds * outcome.exhaustive_epochs / trained.max(f64::MIN_POSITIVE);
    let accuracies = match figure {
        Figure::Top1 => "",
        Figure::Map => "accuracies are mean average precisions (mAP)\n",
    };
    super::print_line(format!(
        "{outcome}\n{accuracies}wall time of the trials: {}; at this pace, every curriculum would take {}\nrecipe: {}",
        clock(seconds),
        clock(exhaustive),
        recipe.display()
    ))?;
    Ok(())
}

/// Reports a trial in one line on the standard error.
fn print_event(event: &TrialEvent, figure: Figure) {
    match event {
        TrialEvent::Start(trial) => {
            super::eprint_line(format!(
                "{}: {}, {:.2} compute epochs",
                trial.id,
                describe(trial),
                trial.equivalent_epochs()
            ));
        }
        TrialEvent::End { trial, report: Report::Accuracy(accuracy), seconds } => {
            super::eprint_line(format!(
                "{}: {} {:.2}% in {}",
                trial.id,
                figure.name(),
                100.0 * accuracy,
                clock(*seconds)
            ));
        }
        TrialEvent::End { trial, report: Report::Failed(reason), .. } => {
            super::eprint_line(format!("{}: failed: {reason}", trial.id));
        }
    }
}

fn describe(trial: &Trial) -> String {
    let stages = trial.plan.stages().len();
    match trial.id.stage {
        None => "plain training".into(),
        Some(stage) => format!("stage {} of {stages} at B = {}", stage + 1, trial.choice),
    }
}
