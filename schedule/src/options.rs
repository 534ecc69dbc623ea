//! Settings of a plan besides the recipe.

use crate::cost::CostModel;
use crate::error::{Result, ScheduleError, count, field, positive};
use crate::recipe::Recipe;
use serde::{Deserialize, Serialize};

/// Rounding of a budget to whole steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rounding {
    /// Whole optimizer steps, the remainder carried from stage to stage: the budget is met to
    /// within one step.
    #[default]
    Exact,
    /// Whole epochs, as the authors' launchers round: 200 becomes 200.63 for DeiT-S.
    Reference,
}

/// Batch of each stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchRule {
    /// The recipe's batch per device and accumulation, unchanged.
    #[default]
    AsRecipe,
    /// The recipe's global batch for a number of devices (8 for the authors'), kept by adjusting
    /// the accumulation.
    KeepGlobal {
        /// Devices for which the recipe's numbers were chosen.
        recipe_devices: u32,
    },
    /// One batch for every stage.
    Fixed {
        /// Images one device trains on per micro-batch.
        per_device: u32,
        /// Micro-batches per optimizer step.
        accumulation: u32,
    },
}

/// The run a plan is made for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanOptions {
    /// Budget E: the compute of E passes over the data at base size. With `Rounding::Reference`,
    /// the launcher's `--epoch`, a whole number; for the first version's curriculum those are
    /// passes, not compute.
    pub equivalent_epochs: f64,
    /// N: images in the training set.
    pub train_images: u64,
    /// Devices that train together.
    pub devices: u32,
    /// Rounding of the budget to whole steps.
    pub rounding: Rounding,
    /// Cost of an image at each size.
    pub cost: CostModel,
    /// Batch of each stage.
    pub batch: BatchRule,
}

/// Upper bounds that keep every sum of a plan exact in a double.
const MOST_IMAGES: u64 = 1 << 40;
const MOST_EPOCHS: f64 = 1e6;
const MOST_SAMPLES: f64 = 9_007_199_254_740_992.0;

impl PlanOptions {
    /// Options with exact rounding, the square cost model and the recipe's batches.
    #[must_use]
    pub fn new(equivalent_epochs: f64, train_images: u64, devices: u32) -> Self {
        let (rounding, cost, batch) = (Rounding::Exact, CostModel::Square, BatchRule::AsRecipe);
        Self { equivalent_epochs, train_images, devices, rounding, cost, batch }
    }

    /// Sets the rounding.
    #[must_use]
    pub fn with_rounding(self, rounding: Rounding) -> Self {
        Self { rounding, ..self }
    }

    /// Sets the cost model.
    #[must_use]
    pub fn with_cost(self, cost: CostModel) -> Self {
        Self { cost, ..self }
    }

    /// Sets the batches.
    #[must_use]
    pub fn with_batch(self, batch: BatchRule) -> Self {
        Self { batch, ..self }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        positive(
            "equivalent_epochs",
            self.equivalent_epochs,
            "give the budget in compute epochs, such as 200",
        )?;
        if self.equivalent_epochs > MOST_EPOCHS {
            return Err(field(
                "equivalent_epochs",
                "at most 1e6",
                self.equivalent_epochs,
                "give the budget in epochs, not steps",
            ));
        }
        if self.train_images == 0 || self.train_images > MOST_IMAGES {
            let hint = "count the images of the training set";
            return Err(field("train_images", format!("1..={MOST_IMAGES}"), self.train_images, hint));
        }
        count("devices", self.devices, "a run on the CPU is one device")
    }

    /// Returns the recipe with the batches of these options.
    pub(crate) fn apply_batch(&self, recipe: &Recipe) -> Result<Recipe> {
        let mut recipe = recipe.clone();
        match self.batch {
            BatchRule::AsRecipe => {}
            BatchRule::Fixed { per_device, accumulation } => {
                return recipe.with_batch(per_device, accumulation);
            }
            BatchRule::KeepGlobal { recipe_devices } => {
                count("batch.recipe_devices", recipe_devices, "the authors' recipes are for 8")?;
                for stage in &mut recipe.curriculum.stages {
                    stage.accumulation = self.accumulation_for(stage.accumulation, recipe_devices)?;
                }
            }
        }
        recipe.validate()?;
        Ok(recipe)
    }

    fn accumulation_for(&self, accumulation: u32, recipe_devices: u32) -> Result<u32> {
        let (product, devices) =
            (u64::from(accumulation) * u64::from(recipe_devices), u64::from(self.devices));
        let hint = "choose another number of devices, or set the batch";
        let bad = || {
            field("devices", format!("a divisor of {product} (accumulation x recipe_devices)"), devices, hint)
        };
        if !product.is_multiple_of(devices) {
            return Err(bad());
        }
        u32::try_from(product / devices).map_err(|_| bad())
    }

    /// Refuses budgets whose sample count would not fit a double exactly.
    pub(crate) fn check_budget(&self, least_cost: f64) -> Result<()> {
        if self.equivalent_epochs * self.train_images as f64 / least_cost <= MOST_SAMPLES {
            return Ok(());
        }
        let hint = "lower equivalent_epochs, or check train_images and the cost of the cheapest stage";
        Err(field("equivalent_epochs", "a budget of at most 2^53 images", self.equivalent_epochs, hint))
    }

    /// Refuses stages whose step needs more fresh images than there are: it would see an image
    /// twice.
    pub(crate) fn check_batches(&self, recipe: &Recipe) -> Result<()> {
        for (index, stage) in recipe.curriculum.stages.iter().enumerate() {
            let batch = stage.global_batch(self.devices) / u64::from(stage.replay.times);
            if batch > self.train_images {
                return Err(ScheduleError::BatchLargerThanData {
                    stage: index,
                    batch,
                    train_images: self.train_images,
                });
            }
        }
        Ok(())
    }
}
