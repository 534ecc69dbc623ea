//! Errors. Every message names the field, the expected and the actual value, and a remedy.

use crate::keys::suggest_key;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ScheduleError>;

/// Errors of curricula, recipes, plans and searches.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A value outside its range.
    #[error("{field}: expected {expected}, got {got}; {hint}")]
    Field {
        /// Path of the field, such as `stages[2].size`.
        field: String,
        /// The allowed values.
        expected: String,
        /// The actual value.
        got: String,
        /// A remedy.
        hint: String,
    },
    /// No recipe of that name.
    #[error(
        "unknown recipe `{name}`; the nearest known is `{nearest}`; give a model and one of etpp, et, half-96, \
         half-128, progressive, short, baseline"
    )]
    UnknownRecipe {
        /// The requested name.
        name: String,
        /// The most similar known name.
        nearest: String,
    },
    /// One optimizer step would need more images than the data set has.
    #[error(
        "stage {stage} draws {batch} images per step but there are {train_images} training images; \
         lower batch_per_device, accumulation or devices"
    )]
    BatchLargerThanData {
        /// Index of the stage.
        stage: usize,
        /// Fresh images of one optimizer step, over all devices.
        batch: u64,
        /// Images in the training set.
        train_images: u64,
    },
    /// The budget is less than half an optimizer step.
    #[error(
        "equivalent_epochs = {equivalent_epochs} over {train_images} images is less than half an optimizer step; \
         raise equivalent_epochs or lower the batch"
    )]
    BudgetTooSmall {
        /// The requested budget, in compute epochs.
        equivalent_epochs: f64,
        /// Images in the training set.
        train_images: u64,
    },
    /// The reference rounding cannot express this request.
    #[error("rounding = reference cannot plan this: {reason}; use rounding = exact")]
    NotReference {
        /// The reason.
        reason: String,
    },
    /// A step past the end of the plan.
    #[error(
        "step {step} is past the end of the plan, which has {total_steps} steps (0 to {total_steps} - 1)"
    )]
    StepOutOfRange {
        /// The requested step, counted from 0.
        step: u64,
        /// Optimizer steps in the plan.
        total_steps: u64,
    },
    /// The cost table has no row for a size of the curriculum.
    #[error("the cost table has no row for size {size}; add one, or use the square cost model")]
    MissingCost {
        /// The size without a row, in pixels.
        size: u32,
    },
    /// A report of a trial that is not pending.
    #[error(
        "trial `{trial}` is not pending; report each pending trial once, and resume a stored search only with the \
         version that wrote it"
    )]
    UnknownTrial {
        /// Name of the trial.
        trial: String,
    },
    /// Every candidate of a stage of a search failed.
    #[error(
        "stage {stage} of the search has no candidate left: {reason}; fix the evaluator or extend the space"
    )]
    NoCandidate {
        /// Index of the stage.
        stage: usize,
        /// The failures of the candidates.
        reason: String,
    },
    /// A text that is not a recipe.
    #[error("not a recipe: {source}; give the JSON that `Recipe::to_json` writes")]
    NotARecipe {
        /// Error of the JSON reader.
        #[from]
        source: JsonError,
    },
    /// A stored plan that differs from the one this version makes from the recipe and options
    /// stored with it.
    #[error(
        "the stored plan does not follow from its own recipe and options (stage {stage} differs); \
         it was edited or made by another version: plan the run again"
    )]
    PlanMismatch {
        /// First stage that differs.
        stage: usize,
    },
}

/// Error of the JSON reader or writer. An unknown key is reported with the nearest known one.
#[derive(Debug, Clone)]
pub struct JsonError(Arc<serde_json::Error>);

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl PartialEq for JsonError {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_string() == other.0.to_string()
    }
}

impl fmt::Display for JsonError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&suggest_key(&self.0.to_string()))
    }
}

impl std::error::Error for JsonError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.0)
    }
}

/// Builds a [`ScheduleError::Field`].
pub(crate) fn field(
    field: impl Into<String>,
    expected: impl Into<String>,
    got: impl std::fmt::Display,
    hint: impl Into<String>,
) -> ScheduleError {
    ScheduleError::Field {
        field: field.into(),
        expected: expected.into(),
        got: got.to_string(),
        hint: hint.into(),
    }
}

/// Checks that `value` is finite and inside `low..=high`.
pub(crate) fn within(name: &str, value: f64, low: f64, high: f64, hint: &str) -> Result<()> {
    if value.is_finite() && value >= low && value <= high {
        return Ok(());
    }
    let expected = if high == f64::MAX {
        format!("a finite number of at least {low}")
    } else {
        format!("a number in {low}..={high}")
    };
    Err(field(name, expected, value, hint))
}

/// Checks that `value` is finite and above zero.
pub(crate) fn positive(name: &str, value: f64, hint: &str) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(field(name, "a finite number above 0", value, hint))
}

/// Checks that `value` is in `1..=2^20`: a larger count is a typing error and would overflow
/// products.
pub(crate) fn count(name: &str, value: u32, hint: &str) -> Result<()> {
    if (1..=1 << 20).contains(&value) {
        return Ok(());
    }
    Err(field(name, "a whole number in 1..=1048576", value, hint))
}
