//! `efficienttrain train --demo`: trains the ++ curriculum and the baseline in equal time on the
//! built-in set.

use anyhow::{Result, bail};
use clap::{ArgMatches, FromArgMatches};
use efficienttrain::config::Interval;
use efficienttrain::config::{
    ConfigLayers, CostRule, CostUnit, Resolved, RunOptions, TrainConfig, differences,
};
use efficienttrain::measure::with_known_cost;
use efficienttrain::observe::chart::{Curve, accuracy_against_time};
use efficienttrain::{Run, Sources};

use super::signals::Stopped;
use super::train::TrainArgs;

/// Returns a configuration that trains in a few minutes on two cores.
fn config(recipe: &str, seed: u64) -> TrainConfig {
    TrainConfig {
        synthetic_images: 2560,
        model: Some("resnet10".into()),
        recipe: recipe.into(),
        epochs: 8.0,
        base_size: 64,
        lr: Some(2e-3),
        mixup: Some(0.0),
        cutmix: Some(0.0),
        erasing: Some(0.0),
        min_crop_area: 0.35,
        cost: CostRule::Wanted(CostUnit::Time),
        seed,
        ..TrainConfig::default()
    }
}

/// Refuses options that the demo would ignore: it has its own model and data, and only the seed can
/// be set.
fn refuse_others(layers: &ConfigLayers, resolved: &Resolved) -> Result<()> {
    let changed = differences(&resolved.config, &TrainConfig::default());
    let mut keys = changed.iter().map(|d| d.key.as_str()).filter(|key| *key != "seed");
    let evaluation = layers.overrides().find(|key| *key == "eval-every");
    if let Some(key) = keys.next().or(evaluation) {
        bail!(
            "--demo: the demo trains its own model on its own data, so --{key} has no effect; leave one of the two out"
        );
    }
    Ok(())
}

pub(crate) fn run(matches: &ArgMatches) -> Result<()> {
    super::ranks::refuse("train --demo")?;
    let layers = TrainArgs::from_arg_matches(matches)?.layered.layers(matches)?;
    let resolved = layers.resolve()?;
    refuse_others(&layers, &resolved)?;
    let (options, seed) = (&resolved.options, resolved.config.seed);
    let mut curves = Vec::new();
    let curriculum = config("etpp", seed);
    let sources = Sources::open(&curriculum)?;
    // One measurement for both, so that equal budgets are equal times.
    let known = with_known_cost(&curriculum, options, &sources, &[])?.cost;
    for (recipe, what) in [("etpp", "the ++ curriculum"), ("baseline", "the baseline, in equal time")] {
        super::eprint_line(format!("\n{what}:"));
        let config = TrainConfig { cost: known.clone(), ..config(recipe, seed) };
        let sources = sources.clone();
        let folder = options.out.join(format!("demo-{recipe}"));
        // Evaluates both at the same interval, so that evaluation does not distort the comparison
        // of times.
        let options =
            RunOptions { out: folder.clone(), eval_every: Interval::Percent(12.5), ..options.clone() };
        let curve = super::train::train(Run::new(config, options, sources)?, &folder, what);
        curves.push(curve.map_err(|error| match error.is::<Stopped>() {
            true => Stopped("running the demo again starts it from the beginning").into(),
            false => error,
        })?);
    }
    let chart = options.out.join("demo.svg");
    accuracy_against_time(&chart, "Curriculum and baseline, resnet10 on the built-in set", &curves)?;
    super::print_line(format!("\n{}\nchart: {}", table(&curves), chart.display()))?;
    Ok(())
}

/// Formats one line per run: accuracy over the run, final accuracy and wall time.
fn table(curves: &[Curve]) -> String {
    let row = |curve: &Curve| {
        let last = curve.evals.last()?;
        let line = sparkline(curve.evals.iter().map(|e| e.top1));
        Some(format!("{:<20} {line:<12} {:6.2}%  {:6.1} s", curve.name, 100.0 * last.top1, last.seconds))
    };
    let rows: Vec<String> = curves.iter().filter_map(row).collect();
    format!("{:<20} {:<12} {:>7}  {:>8}\n{}", "recipe", "over the run", "top-1", "time", rows.join("\n"))
}

/// Draws one bar, in steps of an eighth, for each share from 0 to 1.
fn sparkline(shares: impl Iterator<Item = f64>) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    shares.map(|share| BARS[((share * 8.0) as usize).min(7)]).collect()
}
