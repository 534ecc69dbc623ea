//! Checks of a plan before the first step: errors and likely mistakes.

use efficienttrain_models::fewest_batch_norm_values;
use efficienttrain_schedule::Plan;

use crate::error::{Error, Result};
use crate::training::state::TrainState;

/// Returns the stages of a plan that have steps, counted from 1.
pub(crate) fn stages(plan: &Plan) -> impl Iterator<Item = (usize, &efficienttrain_schedule::PlanStage)> {
    (1..).zip(plan.stages()).filter(|(_, stage)| stage.steps > 0)
}

/// Checks that every batch norm has at least two values per channel, which a single image may not
/// provide.
///
/// # Errors
/// Names the first stage where that is not so.
pub(crate) fn check_batch_norm(state: &TrainState, plan: &Plan) -> Result<()> {
    // Two images always give at least two values.
    let single = stages(plan).filter(|(_, stage)| stage.batch_per_device == 1);
    for (number, stage) in single.filter(|_| state.objective.has_accuracy()) {
        let (model, _) = state.model.at_size([stage.size as usize; 2])?;
        if fewest_batch_norm_values(model.classifier()?, state.frozen())? == Some(1) {
            let what = format!(
                "with 1 image of {0} x {0} pixels in stage {number}, a batch norm sees a single value per channel, which \
                 has no variance; give 2 or more (option `accumulation` adds up small batches), a larger option `base-size`, or keep \
                 the running statistics with option `freeze`",
                stage.size
            );
            return Err(Error::config("batch", what));
        }
    }
    Ok(())
}

/// Returns warnings about likely mistakes in a plan.
pub(crate) fn warnings(plan: &Plan) -> Result<Vec<String>> {
    Ok(warm_up(plan)?.into_iter().chain(mixing(plan)).collect())
}

/// Warns of a warm-up that does not end.
fn warm_up(plan: &Plan) -> Result<Option<String>> {
    let (total, last) = (plan.total_steps(), plan.at(plan.total_steps() - 1)?);
    if plan.warm_up_share() <= last.compute_fraction {
        return Ok(None);
    }
    let advice = "give a shorter option `warmup` (`0st` for none), or more option `epochs`";
    if last.lr == 0.0 {
        let what = format!(
            "the run has a single step, and the warm-up of the learning rate starts at 0, so nothing is trained; {advice}"
        );
        return Ok(Some(what));
    }
    let o = &plan.recipe().optimizer;
    let peak = o.lr * o.lr_scaling.factor(last.global_batch, o.reference_batch);
    let what = format!(
        "the warm-up takes all {total} steps: the learning rate ends at {:.2e} and never reaches its peak of \
         {peak:.2e}; {advice}",
        last.lr
    );
    Ok(Some(what))
}

/// Warns of Mixup and CutMix in batches whose images have no partner.
fn mixing(plan: &Plan) -> Option<String> {
    let a = &plan.recipe().augmentation;
    if a.mixup <= 0.0 && a.cutmix <= 0.0 {
        return None;
    }
    let listed = |alone: fn(u32) -> bool| -> String {
        let numbers = stages(plan).filter(|(_, stage)| alone(stage.batch_per_device));
        numbers.map(|(number, _)| number.to_string()).collect::<Vec<_>>().join(", ")
    };
    let (single, odd) = (listed(|images| images == 1), listed(|images| images > 1 && images % 2 == 1));
    let what = "mixup and cutmix mix the images of one micro-batch";
    if !single.is_empty() {
        return Some(format!(
            "{what}: in stages {single} a micro-batch has one image, so nothing is mixed; give option `batch` 2 or more (with \
             option `accumulation` for fewer at a time), or option `mixup` 0 option `cutmix` 0"
        ));
    }
    (!odd.is_empty()).then(|| {
        format!(
            "{what}, the first with the last and so on: in stages {odd} their number is odd, so the middle one is never \
             mixed; give an even option `batch`"
        )
    })
}
