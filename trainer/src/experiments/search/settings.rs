//! Options of a search, one definition each.

use clap::{Args, ValueEnum};
use efficienttrain_models::create_model;
use efficienttrain_schedule::search::{
    Algorithm, EarlyStop, FineTune, Prefer, Search, SearchOptions, Space, StageBatch, TieRule,
};
use efficienttrain_schedule::{PlanOptions, Recipe, ScheduleError};
use serde::{Deserialize, Serialize};

use crate::config::recipe::edge_multiple;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};

const SEARCH: &str = "Search";

/// Search algorithm of one of the papers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AlgorithmName {
    /// Algorithm 2 (EfficientTrain++): stages of equal compute, each from the best checkpoint of
    /// the one before.
    Sequential,
    /// Algorithm 1 (EfficientTrain): stages of equal passes, each the smallest size that does not
    /// lower the accuracy.
    Greedy,
}

/// Rule for ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PreferName {
    /// The smaller size.
    Smaller,
    /// The larger size.
    Larger,
    /// The higher mean.
    Best,
}

/// Settings of a search. `--epochs` of the run is the budget: compute for the sequential search,
/// passes over the data for the greedy one.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SearchSettings {
    /// Search algorithm of one of the papers
    #[arg(long, value_enum, default_value_t = AlgorithmName::Sequential, help_heading = SEARCH)]
    pub algorithm: AlgorithmName,

    /// Number of stages, with equal compute (sequential) or equal passes (greedy)
    #[arg(long, value_name = "N", default_value_t = 5, help_heading = SEARCH)]
    pub stages: u32,

    /// Image sizes to choose from, in pixels [default: the paper's 96, 128, 160, 192 and 224,
    /// scaled to the base size]
    #[arg(long, value_name = "B,...", value_delimiter = ',', help_heading = SEARCH)]
    pub sizes: Vec<u32>,

    /// RandAugment magnitudes to choose from [default: none, the magnitude grows to
    /// --last-magnitude over the run]
    #[arg(long, value_name = "M,...", value_delimiter = ',', help_heading = SEARCH)]
    pub magnitudes: Vec<f64>,

    /// Batch sizes to choose from [default: none, --batch in every stage]
    #[arg(long, value_name = "N,...", value_delimiter = ',', help_heading = SEARCH)]
    pub batches: Vec<u32>,

    /// Seeds to train every candidate with; two or more give a spread and detect ties
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [0], help_heading = SEARCH)]
    pub seeds: Vec<u64>,

    /// Let sizes only stay or grow from stage to stage
    #[arg(long, help_heading = SEARCH)]
    pub growing: bool,

    /// Magnitude at the end of the run, if magnitudes are not searched
    #[arg(long, value_name = "M", default_value_t = 9.0, help_heading = SEARCH)]
    pub last_magnitude: f64,

    /// Sequential: fraction of the budget for fine-tuning a candidate at full size before it is
    /// evaluated
    #[arg(long, value_name = "SHARE", default_value_t = 0.05, help_heading = SEARCH)]
    pub fine_tune: f64,

    /// Sequential: learning rate of that fine-tuning relative to the last one of the stage
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, help_heading = SEARCH)]
    pub fine_tune_lr: f64,

    /// Sequential: give up candidates that are far behind after this fraction of the stage
    /// [default: no]
    // Runs have an option of the same name, which a search has no use for.
    #[arg(id = "search_early_stop", long = "early-stop", value_name = "SHARE", help_heading = SEARCH)]
    pub early_stop: Option<f64>,

    /// With --early-stop: accuracy difference to the best, as a fraction of all images
    #[arg(long, value_name = "MARGIN", default_value_t = 0.05, help_heading = SEARCH)]
    pub early_stop_margin: f64,

    /// Difference of accuracy that counts as a tie, as a fraction of all images
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, help_heading = SEARCH)]
    pub tie: f64,

    /// Rule for ties
    #[arg(long, value_enum, default_value_t = PreferName::Smaller, help_heading = SEARCH)]
    pub prefer: PreferName,

    /// Number of retries of a trial that diverged
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = SEARCH)]
    pub retries: u32,
}

impl Default for SearchSettings {
    fn default() -> Self {
        crate::config::flag_defaults()
    }
}

impl SearchSettings {
    /// Creates the search for `config`'s run over `images` training images.
    ///
    /// # Errors
    /// Returns an error if an option is out of range, or the model does not support a size.
    pub(crate) fn search(&self, config: &TrainConfig, images: usize) -> Result<Search> {
        let recipe = config.recipe()?;
        let options = self.options(config, &recipe, images as u64)?;
        for &size in &options.space.sizes {
            create_model(&recipe.model, &config.model_options(1, size as usize))
                .map_err(|e| Error::config("sizes", e.to_string()))?;
        }
        Search::new(&recipe, options).map_err(|error| match error {
            ScheduleError::BudgetTooSmall { .. } => {
                let what = "a stage or the fine-tuning is shorter than an optimizer step; raise option `epochs` or option `fine-tune`, \
                            or lower option `batch`";
                Error::config("epochs", what)
            }
            other => Error::from(other).of_option(),
        })
    }

    /// Returns the sizes to choose from.
    ///
    /// # Errors
    /// Returns an error if the recipe is invalid.
    pub(crate) fn sizes(&self, config: &TrainConfig) -> Result<Vec<u32>> {
        if !self.sizes.is_empty() {
            return Ok(self.sizes.clone());
        }
        let model = config.recipe()?.model;
        Ok(Space::at_base_size(config.base_size, multiple(&model, config.base_size))?.sizes)
    }

    fn options(&self, config: &TrainConfig, recipe: &Recipe, images: u64) -> Result<SearchOptions> {
        let batch = |&per_device: &u32| StageBatch { per_device, accumulation: config.accumulation };
        let space = Space {
            sizes: self.sizes(config)?,
            magnitudes: self.magnitudes.clone(),
            batches: self.batches.iter().map(batch).collect(),
        };
        let early_stop = self.early_stop.map(|after| EarlyStop { after, margin: self.early_stop_margin });
        let fine_tune = FineTune { share: self.fine_tune, lr_factor: self.fine_tune_lr };
        let base = match self.algorithm {
            AlgorithmName::Greedy => SearchOptions::greedy(config.epochs, images, 1),
            AlgorithmName::Sequential => {
                let algorithm = Algorithm::Sequential { fine_tune, early_stop };
                SearchOptions { algorithm, ..SearchOptions::sequential(config.epochs, images, 1) }
            }
        };
        if self.early_stop.is_some() && self.algorithm == AlgorithmName::Greedy {
            let what = "a greedy trial is only measured at its end; leave it out, or search sequentially";
            return Err(Error::config("early-stop", what));
        }
        let tie = TieRule { absolute: self.tie, prefer: self.prefer.rule(), ..TieRule::default() };
        let options = SearchOptions {
            space,
            growing: self.growing,
            last_magnitude: self.last_magnitude,
            seeds: self.seeds.clone(),
            tie,
            retries: self.retries,
            // Uses the budget as given, not two thirds of it like the paper.
            plan: PlanOptions::new(config.epochs, images, config.devices)
                .with_cost(config.cost.model(recipe.curriculum.base_size)?),
            ..base
        };
        options.with_stages(self.stages).map_err(|error| Error::from(error).of_option())
    }
}

/// Returns the multiple that the paper's sizes are rounded to: the model's own, or whole pixels if
/// it has none and the base size is not a multiple of it.
fn multiple(model: &str, base_size: u32) -> u32 {
    let wanted = edge_multiple(model, model);
    if base_size.is_multiple_of(wanted) || wanted > 8 { wanted } else { 1 }
}

impl PreferName {
    fn rule(self) -> Prefer {
        match self {
            Self::Smaller => Prefer::Smaller,
            Self::Larger => Prefer::Larger,
            Self::Best => Prefer::Best,
        }
    }
}
