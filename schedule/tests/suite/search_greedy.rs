//! Algorithm 1 on trainings whose best curriculum is known.

use crate::common::search::{Synthetic, Trained, greedy, noise, recipe};
use efficienttrain_schedule::search::{Algorithm, Report, Search, Verdict};
use efficienttrain_schedule::{BatchRule, Recipe, ShareUnit, StepSettings};
use proptest::prelude::*;

/// Sizes below these cost accuracy; larger ones do not help.
const LEAST: [u32; 5] = [96, 128, 128, 224, 224];

fn falls_below(trained: &Trained) -> f64 {
    trained
        .sizes()
        .iter()
        .zip(LEAST)
        .map(|(&size, least)| f64::from(least.saturating_sub(size)) / 1000.0)
        .sum()
}

fn sizes(recipe: &Recipe) -> Vec<u32> {
    recipe.curriculum.stages.iter().map(|stage| stage.size).collect()
}

#[test]
fn gives_each_stage_the_smallest_size_that_does_not_lower_accuracy() {
    let mut search = Search::new(&recipe(), greedy()).unwrap();
    let mut evaluator = Synthetic::new(|t: &Trained| {
        assert_eq!(t.sizes().len(), 5, "a trial is a whole run");
        Report::Accuracy(0.8 - falls_below(t))
    });
    let outcome = search.run(&mut evaluator).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), LEAST);
    assert_eq!(outcome.recipe.curriculum.share_of, ShareUnit::Epochs);
    assert_eq!(outcome.baseline.unwrap().mean, 0.8);
    // Plain training, then 1 + 2 + 2 + 4 + 4 candidates: full size itself needs no trial.
    assert_eq!(outcome.trials.len(), 14);
    let verdicts: Vec<&Verdict> = outcome.stages[1].candidates.iter().map(|c| &c.verdict).collect();
    let skipped = &Verdict::NotTried;
    assert_eq!(verdicts, [&Verdict::Worse, &Verdict::Chosen, skipped, skipped, skipped]);
    assert_eq!(outcome.stages[3].candidates[4].verdict, Verdict::Chosen);
    // Thirty passes, of which the found ones cost (96^2 + 2 * 128^2 + 2 * 224^2) / (5 * 224^2).
    let (plan, square) = (outcome.plan().unwrap(), |size: f64| (size / 224.0).powi(2));
    let expected = 30.0 * (square(96.0) + 2.0 * square(128.0) + 2.0) / 5.0;
    assert!((plan.equivalent_epochs() - expected).abs() <= 0.5 * 32.0 / 640.0 + 1e-9);
    let passes: f64 = plan.stages().iter().map(|stage| stage.epochs).sum();
    assert!((passes - 30.0).abs() < 0.5, "{passes}");
    // Every combination: 5^5 runs of 30 passes at the mean cost of a pass.
    let mean = (square(96.0) + square(128.0) + square(160.0) + square(192.0) + 1.0) / 5.0;
    assert!((outcome.exhaustive_epochs / (3125.0 * 30.0 * mean) - 1.0).abs() < 1e-12);
}

#[test]
fn shared_beginnings_are_trained_once_and_as_the_found_recipe_would() {
    let mut search = Search::new(&recipe(), greedy()).unwrap();
    let mut evaluator = Synthetic::new(|t: &Trained| Report::Accuracy(0.8 - falls_below(t)));
    let outcome = search.run(&mut evaluator).unwrap().unwrap();
    let plan = outcome.plan().unwrap();
    // The run of stage 2's winner continued at full size, as the found one does.
    let (state, steps) = evaluator.states.iter().next().unwrap();
    assert_eq!((evaluator.states.len(), state.trial.stage, state.step), (1, Some(2), plan.total_steps()));
    let training = |step: &StepSettings| StepSettings { compute_fraction: 0.0, ..*step };
    for (step, trained) in (0..).zip(steps) {
        assert_eq!(training(&plan.at(step).unwrap()), training(trained));
    }
    // From scratch each trial would cost a whole run.
    let whole: f64 = outcome.trials.len() as f64 * plan.equivalent_epochs();
    assert!(outcome.equivalent_epochs < 0.8 * whole, "{} of {whole}", outcome.equivalent_epochs);
    // By hand for a trial of the last stage: six passes at 96.
    let row = outcome.trials.iter().find(|row| row.id.to_string() == "stage4-candidate0-seed0").unwrap();
    assert!((row.equivalent_epochs - 6.0 * (96.0f64 / 224.0).powi(2)).abs() < 0.05);
}

#[test]
fn candidates_may_be_tried_together() {
    let accuracy = |t: &Trained| Report::Accuracy(0.8 - falls_below(t));
    for (at_once, trials) in [(2, 1 + 2 + 2 + 2 + 4 + 4), (100, 1 + 5 * 4)] {
        let mut options = greedy();
        options.algorithm = Algorithm::Greedy { at_once };
        let mut search = Search::new(&recipe(), options).unwrap();
        let outcome = search.run(&mut Synthetic::new(accuracy)).unwrap().unwrap();
        assert_eq!((sizes(&outcome.recipe), outcome.trials.len()), (LEAST.to_vec(), trials));
    }
}

#[test]
fn the_target_stays_plain_training_and_does_not_sink() {
    // Every stage below full size costs half a point, and half a point is forgiven: once, not five
    // times.
    let accuracy = |t: &Trained| {
        let smaller = t.sizes().iter().filter(|&&size| size < 224).count();
        Report::Accuracy(0.8 - 0.005 * smaller as f64)
    };
    let mut options = greedy();
    options.tie.absolute = 0.006;
    let outcome =
        Search::new(&recipe(), options).unwrap().run(&mut Synthetic::new(accuracy)).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), [96, 224, 224, 224, 224]);
    assert_eq!(outcome.stages.iter().map(|s| s.tied).collect::<Vec<_>>(), [true, false, false, false, false]);
}

#[test]
fn with_seeds_a_drop_within_the_noise_is_none() {
    let accuracy = |t: &Trained| Report::Accuracy(0.8 - 3.0 * falls_below(t) + 0.003 * noise(t));
    let mut options = greedy();
    options.seeds = vec![7, 8, 9, 10];
    options.tie.standard_errors = 3.0;
    let outcome =
        Search::new(&recipe(), options).unwrap().run(&mut Synthetic::new(accuracy)).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), LEAST);
    assert!(outcome.stages[..3].iter().all(|stage| stage.tied));
    assert!(outcome.to_string().starts_with("plain training: 0.8"), "{outcome}");
}

#[test]
fn nothing_smaller_will_do() {
    let accuracy = |t: &Trained| Report::Accuracy(f64::from(t.sizes().iter().sum::<u32>()));
    let outcome =
        Search::new(&recipe(), greedy()).unwrap().run(&mut Synthetic::new(accuracy)).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), [224; 5]);
    assert!((outcome.plan().unwrap().equivalent_epochs() - 30.0).abs() < 0.03);
}

#[test]
fn a_failed_candidate_is_not_taken_and_failed_plain_training_ends_the_search() {
    let accuracy = |t: &Trained| match t.trial.choice.size {
        96 => Report::Failed("diverged".into()),
        _ => Report::Accuracy(0.8),
    };
    let outcome =
        Search::new(&recipe(), greedy()).unwrap().run(&mut Synthetic::new(accuracy)).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), [128; 5]);
    let never = |_: &Trained| Report::Failed("no device".into());
    let error = Search::new(&recipe(), greedy()).unwrap().run(&mut Synthetic::new(never)).unwrap_err();
    assert!(error.to_string().contains("baseline-seed0: no device"), "{error}");
}

proptest! {
    /// Holds for any numbers, including round ones, for which stages end in the middle of a step.
    #[test]
    fn a_trial_starts_at_a_step_that_the_run_before_kept(
        epochs in prop_oneof![(4u32..40).prop_map(f64::from), 4.0..40.0f64],
        images in (4u64..60).prop_map(|n| n * 100),
        batch in prop::sample::select(vec![1, 4, 8, 10, 16, 20]),
        stages in 1u32..11,
        least in 0usize..3125,
    ) {
        let mut options = greedy().with_stages(stages).unwrap();
        options.plan.equivalent_epochs = epochs;
        options.plan.train_images = images;
        options.plan = options.plan.with_batch(BatchRule::Fixed { per_device: batch, accumulation: 1 });
        let mut search = Search::new(&recipe(), options).unwrap();
        let mut kept = std::collections::BTreeSet::new();
        loop {
            let trials = search.pending_trials().unwrap();
            if trials.is_empty() {
                break;
            }
            for trial in trials {
                let start = trial.start;
                prop_assert!(start.is_none_or(|state| kept.contains(&(state.trial, state.step))), "{start:?}");
                kept.extend(trial.keep.iter().map(|&step| (trial.id, step)));
                let wanted = least / 5usize.pow(trial.id.stage.unwrap_or(0) as u32 % 5) % 5;
                let good = trial.id.stage.is_none() || trial.id.candidate >= wanted;
                search.report(trial.id, Report::Accuracy(f64::from(u8::from(good)))).unwrap();
            }
        }
        // Whole steps for as many passes as asked, within half of the largest step.
        let plan = search.outcome().unwrap().unwrap().plan().unwrap();
        let step = f64::from(batch) / images as f64;
        prop_assert!((plan.equivalent_epochs() - plan.options().equivalent_epochs).abs() <= 0.5 * step * (1.0 + 1e-6));
    }
}
