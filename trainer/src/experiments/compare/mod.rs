//! Several ways to train, each at the same compute, in one table and one chart.
//!
//! A [`Contestant`] is a configuration with a name. Each is trained with every seed, in a folder of its own that a stop or a
//! kill leaves usable: what is complete is not trained again.

pub(crate) mod run;
pub(crate) mod table;

pub use run::{Comparison, Contestant};
pub use table::{Row, to_csv, to_markdown, write_comparison};

use efficienttrain_schedule::Recipe;

use crate::config::train::TrainConfig;
use crate::error::{Error, Result};

/// The papers' first check at any size: `size` pixels for the first half of the epochs, then full size.
///
/// # Errors
/// Returns an error if the size is above the base size, or the configuration is not as expected.
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
