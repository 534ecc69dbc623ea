//! Comparison of configurations at equal compute, in one table and one chart.
//!
//! A [`Contestant`] is a configuration with a name. Each one is trained with every seed in its own
//! folder. An interrupted comparison can be resumed: complete runs are not trained again.

pub(crate) mod costs;
pub(crate) mod run;
pub(crate) mod table;
pub(crate) mod time_to_accuracy;

pub use costs::settle_costs;
pub use run::{Comparison, Contestant};
pub use table::{Row, to_csv, to_markdown, write_comparison};

use efficienttrain_schedule::Recipe;

use crate::config::train::TrainConfig;
use crate::error::{Error, Result};

/// Returns the configuration of the papers' first experiment for any size: `size` pixels for the
/// first half of the epochs, then full size.
///
/// # Errors
/// Returns an error if the size is above the base size, or the configuration is invalid.
pub fn half_at(config: &TrainConfig, size: u32) -> Result<TrainConfig> {
    let mut recipe: Recipe = TrainConfig { recipe: "half-96".into(), ..config.clone() }.recipe()?;
    if size == 0 || size > config.base_size {
        let what = format!("expected sizes of 1 to {} pixels, got {size}", config.base_size);
        return Err(Error::config("sweep-size", what));
    }
    recipe.curriculum.stages[0].size = size;
    recipe.name = format!("{}-half-at-{size}", recipe.model);
    let mut config = config.clone();
    config.set_recipe(&recipe)?;
    Ok(config)
}
