//! `efficienttrain compare`.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};
use clap::{ArgMatches, Args, Command, FromArgMatches};
use efficienttrain::Sources;
use efficienttrain::config::Interval;
use efficienttrain::config::{ConfigLayers, CostRule, CostUnit, RunOptions, TrainConfig, ValueOrigin};
use efficienttrain::experiments::compare::{
    Comparison, Contestant, half_at, settle_costs, to_markdown, write_comparison,
};
use efficienttrain::observe::progress::Progress;

use super::layered::Layered;
use super::signals::{Stopped, set_on_stop};

const COMPARISON: &str = "Comparison";

/// Arguments of `compare`.
#[derive(Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    layered: Layered,

    /// Recipes to train: presets such as `etpp`, full names, or files [default: --recipe, unless
    /// --sweep-size is given]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = COMPARISON)]
    recipes: Vec<String>,

    /// Image sizes for the first half of the epochs, each followed by full size, like the recipes
    /// `half-96` and `half-128`
    #[arg(long, value_name = "B,...", value_delimiter = ',', help_heading = COMPARISON)]
    sweep_size: Vec<u32>,

    /// Models to train with each recipe [default: --model]
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', help_heading = COMPARISON)]
    models: Vec<String>,

    /// Values of another option to compare, such as `mixup=0,0.8`, or `batch=64|256,128,64` for
    /// values with commas; may be repeated: all combinations are trained
    #[arg(long, value_name = "KEY=VALUE,...", help_heading = COMPARISON)]
    vary: Vec<String>,

    /// Seeds to train each combination with; two or more give a spread
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [0], help_heading = COMPARISON)]
    seeds: Vec<u64>,
}

/// Default output folder.
const OUT: &str = "runs/compare";

/// Default interval of evaluations and checkpoints. It is the same for all runs, so that evaluation
/// does not distort the comparison of times.
const EVERY: (Interval, &str) = (Interval::Percent(10.0), "10%");

/// Default unit of the budget: whoever compares looks at the clock.
const COST: (CostRule, &str) = (CostRule::Wanted(CostUnit::Time), "time");

/// Options that a comparison sets itself: it displays one run after the other.
const OWN: [&str; 1] = ["view"];

/// Adds the arguments of `train` and of the comparison to the command.
pub(crate) fn args(command: Command) -> Command {
    let defaults = [("out", OUT), ("eval_every", EVERY.1), ("checkpoint_every", EVERY.1), ("cost", COST.1)];
    let command = super::pretrain::hide(CompareArgs::augment_args(command));
    let command = super::without(command, &OWN).mut_arg("seed", |arg| arg.help(super::SEED_OF_MANY));
    defaults.into_iter().fold(command, |c, (name, value)| c.mut_arg(name, |arg| arg.default_value(value)))
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    super::ranks::refuse("compare")?;
    super::refuse(matches, "compare", &OWN)?;
    let args = CompareArgs::from_arg_matches(matches)?;
    let defaults = RunOptions {
        out: OUT.into(),
        eval_every: EVERY.0,
        checkpoint_every: EVERY.0,
        ..RunOptions::default()
    };
    let config = TrainConfig { cost: COST.0, ..TrainConfig::default() };
    let layers = args.layered.layers(matches)?.with_base(&config, &defaults, ValueOrigin::Default);
    let mut contestants = args.contestants(&layers)?;
    let resolved = layers.resolve()?;
    super::note_built_in_set(&resolved.config);
    let sources = Sources::open(&resolved.config)?;
    let out = resolved.options.out.clone();
    let mut timing = |name: &str| super::eprint_line(format!("{name}: timing its steps"));
    settle_costs(&mut contestants, &resolved.options, &sources, &mut timing)?;
    let comparison = Comparison::new(contestants, args.seeds.clone(), resolved.options, sources)?;
    let stop = comparison.stop_flag();
    set_on_stop(&stop)?;
    let Some((rows, curves)) = comparison.run(&mut Progress::new())? else {
        if stop.load(Ordering::Relaxed) {
            return Err(Stopped("run the same command again to resume").into());
        }
        bail!("--stop-after ended a run early; leave it out of a comparison");
    };
    write_comparison(&out, &rows, &curves)?;
    super::print_line(format!(
        "{}\ncharts: {}, {}",
        to_markdown(&rows),
        out.join("compare.svg").display(),
        out.join("compare-time.svg").display()
    ))?;
    Ok(())
}

impl CompareArgs {
    /// Returns every model with every recipe and every combination of the varied options.
    fn contestants(&self, layers: &ConfigLayers) -> Result<Vec<Contestant>> {
        let mut varied = vec![(Vec::new(), layers.clone())];
        if !self.models.is_empty() {
            varied = vary(varied, "model", &self.models)?;
        }
        for assignment in &self.vary {
            let Some((key, values)) = assignment.split_once('=') else {
                bail!("--vary: expected KEY=VALUE,..., got `{assignment}`");
            };
            let between = if values.contains('|') { '|' } else { ',' };
            let values: Vec<String> = values.split(between).map(str::to_string).collect();
            let named: Vec<String> = values.iter().map(|value| format!("{key}={value}")).collect();
            varied = vary_named(varied, key, &values, &named).with_context(|| format!("--vary {key}"))?;
        }
        let mut contestants = Vec::new();
        for (names, layers) in varied {
            for config in self.by_recipe(&layers)? {
                let recipe = config.recipe()?.name;
                let name = [&[recipe], &names[..]].concat().join(" ");
                contestants.push(Contestant { name, config });
            }
        }
        Ok(contestants)
    }

    fn by_recipe(&self, layers: &ConfigLayers) -> Result<Vec<TrainConfig>> {
        let mut configs = Vec::new();
        for recipe in &self.recipes {
            configs.push(layers.clone().set_or_replace("recipe", recipe)?.resolve()?.config);
        }
        let own = layers.resolve()?.config;
        for &size in &self.sweep_size {
            configs.push(half_at(&own, size)?);
        }
        if configs.is_empty() {
            configs.push(own);
        }
        Ok(configs)
    }
}

type Varied = Vec<(Vec<String>, ConfigLayers)>;

/// Combines each entry with every value of an option. A model needs no label of its own: the
/// recipe's name contains it.
fn vary(all: Varied, key: &str, values: &[String]) -> Result<Varied> {
    vary_named(all, key, values, &[])
}

fn vary_named(all: Varied, key: &str, values: &[String], named: &[String]) -> Result<Varied> {
    let mut varied = Vec::new();
    for (names, layers) in &all {
        for (index, value) in values.iter().enumerate() {
            let names = [&names[..], named.get(index..=index).unwrap_or(&[])].concat();
            varied.push((names, layers.clone().set_or_replace(key, value)?));
        }
    }
    Ok(varied)
}
