//! Checks of a plan before the first step: errors and likely mistakes.

use std::collections::HashSet;

use efficienttrain_models::fewest_batch_norm_values;
use efficienttrain_schedule::Plan;

use crate::config::train::TrainConfig;
use crate::data::source::class_names::spelled;
use crate::data::source::list::SEPARATORS;
use crate::data::source::{Source, is_multi_label, labels_of};
use crate::error::{Error, Result};
use crate::run::sources::Sources;
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

/// Checks that the sets of a run have as many labels an image as its options say.
///
/// # Errors
/// The error names the option.
pub(crate) fn check_labels(config: &TrainConfig, sources: &Sources) -> Result<()> {
    if config.target.is_some() {
        return Ok(());
    }
    // A run may have no images to evaluate on.
    let sets = [&sources.train, &sources.val].into_iter().filter(|set| !set.is_empty());
    let several: Vec<bool> = sets.map(|set| is_multi_label(&**set)).collect();
    if several.iter().all(|&several| several == config.multi_label) {
        return check_labels_of_evaluation(config, &*sources.val);
    }
    let what = match config.multi_label {
        true => "the data set has one label an image; bring a list with several, or leave it out",
        false => "the data set has any number of labels an image; give this option, with option `loss` bce",
    };
    Err(Error::config("multi-label", what))
}

/// Checks that average precision can be measured, before anything is trained.
fn check_labels_of_evaluation(config: &TrainConfig, val: &dyn Source) -> Result<()> {
    let labeled = || (0..val.len()).any(|index| labels_of(val, index).next().is_some());
    if !config.multi_label || val.is_empty() || labeled() {
        return Ok(());
    }
    let what =
        "none of the evaluation images has a label, so that no mAP can be measured; add some with labels";
    Err(Error::config("multi-label", what))
}

/// Describes the labels of a multi-label set.
pub(crate) fn describe_labels(source: &dyn Source) -> Option<String> {
    if !is_multi_label(source) {
        return None;
    }
    let counts = || (0..source.len()).map(|index| source.label_set(index).map_or(0, <[u32]>::len));
    let mean = counts().sum::<usize>() as f64 / source.len() as f64;
    let without = counts().filter(|&labels| labels == 0).count();
    Some(format!(
        "{mean:.2} labels per training image on average, {without} of {} have none; evaluations report mAP",
        source.len()
    ))
}

/// Warns of classes that seem to be several labels of an image, such as `cat|dog` beside `cat`.
pub(crate) fn combined_labels(config: &TrainConfig, classes: &[String]) -> Option<String> {
    if config.multi_label || config.target.is_some() {
        return None;
    }
    let known: HashSet<&str> = classes.iter().map(String::as_str).collect();
    let is_combined = |class: &&String| {
        class.contains(SEPARATORS) && class.split(SEPARATORS).any(|part| known.contains(part.trim()))
    };
    let class = classes.iter().find(is_combined)?;
    Some(format!(
        "the label {} is a class of its own; if images have several labels, give option `multi-label`",
        spelled(class)
    ))
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
