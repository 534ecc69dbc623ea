//! Algorithm 2 on trainings whose best curriculum is known.

use crate::common::search::{Synthetic, Trained, distance, noise, recipe, sequential};
use efficienttrain_schedule::search::{
    Algorithm, EarlyStop, FineTune, Measured, Prefer, Report, Search, StageBatch, TrialPart, Verdict,
};
use efficienttrain_schedule::{BatchRule, CostModel, Magnitude, Recipe, ShareUnit, StepSettings};
use proptest::prelude::*;

const BEST: [u32; 5] = [96, 160, 128, 224, 192];

fn peak(best: &[u32]) -> impl Fn(&Trained) -> Report + '_ {
    |trained| Report::Accuracy(0.9 - distance(&trained.sizes(), best))
}

fn sizes(recipe: &Recipe) -> Vec<u32> {
    recipe.curriculum.stages.iter().map(|stage| stage.size).collect()
}

#[test]
fn finds_the_best_sizes_whether_they_grow_or_not() {
    let mut search = Search::new(&recipe(), sequential()).unwrap();
    let outcome = search.run(&mut Synthetic::new(peak(&BEST))).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), BEST);
    assert_eq!(outcome.recipe.curriculum.share_of, ShareUnit::Compute);
    assert!(outcome.stages.iter().all(|stage| !stage.tied));
    // Five candidates for each of five stages, once.
    assert_eq!(outcome.trials.len(), 25);
    // 25 fifths of 20 epochs, and 25 times a twentieth of 20; against 5^5 runs of 20. Whole steps
    // miss that a little.
    assert!((outcome.equivalent_epochs - 125.0).abs() < 1.0, "{}", outcome.equivalent_epochs);
    assert_eq!(outcome.exhaustive_epochs, 62_500.0);
    let text = outcome.to_string();
    assert!(text.contains("found: 96, 160, 128, 224, 192\n"), "{text}");
    assert!(text.contains("stage4-candidate3-seed0"), "{text}");
}

/// Settings of a step that affect the network: all but the completed share of the run.
fn training(step: &StepSettings) -> StepSettings {
    StepSettings { compute_fraction: 0.0, ..*step }
}

#[test]
fn a_run_of_the_found_recipe_trains_as_the_search_did() {
    for early_stop in [None, Some(EarlyStop { after: 0.4, margin: 1.0 })] {
        let mut options = sequential();
        options.algorithm = Algorithm::Sequential { fine_tune: FineTune::default(), early_stop };
        let mut search = Search::new(&recipe(), options).unwrap();
        let mut evaluator = Synthetic::new(peak(&BEST));
        let outcome = search.run(&mut evaluator).unwrap().unwrap();
        // Only the state of the found network is left.
        let (state, steps) = evaluator.states.iter().next().unwrap();
        assert_eq!((evaluator.states.len(), state.trial.candidate), (1, 3));
        // Read back from its text, as a command would.
        let recipe = Recipe::from_json(&outcome.recipe.to_json().unwrap()).unwrap();
        let plan = efficienttrain_schedule::Plan::new(&recipe, outcome.plan_options.clone()).unwrap();
        assert_eq!(plan, outcome.plan().unwrap());
        assert_eq!(steps.len() as u64, plan.total_steps());
        for (step, trained) in (0..).zip(steps) {
            assert_eq!(training(&plan.at(step).unwrap()), training(trained));
        }
    }
}

#[test]
fn fine_tuning_starts_where_the_stage_ended() {
    let mut options = sequential();
    options.algorithm =
        Algorithm::Sequential { fine_tune: FineTune { share: 0.1, lr_factor: 0.5 }, early_stop: None };
    options.plan = options.plan.with_batch(BatchRule::AsRecipe);
    // Twice the batch, sqrt(2) the rate: the fine-tuning has the recipe's batch of 128 again.
    options.space.batches = vec![StageBatch { per_device: 256, accumulation: 1 }];
    let search = Search::new(&recipe(), options).unwrap();
    let trial = &search.pending_trials().unwrap()[0];
    let last = trial.plan.at(trial.steps.end - 1).unwrap();
    let run = trial.fine_tune.as_ref().unwrap();
    // A tenth of the 20 epochs: 1280 images, ten steps.
    assert_eq!((run.plan.total_steps(), run.plan.stages()[0].images_per_step), (10, 128));
    assert_eq!(run.samples_before, trial.steps.end * 256);
    let first = run.plan.at(0).unwrap();
    assert_eq!((first.size, first.magnitude), (224, last.magnitude));
    assert!((first.lr / (0.5 * last.lr / 2f64.sqrt()) - 1.0).abs() < 1e-12);
    assert!(run.plan.at(9).unwrap().lr < 0.1 * first.lr);
}

#[test]
fn without_fine_tuning() {
    let mut options = sequential();
    options.algorithm =
        Algorithm::Sequential { fine_tune: FineTune { share: 0.0, lr_factor: 1.0 }, early_stop: None };
    let mut search = Search::new(&recipe(), options).unwrap();
    assert!(search.pending_trials().unwrap().iter().all(|trial| trial.fine_tune.is_none()));
    let outcome = search.run(&mut Synthetic::new(peak(&BEST))).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), BEST);
}

#[test]
fn equal_accuracies_are_a_tie_and_the_rule_decides() {
    // 128 and 192 are equally far from 160.
    let flat = |trained: &Trained| {
        let last = f64::from(*trained.sizes().last().unwrap());
        Report::Accuracy(if (last - 160.0).abs() == 32.0 { 0.8 } else { 0.7 })
    };
    for (prefer, size) in [(Prefer::Smaller, 128), (Prefer::Larger, 192), (Prefer::Best, 128)] {
        let mut options = sequential();
        options.tie.prefer = prefer;
        let outcome =
            Search::new(&recipe(), options).unwrap().run(&mut Synthetic::new(flat)).unwrap().unwrap();
        assert_eq!(sizes(&outcome.recipe), [size; 5]);
        for stage in &outcome.stages {
            let verdicts: Vec<&Verdict> = stage.candidates.iter().map(|c| &c.verdict).collect();
            let (chosen, tied, worse) = (&Verdict::Chosen, &Verdict::Tied, &Verdict::Worse);
            let (low, high) = if size == 128 { (chosen, tied) } else { (tied, chosen) };
            assert_eq!((stage.tied, verdicts), (true, vec![worse, low, worse, high, worse]));
        }
        assert!(outcome.to_string().contains("(a tie decided by rule among them)"));
    }
}

#[test]
fn mean_and_spread_by_hand() {
    let a = Measured::of(&[0.70, 0.72, 0.74]);
    assert!((a.mean - 0.72).abs() < 1e-15 && (a.spread.unwrap() - 0.02).abs() < 1e-15);
    let b = Measured::of(&[0.71, 0.75]);
    assert!((b.spread.unwrap() - 0.02 * 2f64.sqrt()).abs() < 1e-15);
    let tie = efficienttrain_schedule::search::TieRule { standard_errors: 2.0, ..Default::default() };
    // 2 * sqrt(0.0004 / 3 + 0.0008 / 2)
    assert!((tie.margin(&a, &b) - 2.0 * (0.0004f64 / 3.0 + 0.0004).sqrt()).abs() < 1e-15);
    assert!(tie.is_tie(&a, &b));
    assert!(!tie.is_tie(&Measured::of(&[0.5]), &Measured::of(&[0.5 + 1e-9])));
}

#[test]
fn noise_over_seeds_is_called_a_tie_and_a_real_difference_is_not() {
    // Accuracy depends on chance alone, by up to three points.
    let luck = |trained: &Trained| Report::Accuracy(0.7 + 0.03 * noise(trained));
    let mut options = sequential();
    options.seeds = (0..5).collect();
    options.tie.standard_errors = 3.0;
    let outcome =
        Search::new(&recipe(), options.clone()).unwrap().run(&mut Synthetic::new(luck)).unwrap().unwrap();
    assert!(outcome.stages.iter().all(|stage| stage.tied));
    assert_eq!(sizes(&outcome.recipe), [96; 5]);
    // The same chance with differences of 3.2 points and more.
    let real = |trained: &Trained| {
        let luck = 0.003 * noise(trained);
        Report::Accuracy(0.7 - distance(&trained.sizes(), &BEST) + luck)
    };
    let outcome = Search::new(&recipe(), options).unwrap().run(&mut Synthetic::new(real)).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), BEST);
    assert!(outcome.stages.iter().all(|stage| !stage.tied));
    assert_eq!(outcome.trials.len(), 125);
    let candidate = &outcome.stages[0].candidates[0];
    assert_eq!(candidate.accuracies.len(), 5);
    assert!(candidate.measured.unwrap().spread.unwrap() > 0.0);
}

#[test]
fn hopeless_candidates_are_given_up_and_said_to_be() {
    let mut options = sequential();
    options.algorithm = Algorithm::Sequential {
        fine_tune: FineTune::default(),
        early_stop: Some(EarlyStop { after: 0.25, margin: 0.04 }),
    };
    let mut rests = Vec::new();
    let evaluator = |trained: &Trained| {
        if trained.trial.id.part == TrialPart::Rest {
            rests.push((trained.trial.id.stage.unwrap(), trained.trial.choice.size));
        }
        Report::Accuracy(0.9 - distance(&trained.sizes(), &BEST))
    };
    let mut search = Search::new(&recipe(), options).unwrap();
    let outcome = search.run(&mut Synthetic::new(evaluator)).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), BEST);
    // Sizes more than 40 pixels from the best are given up.
    let near = |best: u32| [96u32, 128, 160, 192, 224].into_iter().filter(move |s| s.abs_diff(best) <= 40);
    let expected: Vec<(usize, u32)> =
        BEST.iter().enumerate().flat_map(|(i, &best)| near(best).map(move |s| (i, s))).collect();
    assert_eq!(rests, expected);
    for (stage, best) in outcome.stages.iter().zip(BEST) {
        for candidate in &stage.candidates {
            let given_up = candidate.choice.size.abs_diff(best) > 40;
            assert_eq!(candidate.verdict == Verdict::GivenUp, given_up);
            assert_eq!(candidate.accuracies.len(), 1);
        }
    }
    // Of the 4 epochs of a stage each of 25 probes trains one, and 2 + 3 + 3 + 2 + 3 survivors the
    // other three; the fine-tuning of each is one more.
    let expected = 25.0 * (1.0 + 1.0) + 13.0 * (3.0 + 1.0);
    assert!((outcome.equivalent_epochs - expected).abs() < 1.5, "{}", outcome.equivalent_epochs);
}

#[test]
fn magnitude_and_batch_are_searched_too() {
    let mut options = sequential();
    options.plan = options.plan.with_batch(BatchRule::AsRecipe);
    options.space.sizes = vec![112, 224];
    options.space.magnitudes = vec![0.0, 5.0];
    let batch = |per_device| StageBatch { per_device, accumulation: 1 };
    options.space.batches = vec![batch(16), batch(32)];
    // Small, weak and large batches first; then in reverse order.
    let accuracy = |trained: &Trained| {
        let wrong = |step: &StepSettings| {
            let early = step.stage < 2;
            let size = u8::from((step.size == 112) != early);
            let magnitude = u8::from((step.magnitude == 0.0) != early);
            let batch = u8::from((step.batch_per_device == 32) != early);
            f64::from(size + magnitude + batch)
        };
        Report::Accuracy(1.0 - trained.steps.iter().map(wrong).sum::<f64>() / trained.steps.len() as f64)
    };
    let mut search = Search::new(&recipe(), options).unwrap();
    let outcome = search.run(&mut Synthetic::new(accuracy)).unwrap().unwrap();
    assert_eq!(outcome.trials.len(), 5 * 8);
    for (index, stage) in outcome.recipe.curriculum.stages.iter().enumerate() {
        let (size, magnitude, batch) = if index < 2 { (112, 0.0, 32) } else { (224, 5.0, 16) };
        assert_eq!((stage.size, stage.magnitude), (size, Magnitude::Fixed(magnitude)));
        assert_eq!((stage.batch_per_device, stage.accumulation), (batch, 1));
    }
    assert!(outcome.to_string().contains("112 m0 32x1"));
}

#[test]
fn sizes_may_be_held_to_growing() {
    let mut options = sequential();
    options.growing = true;
    let outcome =
        Search::new(&recipe(), options).unwrap().run(&mut Synthetic::new(peak(&BEST))).unwrap().unwrap();
    assert_eq!(sizes(&outcome.recipe), [96, 160, 160, 224, 224]);
    assert_eq!(outcome.stages[2].candidates[1].verdict, Verdict::NotTried);
    assert_eq!(outcome.trials.len(), 5 + 5 + 3 + 3 + 1);
}

proptest! {
    #[test]
    fn every_budget_is_met_to_half_a_step(
        epochs in 10.0..300.0f64, images in 500u64..20_000, batch in 1u32..32, stages in 1u32..8, best in 0u64..3125,
        table in any::<bool>(),
    ) {
        let mut options = sequential().with_stages(stages).unwrap();
        options.plan.train_images = images;
        options.plan.equivalent_epochs = epochs;
        options.plan = options.plan.with_batch(BatchRule::Fixed { per_device: batch, accumulation: 1 });
        if table {
            let cost = CostModel::from_fn(&[96, 128, 160, 192, 224], 224, |size| f64::from(size).powf(1.7));
            options.plan = options.plan.with_cost(cost);
        }
        let mut search = Search::new(&recipe(), options).unwrap();
        // The accuracy depends on identities alone, so no step is visited.
        loop {
            let trials = search.pending_trials().unwrap();
            if trials.is_empty() {
                break;
            }
            let best = best / 5u64.pow(trials[0].id.stage.unwrap() as u32) % 5;
            for trial in trials {
                prop_assert!(!trial.steps.is_empty());
                let off = (trial.id.candidate as u64).abs_diff(best) as f64;
                search.report(trial.id, Report::Accuracy(-off)).unwrap();
            }
        }
        let plan = search.outcome().unwrap().unwrap().plan().unwrap();
        let step = f64::from(batch) / images as f64;
        prop_assert!((plan.equivalent_epochs() - epochs).abs() <= 0.5 * step * (1.0 + 1e-9));
    }
}
