//! Cost of an image at each size of a recipe, for plans. This is the only place that connects
//! models and schedules.

use efficienttrain_models::{ModelOptions, cost, create_model};
use efficienttrain_schedule::{CostModel, Recipe};

use crate::config::cost::{CostRule, CostTable, CostUnit};
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::Result;
use crate::measure::forecast::{Kind, last_at, time_image};
use crate::measure::machine::Machine;
use crate::pretrain::masked::autoencoder;
use crate::run::Run;
use crate::run::sources::Sources;

/// Returns the multiply-accumulates of the recipe's model at each of its sizes, relative to base
/// size.
///
/// # Errors
/// Returns an error if the recipe's model is unknown, or does not support one of its sizes.
pub fn macs_of(recipe: &Recipe) -> Result<CostModel> {
    let curriculum = &recipe.curriculum;
    let options = |size: u32| ModelOptions { input_size: [size as usize; 2], ..ModelOptions::default() };
    let base = macs_at(recipe, &options(curriculum.base_size))?;
    let mut sizes: Vec<u32> = curriculum.stages.iter().map(|stage| stage.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let row = |size| Ok((size, macs_at(recipe, &options(size))? / base));
    Ok(CostModel::Table(sizes.into_iter().map(row).collect::<Result<_>>()?))
}

/// Returns the number of parameters of the recipe's model at base size.
///
/// # Errors
/// Returns an error if the recipe's model is unknown, or does not support its base size.
pub fn parameters_of(recipe: &Recipe) -> Result<u64> {
    let options =
        ModelOptions { input_size: [recipe.curriculum.base_size as usize; 2], ..ModelOptions::default() };
    Ok(cost(&*create_model(&recipe.model, &options)?)?.params)
}

fn macs_at(recipe: &Recipe, options: &ModelOptions) -> Result<f64> {
    Ok(cost(&*create_model(&recipe.model, options)?)?.macs() as f64)
}

/// Returns the configuration with the unit of its budget known for each size: multiply-accumulates
/// are counted, times measured on this machine. A unit that is known already stays.
///
/// A time is that of an image in a step of its batch with update, on the device and with the workers
/// of `options`, including the wait for its preparation. It is the mean over the stages of a size.
/// `sizes` are further sizes that the budget may be spent at.
///
/// # Errors
/// Returns an error if recipe, model, data or device are invalid.
pub fn with_known_cost(
    config: &TrainConfig,
    options: &RunOptions,
    sources: &Sources,
    sizes: &[u32],
) -> Result<TrainConfig> {
    let CostRule::Wanted(unit) = config.cost else { return Ok(config.clone()) };
    let counted = TrainConfig { cost: CostRule::Square, ..config.clone() };
    let recipe = counted.recipe()?;
    let stages = recipe.curriculum.stages.iter().map(|stage| stage.size);
    let mut all: Vec<u32> =
        stages.chain([recipe.curriculum.base_size]).chain(sizes.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    let costs = match unit {
        CostUnit::Macs => all.iter().map(|&size| Ok((size, macs_of_run(&counted, &recipe, size)?))).collect(),
        CostUnit::Time => seconds_of(counted, options, sources, &all),
    };
    Ok(TrainConfig { cost: CostRule::Known(CostTable { unit, costs: costs? }), ..config.clone() })
}

fn macs_of_run(config: &TrainConfig, recipe: &Recipe, size: u32) -> Result<f64> {
    match config.target {
        Some(_) => Ok(autoencoder(config, size as usize)?.cost()?.macs() as f64),
        None => macs_at(recipe, &config.model_options(ModelOptions::default().num_classes, size as usize)),
    }
}

/// Measures the wall time of an image at each size, in seconds.
fn seconds_of(
    config: TrainConfig,
    options: &RunOptions,
    sources: &Sources,
    sizes: &[u32],
) -> Result<Vec<(u32, f64)>> {
    let mut run = Run::without_init(config, options.clone(), sources.clone())?;
    let (plan, machine) = (run.plan().clone(), Machine::of(&run));
    let mut costs = Vec::new();
    for &size in sizes {
        let stages = plan.stages().iter().filter(|stage| stage.size == size);
        let mut kinds: Vec<(Kind, f64)> = stages
            .map(|stage| (Kind::of(stage), stage.fresh_per_step as f64 / stage.images_per_step.max(1) as f64))
            .collect();
        if kinds.is_empty() {
            kinds.push((last_at(&plan, size), 1.0));
        }
        let (mut sum, mut known) = (0.0, None);
        for &(kind, fresh) in &kinds {
            let image = time_image(&mut run, kind, known)?;
            sum += image.wall(&machine, fresh);
            known = Some((kind.batch, image));
        }
        costs.push((size, rounded(sum / kinds.len() as f64)));
    }
    Ok(costs)
}

/// Rounds to four digits: more of a measurement are noise.
fn rounded(seconds: f64) -> f64 {
    format!("{seconds:.3e}").parse().unwrap_or(seconds)
}
