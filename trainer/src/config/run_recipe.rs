//! Configurations with an inline recipe.

use efficienttrain_schedule::Recipe;

use crate::config::batch::BatchSize;
use crate::config::class_weights::ClassWeights;
use crate::config::recipe_source::RecipeSource;
use crate::config::train::TrainConfig;
use crate::error::Result;

impl TrainConfig {
    /// Replaces files of a recipe and of class weights by their content, so that the configuration is complete by itself.
    ///
    /// # Errors
    /// Those of [`read_recipe`](crate::config::read_recipe), and those of a file of weights.
    pub fn embed_recipe(&mut self) -> Result<()> {
        if let Some(recipe) = self.recipe.load()? {
            self.set_recipe(&recipe)?;
        }
        self.class_weights.as_mut().map_or(Ok(()), ClassWeights::embed)
    }

    /// Returns the same run with a recipe that includes the changes of this configuration; the
    /// options that made them are unset.
    ///
    /// # Errors
    /// Returns an error if one of its numbers is out of range.
    pub fn of_recipe(&self, recipe: &Recipe, epochs: f64) -> Result<Self> {
        let mut config = Self {
            model: Some(recipe.model.clone()),
            base_size: recipe.curriculum.base_size,
            epochs,
            batch: BatchSize::Recipe,
            opt: None,
            momentum: None,
            lr: None,
            lr_scaling: None,
            lr_curve: None,
            lr_step_every: None,
            lr_step_factor: Self::default().lr_step_factor,
            min_lr: None,
            warmup: None,
            weight_decay: None,
            drop_path: None,
            ema_decay: None,
            clip_grad: None,
            magnitude: None,
            mixup: None,
            cutmix: None,
            label_smoothing: None,
            hflip: None,
            erasing: None,
            replay: None,
            replay_batches: None,
            ..self.clone()
        };
        config.set_recipe(recipe)?;
        Ok(config)
    }

    /// Sets an inline recipe.
    ///
    /// # Errors
    /// Returns an error if one of its numbers is out of range.
    pub fn set_recipe(&mut self, recipe: &Recipe) -> Result<()> {
        recipe.validate()?;
        self.recipe = RecipeSource::Inline(Box::new(recipe.clone()));
        Ok(())
    }
}
