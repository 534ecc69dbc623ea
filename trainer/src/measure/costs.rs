//! Cost of an image at each size of a recipe, for plans. This is the only place that connects
//! models and schedules.

use efficienttrain_models::{ModelOptions, cost, create_model};
use efficienttrain_schedule::{CostModel, Recipe};

use crate::error::Result;

/// Returns the multiply-accumulates of the recipe's model at each of its sizes, relative to base
/// size.
///
/// # Errors
/// Returns an error if the recipe's model is unknown, or does not support one of its sizes.
pub fn macs_of(recipe: &Recipe) -> Result<CostModel> {
    let curriculum = &recipe.curriculum;
    let base = macs_at(&recipe.model, curriculum.base_size)?;
    let mut sizes: Vec<u32> = curriculum.stages.iter().map(|stage| stage.size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let row = |size| Ok((size, macs_at(&recipe.model, size)? / base));
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

fn macs_at(model: &str, size: u32) -> Result<f64> {
    let options = ModelOptions { input_size: [size as usize; 2], ..ModelOptions::default() };
    Ok(cost(&*create_model(model, &options)?)?.macs() as f64)
}
