//! The rounding rules of the authors' launchers: truncated whole epochs, and a resume that rescales
//! the epoch count.

use crate::cosine::ReferenceCosine;
use crate::curriculum::ShareUnit;
use crate::curve::LrCurve;
use crate::error::{Result, ScheduleError};
use crate::optimizer::WarmUp;
use crate::options::PlanOptions;
use crate::recipe::Recipe;
use crate::stage::Stage;
use serde::{Deserialize, Serialize};

/// Returns the epoch at which a stage resumes after the epochs that the last checkpoint has
/// finished, as the reference counts them: first by the replay factors (if they differ), then by
/// the square of the sizes, each rounded half to even.
#[must_use]
pub fn remap_start_epoch(
    finished: u64,
    (old_replay, new_replay): (u32, u32),
    (old_size, new_size): (u32, u32),
) -> u64 {
    let square = |size: u32| u128::from(size) * u128::from(size);
    let start = if old_replay == new_replay {
        finished
    } else {
        (finished as f64 * (f64::from(old_replay) / f64::from(new_replay))).round_ties_even() as u64
    };
    ((u128::from(start) * square(old_size)) as f64 / square(new_size) as f64).round_ties_even() as u64
}

/// A stage as a launcher starts it. An epoch here is one pass over the *fresh* images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceStage {
    /// Epochs of the stage's own cosine (the launcher's `--epochs`).
    pub epochs: u64,
    /// First epoch run.
    pub start_epoch: u64,
    /// Epoch before which the stage ends.
    pub end_epoch: u64,
    /// Warm-up, in epochs of the stage.
    pub warmup_epochs: u64,
    /// Optimizer steps per epoch: whole batches only.
    pub steps_per_epoch: u64,
}

impl ReferenceStage {
    /// Epochs run; 0 if the stage before already reached the end.
    #[must_use]
    pub fn epochs_run(&self) -> u64 {
        self.end_epoch.saturating_sub(self.start_epoch)
    }

    /// Optimizer steps run.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.epochs_run() * self.steps_per_epoch
    }

    /// Returns the stage's learning-rate curve, indexed by `start_epoch * steps_per_epoch` + step
    /// in the stage.
    ///
    /// # Errors
    /// [`ScheduleError::NotReference`] when the warm-up is longer than the stage's cosine.
    pub fn cosine(&self, lr: f64, min_lr: f64) -> Result<ReferenceCosine> {
        ReferenceCosine::new((lr, min_lr), self.epochs, self.steps_per_epoch, self.warmup_epochs, 0.0, None)
    }
}

/// Plans the stages as the launchers run them, each resuming from the last checkpoint written.
pub(crate) fn stages(recipe: &Recipe, options: &PlanOptions) -> Result<Vec<ReferenceStage>> {
    check(recipe, options)?;
    let mut planned = Vec::new();
    let mut checkpoint: Option<(u64, &Stage)> = None;
    for (index, stage) in recipe.curriculum.stages.iter().enumerate() {
        let start = checkpoint.map_or(0, |(finished, last)| resume(recipe, finished, last, stage));
        let next = launch(recipe, options, index, start);
        // The launcher's process builds its curve before it checks the epochs to run, and fails if
        // it cannot.
        next.cosine(recipe.optimizer.lr, recipe.optimizer.min_lr)?;
        if next.epochs_run() > 0 {
            checkpoint = Some((next.end_epoch, stage));
        }
        planned.push(next);
    }
    Ok(planned)
}

/// Returns the epoch at which a stage resumes. The first version keeps one epoch count for all
/// sizes; ++ rescales it.
fn resume(recipe: &Recipe, finished: u64, last: &Stage, stage: &Stage) -> u64 {
    match recipe.curriculum.share_of {
        ShareUnit::Epochs => finished,
        ShareUnit::Compute => {
            remap_start_epoch(finished, (last.replay.times, stage.replay.times), (last.size, stage.size))
        }
    }
}

/// Computes in the launchers' own order, so that values are truncated in the same places.
fn launch(recipe: &Recipe, options: &PlanOptions, index: usize, start_epoch: u64) -> ReferenceStage {
    let curriculum = &recipe.curriculum;
    let stage = &curriculum.stages[index];
    let replay = f64::from(stage.replay.times);
    let ratio = match curriculum.share_of {
        ShareUnit::Epochs => 1.0,
        ShareUnit::Compute => f64::from(curriculum.base_size).powi(2) / f64::from(stage.size).powi(2),
    };
    let asked = options.equivalent_epochs;
    let epochs = (asked * ratio / replay) as u64;
    let warmup_epochs = match recipe.optimizer.warm_up {
        WarmUp::None | WarmUp::Steps(_) => 0,
        WarmUp::Epochs { epochs, .. } => (epochs / replay) as u64,
        WarmUp::Share(share) => (share * asked * ratio / replay) as u64,
    };
    let parts = curriculum.stages.len() as f64;
    let end_epoch = (epochs as f64 / parts * (index as f64 + 1.0)) as u64;
    let fresh = stage.global_batch(options.devices) / u64::from(stage.replay.times);
    ReferenceStage {
        epochs,
        start_epoch,
        end_epoch,
        warmup_epochs,
        steps_per_epoch: options.train_images / fresh,
    }
}

fn check(recipe: &Recipe, options: &PlanOptions) -> Result<()> {
    let refuse = |reason: String| Err(ScheduleError::NotReference { reason });
    if recipe.optimizer.curve != LrCurve::Cosine || matches!(recipe.optimizer.warm_up, WarmUp::Steps(_)) {
        return refuse("the reference has a cosine, and a warm-up in epochs or a share of the run".into());
    }
    if options.equivalent_epochs.fract() != 0.0 {
        return refuse(format!(
            "equivalent_epochs = {} is not a whole number of epochs",
            options.equivalent_epochs
        ));
    }
    if options.cost != crate::CostModel::Square {
        return refuse("its cost model is the square of the size".to_owned());
    }
    let stages = &recipe.curriculum.stages;
    let equal = 1.0 / stages.len() as f64;
    match stages.iter().position(|stage| (stage.share - equal).abs() > 1e-9) {
        Some(index) => refuse(format!(
            "its stages have equal shares, and stages[{index}].share is {}",
            stages[index].share
        )),
        None => Ok(()),
    }
}
