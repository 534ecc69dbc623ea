//! Recipes by name, in any of the usual spellings.

use crate::catalog::{MODELS, Model};
use crate::error::{Result, ScheduleError};
use crate::preset::{Preset, build};
use crate::recipe::Recipe;

/// Suffixes that select a preset, ordered so that `-etpp-replay` is not read as `-etpp`.
const ENDINGS: [(&str, Preset); 14] = [
    ("half-96", Preset::Half96),
    ("half-128", Preset::Half128),
    ("progressive", Preset::Progressive),
    ("short", Preset::Short),
    ("efficienttrainpp", Preset::Etpp),
    ("efficienttrain", Preset::Et),
    ("etpp-replay", Preset::EtppReplay),
    ("et-pp", Preset::Etpp),
    ("baseline", Preset::Baseline),
    ("plain", Preset::Baseline),
    ("none", Preset::Baseline),
    ("etpp", Preset::Etpp),
    ("v1", Preset::Et),
    ("et", Preset::Et),
];

impl Recipe {
    /// Returns the recipe of a name such as `deit-small-etpp`: a model and one of `etpp`,
    /// `etpp-replay`, `et`, `half-96`, `half-128`, `progressive`, `short`, `baseline`.
    ///
    /// Case, `_` for `-`, `++` for `pp`, `none` for `baseline`, and the model names of timm and the
    /// authors (`deit_small_patch16_224-etpp`) are accepted. A model alone means `etpp`.
    ///
    /// # Errors
    /// [`ScheduleError::UnknownRecipe`] with the nearest known name.
    pub fn named(name: &str) -> Result<Self> {
        let wanted = name.trim().to_lowercase().replace("++", "pp").replace('_', "-");
        match parse(&wanted) {
            Some((model, preset)) if preset.fits(model) => Ok(build(model, preset)),
            _ => Err(ScheduleError::UnknownRecipe { name: name.to_owned(), nearest: nearest(&wanted) }),
        }
    }

    /// Returns the recipe of a model, by canonical name or alias, and a preset.
    ///
    /// # Errors
    /// [`ScheduleError::UnknownRecipe`], also for a model without a replay recipe.
    pub fn preset(model: &str, preset: Preset) -> Result<Self> {
        Self::named(&format!("{model}-{}", preset.suffix()))
    }

    /// Lists the canonical names of all recipes.
    pub fn names() -> impl Iterator<Item = String> {
        MODELS.iter().flat_map(|model| {
            let fitting = Preset::ALL.into_iter().filter(|preset| preset.fits(model));
            fitting.map(|preset| format!("{}-{}", model.name, preset.suffix()))
        })
    }
}

/// Splits a name into model and preset, even if the model has no such preset.
fn parse(wanted: &str) -> Option<(&'static Model, Preset)> {
    let split =
        |(ending, preset): &(&str, Preset)| Some((wanted.strip_suffix(ending)?.strip_suffix('-')?, *preset));
    let (model, preset) = ENDINGS.iter().find_map(split).unwrap_or((wanted, Preset::Etpp));
    let dashed = |row: &Model| row.reference.to_lowercase().replace('_', "-");
    let known = |row: &&Model| row.name == model || row.aliases.contains(&model) || dashed(row) == model;
    MODELS.iter().find(known).map(|row| (row, preset))
}

/// Returns the recipe of the requested model with `etpp` if only the preset does not fit, else the
/// name with the fewest edits.
fn nearest(wanted: &str) -> String {
    if let Some((model, _)) = parse(wanted) {
        return format!("{}-{}", model.name, Preset::Etpp.suffix());
    }
    let distance = |name: &String| strsim::damerau_levenshtein(wanted, name);
    Recipe::names().min_by_key(distance).unwrap_or_default()
}
