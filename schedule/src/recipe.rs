//! A recipe: everything about a training run that is not the data set or the machine.

use crate::curriculum::Curriculum;
use crate::error::{Result, ScheduleError, field, positive, within};
use crate::optimizer::Optimizer;
use serde::{Deserialize, Serialize};

/// Where the numbers of a recipe come from.
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

/// Model family; it decides which curriculum and which rules fit.
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
    /// The same rate for every length of run.
    Constant(f64),
    /// `rate * E / at_epochs` for E equivalent epochs.
    Scaled {
        /// Rate at `at_epochs`.
        rate: f64,
        /// Equivalent epochs at which the rate is `rate` (200).
        at_epochs: f64,
    },
}

impl DropPath {
    /// Rate of a run of `equivalent_epochs`.
    #[must_use]
    pub fn rate(self, equivalent_epochs: f64) -> f64 {
        match self {
            Self::Constant(rate) => rate,
            // Multiplied before divided, as the reference does.
            Self::Scaled { rate, at_epochs } => rate * equivalent_epochs / at_epochs,
        }
    }
}

/// Augmentation that stays constant; the magnitude is the curriculum's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// RandAugment ops an image.
    pub ops: u32,
    /// Probability that a chosen op is applied.
    pub op_probability: f64,
    /// Standard deviation of the noise on the magnitude.
    pub magnitude_std: f64,
    /// Whether the op list is the "increasing" one.
    pub increasing: bool,
    /// Probability of random erasing (pixel mode).
    pub erasing: f64,
    /// Beta parameter of mixup; 0 switches it off.
    pub mixup: f64,
    /// Beta parameter of cutmix; 0 switches it off.
    pub cutmix: f64,
    /// Probability of cutmix where both are on.
    pub switch_probability: f64,
    /// Label smoothing.
    pub label_smoothing: f64,
    /// Probability of a horizontal flip.
    pub flip: f64,
}

impl Augmentation {
    /// timm's spelling of the policy at a magnitude, such as `rand-m3-mstd0.5-inc1`.
    #[must_use]
    pub fn policy(&self, magnitude: f64) -> String {
        format!("rand-m{magnitude}-mstd{}-inc{}", self.magnitude_std, u8::from(self.increasing))
    }
}

/// A named, complete recipe.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Canonical name, such as `deit-small-etpp`.
    pub name: String,
    /// Canonical model name, such as `deit-small`.
    pub model: String,
    /// Model family.
    pub family: Family,
    /// The authors' or timm's name of the model, such as `deit_small_patch16_224`.
    pub reference_model: String,
    /// Where the numbers come from.
    pub origin: Origin,
    /// Sizes, strengths, batches.
    pub curriculum: Curriculum,
    /// Optimizer and learning rate.
    #[serde(alias = "optimiser")]
    pub optimizer: Optimizer,
    /// Constant augmentation.
    pub augmentation: Augmentation,
    /// Stochastic depth.
    pub drop_path: DropPath,
    /// Initial value of layer scale, for the models that have it.
    pub layer_scale: f64,
    /// Decay of the exponential moving average of the weights, if one is kept.
    pub ema_decay: Option<f64>,
    /// Whether the reference trains in mixed precision.
    pub amp: bool,
}

impl Recipe {
    /// The recipe as JSON text.
    ///
    /// # Errors
    /// None for a valid recipe: a number that is not finite has no JSON.
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        serde_json::to_string_pretty(self).map_err(|e| ScheduleError::NotARecipe { reason: e.to_string() })
    }

    /// Reads what [`Self::to_json`] wrote, such as a recipe that a search found.
    ///
    /// # Errors
    /// [`ScheduleError::NotARecipe`] for another text, with line and column; a field error for a number out of range.
    pub fn from_json(text: &str) -> Result<Self> {
        let recipe: Self =
            serde_json::from_str(text).map_err(|e| ScheduleError::NotARecipe { reason: e.to_string() })?;
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
            within("ema_decay", decay, 0.0, 1.0, "use a number such as 0.9999, or none")?;
        }
        within("layer_scale", self.layer_scale, 0.0, 1.0, "the authors use 1e-6")?;
        if let DropPath::Scaled { at_epochs, .. } = self.drop_path {
            positive("drop_path.at_epochs", at_epochs, "the authors' rates hold at 200")?;
        }
        Ok(())
    }

    /// Drop-path rate of a run of `equivalent_epochs`.
    ///
    /// # Errors
    /// A field error when the rate is not in 0..1: a long run scales the rate of a large model past the end.
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
            within(&format!("augmentation.{name}"), value, 0.0, f64::MAX, "0 switches it off")?;
        }
        Ok(())
    }
}
