//! A recipe: everything about a training run except the data set and the machine.

use crate::catalog::current_model_name;
use crate::curriculum::Curriculum;
use crate::error::{JsonError, Result, ScheduleError, field, positive, within};
use crate::optimizer::Optimizer;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

/// Source of the numbers of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A launch script of the authors' repository.
    AuthorsLauncher,
    /// Stated by a paper, without a launch script.
    Paper,
    /// Chosen by this project.
    Ours,
}

/// Model family, which determines the curriculum and the size rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Family {
    ResNet,
    DeiT,
    Swin,
    CSwin,
    ConvNext,
    CaFormer,
    Pvt,
}

/// Stochastic depth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropPath {
    /// One rate for runs of every length.
    Constant(f64),
    /// `rate * E / at_epochs` for E compute epochs.
    Scaled {
        /// Rate at `at_epochs`.
        rate: f64,
        /// Compute epochs at which the rate is `rate` (200).
        at_epochs: f64,
    },
}

impl DropPath {
    /// Returns the rate of a run of `equivalent_epochs`.
    #[must_use]
    pub fn rate(self, equivalent_epochs: f64) -> f64 {
        match self {
            Self::Constant(rate) => rate,
            // The reference multiplies first and then divides.
            Self::Scaled { rate, at_epochs } => rate * equivalent_epochs / at_epochs,
        }
    }
}

/// Augmentation settings that are constant over a run. The curriculum sets the magnitude.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Number of RandAugment operations per image.
    pub ops: u32,
    /// Probability that a chosen operation is applied.
    pub op_probability: f64,
    /// Standard deviation of the noise on the magnitude.
    pub magnitude_std: f64,
    /// Use the "increasing" operations (timm's `inc1`).
    pub increasing: bool,
    /// Probability of random erasing (pixel mode).
    pub erasing: f64,
    /// Beta parameter of mixup; 0 disables it.
    pub mixup: f64,
    /// Beta parameter of cutmix; 0 disables it.
    pub cutmix: f64,
    /// Probability of cutmix for a batch if both are enabled.
    pub switch_probability: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
    /// Probability of a horizontal flip.
    pub flip: f64,
}

impl Augmentation {
    /// Returns timm's name of the policy at a magnitude, such as `rand-m3-mstd0.5-inc1`.
    #[must_use]
    pub fn policy(&self, magnitude: f64) -> String {
        if self.ops == 0 {
            return "none".into();
        }
        format!("rand-m{magnitude}-mstd{}-inc{}", self.magnitude_std, u8::from(self.increasing))
    }
}

/// A named, complete recipe.
///
/// Reading one refuses unknown keys. The keys `amp` and `layer_scale` of earlier versions are
/// ignored: a run sets its precision itself, and layer scale belongs to the model. An earlier
/// spelling of a model's name is replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "RecipeRecord")]
pub struct Recipe {
    /// Canonical name, such as `deit-small-etpp`.
    pub name: String,
    /// Name of the model in the registry of `efficienttrain-models`, such as `deit_small`.
    pub model: String,
    /// Model family.
    pub family: Family,
    /// Name of the model in timm or in the authors' code, such as `deit_small_patch16_224`.
    pub reference_model: String,
    /// Source of the numbers.
    pub origin: Origin,
    /// Stages: sizes, magnitudes, batches.
    pub curriculum: Curriculum,
    /// Optimizer and learning rate.
    pub optimizer: Optimizer,
    /// Augmentation that is constant over the run.
    pub augmentation: Augmentation,
    /// Stochastic depth.
    pub drop_path: DropPath,
    /// Decay of the exponential moving average (EMA) of the weights, if one is kept.
    pub ema_decay: Option<f64>,
}

/// Keys of earlier versions that are accepted, but never suggested.
pub(crate) const OBSOLETE_KEYS: [&str; 3] = ["amp", "layer_scale", "optimiser"];

/// A recipe as it is stored, with the keys of earlier versions.
#[derive(Deserialize)]
#[serde(rename = "Recipe", deny_unknown_fields)]
struct RecipeRecord {
    name: String,
    model: String,
    family: Family,
    reference_model: String,
    origin: Origin,
    curriculum: Curriculum,
    #[serde(alias = "optimiser")]
    optimizer: Optimizer,
    augmentation: Augmentation,
    drop_path: DropPath,
    ema_decay: Option<f64>,
    #[serde(default, rename = "amp")]
    _amp: IgnoredAny,
    #[serde(default, rename = "layer_scale")]
    _layer_scale: IgnoredAny,
}

impl From<RecipeRecord> for Recipe {
    fn from(stored: RecipeRecord) -> Self {
        Self {
            name: stored.name,
            model: current_model_name(stored.model),
            family: stored.family,
            reference_model: stored.reference_model,
            origin: stored.origin,
            curriculum: stored.curriculum,
            optimizer: stored.optimizer,
            augmentation: stored.augmentation,
            drop_path: stored.drop_path,
            ema_decay: stored.ema_decay,
        }
    }
}

impl Recipe {
    /// Writes the recipe as JSON text.
    ///
    /// # Errors
    /// [`ScheduleError::Field`] naming the first field out of range; a valid recipe can always be
    /// written.
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        serde_json::to_string_pretty(self).map_err(|e| JsonError::from(e).into())
    }

    /// Reads a recipe written by [`Self::to_json`], such as the result of a search.
    ///
    /// # Errors
    /// [`ScheduleError::NotARecipe`] for any other text, with line and column; a field error for a
    /// number out of range.
    pub fn from_json(text: &str) -> Result<Self> {
        let recipe: Self = serde_json::from_str(text).map_err(|e| ScheduleError::from(JsonError::from(e)))?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`ScheduleError::Field`](crate::ScheduleError::Field) naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        self.curriculum.validate()?;
        self.optimizer.validate()?;
        self.augmentation.validate()?;
        if let Some(decay) = self.ema_decay {
            within("ema_decay", decay, 0.0, 1.0, "use a number such as 0.9999, or null to keep no average")?;
        }
        if let DropPath::Scaled { at_epochs, .. } = self.drop_path {
            positive("drop_path.at_epochs", at_epochs, "the authors' rates hold at 200")?;
        }
        Ok(())
    }

    /// Returns the drop-path rate of a run of `equivalent_epochs`.
    ///
    /// # Errors
    /// A field error when the rate is not in 0..1: a long run scales the rate of a large model past
    /// 1.
    pub fn drop_path_rate(&self, equivalent_epochs: f64) -> Result<f64> {
        let rate = self.drop_path.rate(equivalent_epochs);
        if (0.0..1.0).contains(&rate) {
            return Ok(rate);
        }
        let hint = "the rate grows with equivalent_epochs; set drop_path to a constant for so long a run";
        Err(field("drop_path", "a rate in 0..1", rate, hint))
    }
}

impl Augmentation {
    fn validate(&self) -> Result<()> {
        let shares = [
            ("op_probability", self.op_probability),
            ("erasing", self.erasing),
            ("switch_probability", self.switch_probability),
            ("label_smoothing", self.label_smoothing),
            ("flip", self.flip),
        ];
        for (name, value) in shares {
            within(&format!("augmentation.{name}"), value, 0.0, 1.0, "a probability or share")?;
        }
        for (name, value) in
            [("magnitude_std", self.magnitude_std), ("mixup", self.mixup), ("cutmix", self.cutmix)]
        {
            within(&format!("augmentation.{name}"), value, 0.0, f64::MAX, "0 disables it")?;
        }
        Ok(())
    }
}
