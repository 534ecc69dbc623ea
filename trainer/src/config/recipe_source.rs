//! Source of a run's recipe: the catalog, a file, or the option itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use efficienttrain_schedule::{Preset, Recipe, suggest_key};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::util::string_serde::stored_as_text;

/// Recipe of a run: a name, a file that ends in `.json` or `.toml`, or the JSON of a recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RecipeSource {
    /// Name of a recipe of the catalog, or of a preset of the run's model.
    Named(String),
    /// A file. [`ConfigLayers::resolve`](crate::config::ConfigLayers::resolve) replaces it by its
    /// content.
    File(PathBuf),
    /// An inline recipe.
    Inline(Box<Recipe>),
}

impl RecipeSource {
    /// Returns the recipe that is inline or in a file; none for a name.
    ///
    /// # Errors
    /// Those of [`read_recipe`].
    pub fn load(&self) -> Result<Option<Recipe>> {
        match self {
            Self::Named(_) => Ok(None),
            Self::File(path) => read_recipe(path).map(Some),
            Self::Inline(recipe) => Ok(Some((**recipe).clone())),
        }
    }

    /// Distinguishes files from names by their extension.
    fn name_or_file(text: &str) -> Self {
        let lower = text.trim().to_lowercase();
        match lower.ends_with(".json") || lower.ends_with(".toml") {
            true => Self::File(text.into()),
            false => Self::Named(text.into()),
        }
    }
}

/// A name, or a file by its extension.
impl From<&str> for RecipeSource {
    fn from(text: &str) -> Self {
        Self::name_or_file(text)
    }
}

impl FromStr for RecipeSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim_start().starts_with('{') {
            return of_json(text).map(|recipe| Self::Inline(Box::new(recipe)));
        }
        Ok(Self::name_or_file(text))
    }
}

impl fmt::Display for RecipeSource {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::File(path) => path.display().fmt(f),
            Self::Inline(recipe) => f.write_str(&serde_json::to_string(recipe).map_err(|_| fmt::Error)?),
        }
    }
}

stored_as_text!(RecipeSource);

/// Reads a recipe file (JSON, or TOML by its extension): a recipe, or a list with one recipe, as
/// printed by `efficienttrain recipes NAME --json`.
///
/// # Errors
/// Returns an error if the file cannot be read or is not a recipe; the message names the file and
/// the key.
pub fn read_recipe(path: &Path) -> Result<Recipe> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
    let is_toml = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("toml"));
    let recipe = if is_toml { of_toml(&text) } else { of_json(&text) };
    recipe.map_err(|what| Error::Key { place: path.display().to_string(), what })
}

fn of_toml(text: &str) -> Result<Recipe, String> {
    let recipe: Recipe = toml::from_str(text).map_err(|e| wrong(&e))?;
    recipe.validate().map_err(|e| wrong(&e))?;
    Ok(recipe)
}

fn of_json(text: &str) -> Result<Recipe, String> {
    let is_list = text.trim_start().starts_with('[');
    let recipe: Recipe = if is_list {
        let mut recipes: Vec<Recipe> = serde_json::from_str(text).map_err(|e| wrong(&e))?;
        let count = recipes.len();
        match recipes.pop() {
            Some(recipe) if count == 1 => recipe,
            _ => return Err(wrong(&format!("expected one recipe, found a list of {count}"))),
        }
    } else {
        serde_json::from_str(text).map_err(|e| wrong(&e))?
    };
    recipe.validate().map_err(|e| wrong(&e))?;
    Ok(recipe)
}

fn wrong(what: &dyn fmt::Display) -> String {
    format!(
        "not a recipe: {}; `efficienttrain recipes NAME --json` prints one to start from",
        suggest_key(what.to_string().trim_end())
    )
}

/// Returns the full name of a preset of `model`; other names are full already.
pub(crate) fn full_name(name: &str, model: &str) -> String {
    let lower = name.to_lowercase();
    let is_preset = lower == "none" || Preset::ALL.iter().any(|preset| preset.suffix() == lower);
    if is_preset { format!("{model}-{lower}") } else { name.to_string() }
}
