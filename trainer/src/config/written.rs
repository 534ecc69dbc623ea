//! Recipes that are written out: in a file, or in the option itself.

use std::path::Path;

use efficienttrain_schedule::{Preset, Recipe, suggest_key};

use super::{BatchSize, TrainConfig};
use crate::error::{Error, Result};

/// The recipe of a file (JSON, or TOML by its ending): the recipe itself, or a list with it alone as `efficienttrain
/// recipes NAME --json` prints it.
///
/// # Errors
/// When the file cannot be read or is no recipe; the message names the file and the key.
pub fn read_recipe(path: &Path) -> Result<Recipe> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let place = path.display().to_string();
    if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml")) {
        let recipe: Recipe = toml::from_str(&text).map_err(|e| wrong(&place, &e))?;
        recipe.validate().map_err(|e| wrong(&place, &e))?;
        return Ok(recipe);
    }
    of_json(&text, &place)
}

/// The recipe that an option gives: a file's name that ends in `.json` or `.toml`, or the JSON of a recipe; none where it
/// is the name of a recipe.
///
/// # Errors
/// As [`read_recipe`].
pub fn written_recipe(option: &str) -> Result<Option<Recipe>> {
    let lower = option.trim().to_lowercase();
    if lower.starts_with('{') {
        return of_json(option, "--recipe").map(Some);
    }
    let is_file = lower.ends_with(".json") || lower.ends_with(".toml");
    if is_file { read_recipe(Path::new(option)).map(Some) } else { Ok(None) }
}

fn of_json(text: &str, place: &str) -> Result<Recipe> {
    let list = text.trim_start().starts_with('[');
    let recipe: Recipe = if list {
        let mut recipes: Vec<Recipe> = serde_json::from_str(text).map_err(|e| wrong(place, &e))?;
        let count = recipes.len();
        match recipes.pop() {
            Some(recipe) if count == 1 => recipe,
            _ => return Err(wrong(place, &format!("expected one recipe, found a list of {count}"))),
        }
    } else {
        serde_json::from_str(text).map_err(|e| wrong(place, &e))?
    };
    recipe.validate().map_err(|e| wrong(place, &e))?;
    Ok(recipe)
}

fn wrong(place: &str, what: &dyn std::fmt::Display) -> Error {
    let what = format!(
        "not a recipe: {}; `efficienttrain recipes NAME --json` prints one to begin with",
        suggest_key(what.to_string().trim_end())
    );
    Error::Key { place: place.into(), what }
}

/// The full name of a preset of `model`; other names are full already.
pub(super) fn full_name(name: &str, model: &str) -> String {
    let lower = name.to_lowercase();
    let is_preset = lower == "none" || Preset::ALL.iter().any(|preset| preset.suffix() == lower);
    if is_preset { format!("{model}-{lower}") } else { name.to_string() }
}

impl TrainConfig {
    /// Puts a recipe file's content in place of its name, so that the configuration says everything by itself.
    ///
    /// # Errors
    /// As [`read_recipe`].
    pub fn embed_recipe(&mut self) -> Result<()> {
        if let Some(recipe) = written_recipe(&self.recipe)? {
            self.set_recipe(&recipe)?;
        }
        Ok(())
    }

    /// The same run by a recipe that has this configuration's changes in it: the options that changed it are not set, since
    /// the recipe says them now.
    ///
    /// # Errors
    /// When one of its numbers is out of range.
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

    /// Takes a recipe that is written out.
    ///
    /// # Errors
    /// When one of its numbers is out of range.
    pub fn set_recipe(&mut self, recipe: &Recipe) -> Result<()> {
        recipe.validate()?;
        self.recipe = serde_json::to_string(recipe).map_err(|e| wrong("--recipe", &e))?;
        Ok(())
    }
}
