//! Recipe and plan of a configuration.

use efficienttrain_models::size_multiple;
use efficienttrain_schedule::{LrCurve, LrScaling, Order, Plan, PlanOptions, Recipe, RunLength, WarmUp};

use crate::config::batch::{BatchSize, stages_by_size};
use crate::config::interval::Length;
use crate::config::mae_recipe::for_pretraining;
use crate::config::recipe_source::{RecipeSource, full_name, read_recipe};
use crate::config::schedule_errors::known_model;
use crate::config::train::TrainConfig;
use crate::config::values::{CropOrder, CurveName};
use crate::error::{Error, Result};

/// Batches in the replay buffer if neither recipe nor option sets them.
const DEFAULT_REPLAY_BATCHES: u32 = 256;

/// Returns the number that edges of images are rounded to multiples of: that of the model, or of
/// the model that the recipe was written for if the registry does not know the model. If it knows
/// neither, the number suits every model there.
pub(crate) fn edge_multiple(model: &str, of_recipe: &str) -> u32 {
    const OF_ALL: usize = 32;
    let multiple = size_multiple(model).or_else(|_| size_multiple(of_recipe)).unwrap_or(OF_ALL);
    u32::try_from(multiple).unwrap_or(u32::MAX)
}

impl TrainConfig {
    /// Returns the memory that one decoded image may take, in bytes.
    pub fn image_limit(&self) -> u64 {
        u64::from(self.max_image_mib) << 20
    }

    /// Returns the recipe with the changes of this configuration.
    ///
    /// # Errors
    /// Returns an error if the recipe is unknown or a value is out of range; the message names the
    /// option.
    pub fn recipe(&self) -> Result<Recipe> {
        self.made_recipe().map_err(Error::of_option)
    }

    fn made_recipe(&self) -> Result<Recipe> {
        self.check_ranges()?;
        let mut recipe = match &self.recipe {
            RecipeSource::Named(name) => self.named_recipe(name)?,
            RecipeSource::File(path) => read_recipe(path)?,
            RecipeSource::Inline(recipe) => (**recipe).clone(),
        };
        let of_recipe = recipe.model.clone();
        if let Some(model) = &self.model {
            recipe.model.clone_from(model);
        }
        if self.target.is_some() {
            recipe = for_pretraining(recipe);
        }
        // At the recipe's own base size, sizes stay as written.
        if recipe.curriculum.base_size != self.base_size {
            let multiple = edge_multiple(&recipe.model, &of_recipe);
            recipe = recipe.at_base_size(self.base_size, multiple)?;
        }
        recipe = recipe.with_order(match self.order {
            CropOrder::CropThenAugment => Order::CropThenAugment,
            CropOrder::AugmentThenCrop => Order::AugmentThenCrop,
        });
        recipe = self.with_replay(self.with_batches(recipe)?)?;
        self.check_optimizer(&recipe)?;
        self.check_combinations(&recipe)?;
        self.apply_overrides(&mut recipe);
        recipe.validate()?;
        Ok(recipe)
    }

    fn named_recipe(&self, given: &str) -> Result<Recipe> {
        let model = self.model.as_deref().unwrap_or("resnet18");
        let name = full_name(given, model);
        if let Ok(recipe) = Recipe::named(&name) {
            return Ok(recipe);
        }
        if name != given {
            known_model(model)?;
        }
        Ok(Recipe::named(&name)?)
    }

    /// Applies the options of the replay buffer.
    fn with_replay(&self, mut recipe: Recipe) -> Result<Recipe> {
        if let Some(times) = self.replay {
            recipe = recipe.with_replay(times, self.replay_batches.unwrap_or(DEFAULT_REPLAY_BATCHES))?;
        } else if let Some(batches) = self.replay_batches {
            for stage in recipe.curriculum.stages.iter_mut().filter(|stage| stage.replay.times > 1) {
                stage.replay.buffer_batches = batches;
            }
        }
        Ok(recipe)
    }

    /// Applies the options of the learning rate.
    fn apply_lr(&self, recipe: &mut Recipe) {
        let o = &mut recipe.optimizer;
        if let Some(scaling) = self.lr_scaling {
            o.lr_scaling = scaling.rule();
        }
        if let Some(lr) = self.lr {
            o.lr = lr;
            o.lr_scaling = LrScaling::None;
        }
        o.min_lr = self.min_lr.unwrap_or(o.min_lr.min(o.lr));
        match self.warmup {
            None => {}
            Some(Length(None)) => o.warm_up = WarmUp::None,
            Some(Length(Some(span))) => {
                o.warm_up = match span.length() {
                    RunLength::Epochs(epochs) => WarmUp::Epochs { epochs, at_most_share: 1.0 },
                    RunLength::Steps(steps) => WarmUp::Steps(steps),
                    RunLength::Share(share) => WarmUp::Share(share),
                }
            }
        }
        let step = self
            .lr_step_every
            .map(|every| LrCurve::Step { factor: self.lr_step_factor, every: every.length() });
        o.curve = match self.lr_curve {
            None => o.curve,
            Some(CurveName::Cosine) => LrCurve::Cosine,
            Some(CurveName::Linear) => LrCurve::Linear,
            Some(CurveName::Constant) => LrCurve::Constant,
            // Without an interval it was refused before.
            Some(CurveName::Step) => step.unwrap_or(o.curve),
        };
    }

    fn apply_overrides(&self, recipe: &mut Recipe) {
        self.apply_lr(recipe);
        if let Some(magnitude) = self.magnitude {
            magnitude.apply(&mut recipe.curriculum);
        }
        let nonzero = |value: f64| (value > 0.0).then_some(value);
        if let Some(opt) = self.opt {
            recipe.optimizer.kind = opt.kind();
        }
        recipe.optimizer.momentum = self.momentum.unwrap_or(recipe.optimizer.momentum);
        if let Some(rate) = self.drop_path {
            recipe.drop_path = efficienttrain_schedule::DropPath::Constant(rate);
        }
        if let Some(decay) = self.ema_decay {
            recipe.ema_decay = nonzero(decay);
        }
        if let Some(norm) = self.clip_grad {
            recipe.optimizer.clip_grad = nonzero(norm);
        }
        let augmentation = &mut recipe.augmentation;
        for (value, target) in [
            (self.weight_decay, &mut recipe.optimizer.weight_decay),
            (self.mixup, &mut augmentation.mixup),
            (self.cutmix, &mut augmentation.cutmix),
            (self.label_smoothing, &mut augmentation.label_smoothing),
            (self.hflip, &mut augmentation.flip),
            (self.erasing, &mut augmentation.erasing),
        ] {
            if let Some(value) = value {
                *target = value;
            }
        }
    }

    /// Applies the batch sizes; `auto` counts as the default until it is measured.
    pub(crate) fn with_batches(&self, mut recipe: Recipe) -> Result<Recipe> {
        let each = match &self.batch {
            BatchSize::Recipe => return Ok(recipe),
            BatchSize::Images(images) => return Ok(recipe.with_batch(*images, self.accumulation)?),
            BatchSize::Auto => return Ok(recipe.with_batch(crate::config::DEFAULT_BATCH, self.accumulation)?),
            BatchSize::EachSize(each) => each,
        };
        let sizes = stages_by_size(&recipe);
        if sizes.len() != each.len() {
            let listed: Vec<String> = sizes.iter().map(|(size, _)| size.to_string()).collect();
            let what = format!(
                "{} values for the {} sizes of {}: {}; give one for each, or one for all",
                each.len(),
                sizes.len(),
                recipe.name,
                listed.join(", ")
            );
            return Err(Error::config("batch", what));
        }
        for ((_, stages), &images) in sizes.iter().zip(each) {
            for &stage in stages {
                let stage = &mut recipe.curriculum.stages[stage];
                (stage.batch_per_device, stage.accumulation) = (images, self.accumulation);
            }
        }
        recipe.validate()?;
        Ok(recipe)
    }

    /// Returns the plan of this configuration for `images` training images.
    ///
    /// # Errors
    /// Those of [`Self::recipe`]; also if a batch is larger than the data set, or the budget is
    /// too small.
    pub fn plan(&self, images: usize) -> Result<Plan> {
        if self.batch == BatchSize::Auto {
            let what = "`auto` is for `train`, which measures before it plans; give numbers here";
            return Err(Error::config("batch", what));
        }
        let recipe = self.recipe()?;
        let cost = self.cost.model(recipe.curriculum.base_size)?;
        let options = PlanOptions::new(self.epochs, images as u64, self.devices).with_cost(cost);
        Plan::new(&recipe, options).map_err(|error| Error::from(error).of_option())
    }
}
