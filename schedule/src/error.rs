//! One error type: every message names the field, what was expected, what came, and what to do.

use thiserror::Error;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ScheduleError>;

/// What can be wrong with a curriculum, a recipe, or a request for a plan.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// A value outside its range.
    #[error("{field}: expected {expected}, got {got}; {hint}")]
    Field {
        /// Path of the field, such as `stages[2].size`.
        field: String,
        /// The values that are allowed.
        expected: String,
        /// The value that came.
        got: String,
        /// What to do about it.
        hint: String,
    },
    /// No recipe of that name.
    #[error(
        "unknown recipe `{name}`; the nearest known is `{nearest}`; give a model and one of etpp, et, half-96, \
         half-128, progressive, baseline"
    )]
    UnknownRecipe {
        /// The name that was asked for.
        name: String,
        /// The known name that looks most alike.
        nearest: String,
    },
    /// One optimizer step would need more images than the data set has.
    #[error(
        "stage {stage} draws {batch} images a step but there are {train_images} training images; \
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
    /// The budget does not fill one optimizer step.
    #[error(
        "equivalent_epochs = {equivalent_epochs} over {train_images} images is less than half an optimizer step; \
         raise equivalent_epochs or lower the batch"
    )]
    BudgetTooSmall {
        /// The budget that was asked for, in epochs at base size.
        equivalent_epochs: f64,
        /// Images in the training set.
        train_images: u64,
    },
    /// The reference's rounding cannot express this request.
    #[error("rounding = reference cannot plan this: {reason}; use rounding = exact")]
    NotReference {
        /// Why not.
        reason: String,
    },
    /// A step past the end of the plan.
    #[error(
        "step {step} is past the end of the plan, which has {total_steps} steps (0 to {total_steps} - 1)"
    )]
    StepOutOfRange {
        /// The step that was asked for, counted from 0.
        step: u64,
        /// Optimizer steps in the plan.
        total_steps: u64,
    },
    /// The cost table has no row for a size the curriculum uses.
    #[error("the cost table has no row for size {size}; add one, or use the square cost model")]
    MissingCost {
        /// The size without a row, in pixels.
        size: u32,
    },
    /// A report on a trial that the search is not waiting for.
    #[error(
        "the search is not waiting for trial `{trial}`; report each trial of its present batch once, \
         and continue a stored search only with the version that made it"
    )]
    UnknownTrial {
        /// Name of the trial.
        trial: String,
    },
    /// A stage of a search without a candidate that could be trained.
    #[error(
        "stage {stage} of the search has no candidate left: {reason}; mend the evaluator or widen the space"
    )]
    NoCandidate {
        /// Index of the stage.
        stage: usize,
        /// What became of the candidates.
        reason: String,
    },
    /// A text that is not a recipe.
    #[error("not a recipe: {reason}; give the JSON that `Recipe::to_json` writes")]
    NotARecipe {
        /// What the reader found.
        reason: String,
    },
    /// A stored plan that this version would not make from the recipe and options stored with it.
    #[error(
        "the stored plan does not follow from its own recipe and options (stage {stage} differs); \
         it was edited or made by another version: plan the run again"
    )]
    PlanMismatch {
        /// First stage that differs.
        stage: usize,
    },
}

/// A [`ScheduleError::Field`] from anything printable.
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

/// Passes when `value` is finite and inside `low..=high`.
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

/// Passes when `value` is finite and above zero.
pub(crate) fn positive(name: &str, value: f64, hint: &str) -> Result<()> {
    if value.is_finite() && value > 0.0 {
        return Ok(());
    }
    Err(field(name, "a finite number above 0", value, hint))
}

/// Passes when `value` is in `1..=2^20`: counts above that are typing errors and would overflow products.
pub(crate) fn count(name: &str, value: u32, hint: &str) -> Result<()> {
    if (1..=1 << 20).contains(&value) {
        return Ok(());
    }
    Err(field(name, "a whole number in 1..=1048576", value, hint))
}
