//! Errors of a schedule, attributed to the options that cause them.

use efficienttrain_models::{Error as ModelError, ModelOptions, create_model};
use efficienttrain_schedule::ScheduleError;

use crate::error::Error;

impl Error {
    /// Converts an error to one about the option to change, if a single option sets what is wrong.
    pub(crate) fn of_option(self) -> Self {
        let Self::Schedule(error) = self else { return self };
        match &error {
            ScheduleError::BatchLargerThanData { batch, train_images, .. } => {
                let what = format!(
                    "a step takes {batch} images, and there are {train_images} training images; lower it (or the \
                     recipe's), or option `accumulation` or `devices`"
                );
                Self::config("batch", what)
            }
            ScheduleError::BudgetTooSmall { equivalent_epochs, train_images } => {
                let what = format!(
                    "{equivalent_epochs} over {train_images} images is less than half an optimizer step; raise it, or \
                     lower option `batch`"
                );
                Self::config("epochs", what)
            }
            ScheduleError::Field { field, expected, got, hint } => match option_of(field) {
                Some(option) => {
                    let ours = |text: &str| {
                        text.replace("batch_per_device", "the batch")
                            .replace("equivalent_epochs", "option `epochs`")
                    };
                    let (expected, hint) = (ours(expected), ours(hint));
                    Self::config(option, format!("expected {expected}, got {got}; {hint}"))
                }
                None => error.into(),
            },
            ScheduleError::UnknownRecipe { name, nearest } => {
                let what = format!(
                    "there is no recipe `{name}`, the nearest is `{nearest}`; expected etpp, et, half-96, half-128, \
                     progressive, short or baseline, a full name (`efficienttrain recipes` lists them), or a file that ends in \
                     .json or .toml"
                );
                Self::config("recipe", what)
            }
            _ => error.into(),
        }
    }
}

/// Returns the option that sets a field of a recipe, a plan or a search. All other fields are
/// checked before.
fn option_of(field: &str) -> Option<&'static str> {
    let of_a_stage = |name: &str| field.starts_with("stages[") && field.ends_with(name);
    Some(match field {
        "base_size" => "base-size",
        "equivalent_epochs" => "epochs",
        "optimizer.lr" => "lr",
        "optimizer.min_lr" => "min-lr",
        "stages" => "stages",
        "last_magnitude" => "last-magnitude",
        "fine_tune.share" => "fine-tune",
        "fine_tune.lr_factor" => "fine-tune-lr",
        "early_stop.after" => "early-stop",
        "early_stop.margin" => "early-stop-margin",
        "tie.absolute" => "tie",
        _ if field.starts_with("space.sizes") => "sizes",
        _ if field.starts_with("space.magnitudes") => "magnitudes",
        _ if field.starts_with("space.batches") => "batches",
        // Stages of a search have equal shares, so the whole run is too short.
        _ if field.starts_with("shares[") => "epochs",
        _ if of_a_stage("replay.times") => "replay",
        _ if of_a_stage("replay.buffer_batches") => "replay-batches",
        _ if of_a_stage("accumulation") => "accumulation",
        _ => return None,
    })
}

/// Checks that a model exists: if the recipe of a preset is not found, the model is misspelled.
pub(crate) fn known_model(name: &str) -> Result<(), Error> {
    match create_model(name, &ModelOptions::default()) {
        Err(unknown @ ModelError::UnknownModel { .. }) => Err(Error::config("model", unknown.to_string())),
        _ => Ok(()),
    }
}
