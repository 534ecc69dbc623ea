//! A search that is stopped, stored, reported to in any order, given bad input, or failed by its
//! evaluator.

use crate::common::search::{Synthetic, Trained, distance, greedy, noise, recipe, sequential};
use efficienttrain_schedule::search::{
    Algorithm, EarlyStop, FineTune, Outcome, Report, Search, SearchOptions, Space, StageBatch, TrialId,
    TrialPart, Verdict,
};
use efficienttrain_schedule::{BatchRule, CostModel, Recipe, Rounding, ScheduleError};

const BEST: [u32; 5] = [96, 128, 160, 224, 224];

fn noisy(trained: &Trained) -> Report {
    if trained.sizes() == [96, 96] && trained.seed == 1 {
        return Report::Failed("diverged".into());
    }
    Report::Accuracy(0.9 - distance(&trained.sizes(), &BEST) + 0.01 * noise(trained))
}

fn all_kinds() -> [SearchOptions; 3] {
    let early = Algorithm::Sequential {
        fine_tune: FineTune::default(),
        early_stop: Some(EarlyStop { after: 0.3, margin: 0.05 }),
    };
    let with = |options: SearchOptions| SearchOptions { seeds: vec![1, 2], retries: 1, ..options };
    [with(sequential()), with(SearchOptions { algorithm: early, ..sequential() }), with(greedy())]
}

#[test]
fn a_search_that_stops_after_any_trial_ends_as_if_it_had_not() {
    for options in all_kinds() {
        let whole = Search::new(&recipe(), options.clone())
            .unwrap()
            .run(&mut Synthetic::new(noisy))
            .unwrap()
            .unwrap();
        // Stopped before every single trial, and read back from its text each time.
        let mut evaluator = Synthetic::new(noisy);
        let mut text = serde_json::to_string(&Search::new(&recipe(), options).unwrap()).unwrap();
        let outcome = loop {
            evaluator.stop_before = Some(evaluator.evaluated + 1);
            let mut search: Search = serde_json::from_str(&text).unwrap();
            match search.run(&mut evaluator).unwrap() {
                Some(outcome) => break outcome,
                None => text = serde_json::to_string(&search).unwrap(),
            }
        };
        assert!(outcome == whole, "{outcome}\n\n{whole}");
        let text = serde_json::to_string(&outcome).unwrap();
        assert!(serde_json::from_str::<Outcome>(&text).unwrap() == whole);
    }
}

#[test]
fn reports_may_come_in_any_order() {
    for options in all_kinds() {
        let in_order = Search::new(&recipe(), options.clone())
            .unwrap()
            .run(&mut Synthetic::new(noisy))
            .unwrap()
            .unwrap();
        let mut search = Search::new(&recipe(), options).unwrap();
        let mut evaluator = Synthetic::new(noisy);
        loop {
            let batch = search.pending_trials().unwrap();
            // The last trial handed out is ready first.
            for trial in batch.iter().rev() {
                let report = match efficienttrain_schedule::search::Evaluator::evaluate(&mut evaluator, trial)
                {
                    std::ops::ControlFlow::Continue(report) => report,
                    std::ops::ControlFlow::Break(()) => unreachable!("no stop was set"),
                };
                search.report(trial.id, report).unwrap();
            }
            if batch.is_empty() {
                break;
            }
        }
        let outcome = search.outcome().unwrap().unwrap();
        assert_eq!((outcome.recipe, outcome.stages), (in_order.recipe, in_order.stages));
        assert!((outcome.equivalent_epochs - in_order.equivalent_epochs).abs() < 1e-9);
    }
}

#[test]
fn reports_of_trials_that_are_not_pending_are_refused() {
    let mut search = Search::new(&recipe(), sequential()).unwrap();
    let id = TrialId { stage: Some(1), candidate: 0, seed: 0, part: TrialPart::Whole };
    let error = search.report(id, Report::Accuracy(0.5)).unwrap_err();
    assert_eq!(error, ScheduleError::UnknownTrial { trial: "stage1-candidate0-seed0".into() });
    let first = search.pending_trials().unwrap()[0].id;
    search.report(first, Report::Accuracy(0.5)).unwrap();
    assert!(search.report(first, Report::Accuracy(0.6)).is_err(), "twice");
    // A stored search whose reports do not fit its settings.
    let text = serde_json::to_string(&search)
        .unwrap()
        .replace("\"finished\":[{\"id\":{\"stage\":0", "\"finished\":[{\"id\":{\"stage\":3");
    let error = serde_json::from_str::<Search>(&text).unwrap_err();
    assert!(error.to_string().contains("trial `stage3-candidate0-seed0` is not pending"), "{error}");
}

#[test]
fn failures_are_tried_again_and_then_ruled_out() {
    let mut calls = 0;
    let flaky = |t: &Trained| {
        if t.trial.choice.size == 128 && t.trial.id.stage == Some(0) {
            calls += 1;
            return if calls < 3 { Report::Failed("out of memory".into()) } else { Report::Accuracy(0.95) };
        }
        Report::Accuracy(if t.trial.choice.size == 160 { f64::NAN } else { 0.5 })
    };
    let mut options = sequential();
    options.retries = 2;
    let outcome = Search::new(&recipe(), options).unwrap().run(&mut Synthetic::new(flaky)).unwrap().unwrap();
    assert_eq!(outcome.recipe.curriculum.stages[0].size, 128);
    let Verdict::Failed(reason) = &outcome.stages[0].candidates[2].verdict else { panic!("{outcome}") };
    assert_eq!(reason, "stage0-candidate2-seed0: the accuracy NaN is not a finite number");
    // Three attempts at 128 in the first stage, three at 160 in each: 25 + 2 + 5 * 2.
    assert_eq!(outcome.trials.len(), 37);
    assert!(outcome.to_string().contains("failed: out of memory"));
}

#[test]
fn a_stage_without_any_trained_candidate_ends_the_search() {
    let never = |t: &Trained| match t.trial.id.stage {
        Some(1) => Report::Failed(format!("disk full at {}", t.trial.choice)),
        _ => Report::Accuracy(0.5),
    };
    let mut search = Search::new(&recipe(), sequential()).unwrap();
    let error = search.run(&mut Synthetic::new(never)).unwrap_err();
    let ScheduleError::NoCandidate { stage: 1, reason } = &error else { panic!("{error}") };
    assert!(reason.starts_with("stage1-candidate0-seed0: disk full at 96; "), "{reason}");
    // Stored and read back, it fails in the same way.
    let stored = serde_json::to_string(&search).unwrap();
    assert_eq!(serde_json::from_str::<Search>(&stored).unwrap().pending_trials().unwrap_err(), error);
}

#[test]
fn settings_out_of_range_are_named() {
    type Break = fn(&mut SearchOptions);
    let cases: [(&str, Break); 19] = [
        ("space.sizes", |o| o.space.sizes.clear()),
        ("space.sizes[0]", |o| o.space.sizes[0] = 0),
        ("space.sizes[4]", |o| o.space.sizes[4] = 225),
        ("space.sizes[2]", |o| o.space.sizes[2] = 128),
        ("space.magnitudes[1]", |o| o.space.magnitudes = vec![9.0, 10.5]),
        ("space.magnitudes[1]", |o| o.space.magnitudes = vec![9.0, 9.0]),
        ("plan.batch", |o| o.space.batches = vec![StageBatch { per_device: 8, accumulation: 1 }]),
        ("space.batches[0].accumulation", |o| {
            o.space.batches = vec![StageBatch { per_device: 8, accumulation: 0 }];
        }),
        ("shares", |o| o.shares.clear()),
        ("shares[1]", |o| o.shares[1] = 0.0),
        ("stages[..].share", |o| o.shares[1] = 0.3),
        ("last_magnitude", |o| o.last_magnitude = f64::NAN),
        ("seeds", |o| o.seeds.clear()),
        ("seeds[2]", |o| o.seeds = vec![1, 2, 1]),
        ("tie.absolute", |o| o.tie.absolute = -0.1),
        ("plan.rounding", |o| o.plan.rounding = Rounding::Reference),
        ("fine_tune.share", |o| {
            let fine_tune = FineTune { share: f64::INFINITY, lr_factor: 1.0 };
            o.algorithm = Algorithm::Sequential { fine_tune, early_stop: None };
        }),
        ("early_stop.after", |o| {
            let early_stop = Some(EarlyStop { after: 1.0, margin: 0.1 });
            o.algorithm = Algorithm::Sequential { fine_tune: FineTune::default(), early_stop };
        }),
        ("greedy.at_once", |o| o.algorithm = Algorithm::Greedy { at_once: 0 }),
    ];
    for (field, spoil) in cases {
        let mut options = sequential();
        spoil(&mut options);
        let error = Search::new(&recipe(), options).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{field}: expected ")), "{field}: {error}");
    }
    assert!(sequential().with_stages(0).is_err());
}

#[test]
fn budgets_that_cannot_be_met_are_refused_before_anything_is_trained() {
    let refused = |change: fn(&mut SearchOptions), options: SearchOptions| {
        let mut options = options;
        change(&mut options);
        Search::new(&recipe(), options).unwrap_err()
    };
    // Five stages of 32 images cannot hold steps of 64.
    let error = refused(
        |o| {
            o.plan.equivalent_epochs = 160.0 / 640.0;
            o.plan = o.plan.clone().with_batch(BatchRule::Fixed { per_device: 64, accumulation: 1 });
        },
        sequential(),
    );
    assert!(
        error.to_string().starts_with("shares[0]: expected a stage of at least 64 full-size images"),
        "{error}"
    );
    // A fine-tuning of 0.0004 of 20 epochs is 5 images of a batch of 32.
    let error = refused(
        |o| {
            let fine_tune = FineTune { share: 0.0004, lr_factor: 1.0 };
            o.algorithm = Algorithm::Sequential { fine_tune, early_stop: None };
        },
        sequential(),
    );
    assert!(matches!(error, ScheduleError::BudgetTooSmall { .. }), "{error}");
    // A batch larger than the data, or a size without a cost, is refused too.
    let error = refused(|o| o.plan.train_images = 31, sequential());
    assert!(matches!(error, ScheduleError::BatchLargerThanData { batch: 32, .. }), "{error}");
    let error =
        refused(|o| o.plan.cost = CostModel::Table(vec![(96, 0.2), (128, 0.3), (160, 0.5)]), greedy());
    assert_eq!(error, ScheduleError::MissingCost { size: 192 });
}

#[test]
fn spaces_for_other_base_sizes() {
    assert_eq!(Space::at_base_size(224, 32).unwrap(), Space::default());
    // 27.4, 36.6, 45.7, 54.9, 64 to multiples of 8.
    assert_eq!(Space::at_base_size(64, 8).unwrap().sizes, [24, 40, 48, 56, 64]);
    assert_eq!(Space::at_base_size(64, 32).unwrap().sizes, [32, 64]);
    assert!(Space::at_base_size(100, 32).is_err());
    let small = recipe().at_base_size(64, 8).unwrap();
    let options = SearchOptions { space: Space::at_base_size(64, 8).unwrap(), ..sequential() };
    let outcome = Search::new(&small, options).unwrap();
    assert_eq!(outcome.pending_trials().unwrap()[0].choice.size, 24);
}

#[test]
fn recipes_as_text() {
    let recipe = Recipe::named("deit-small-etpp").unwrap();
    let text = recipe.to_json().unwrap();
    assert_eq!(Recipe::from_json(&text).unwrap(), recipe);
    let error = Recipe::from_json("{\"name\": 3}").unwrap_err();
    assert!(
        error.to_string().starts_with("not a recipe: invalid type: integer `3`, expected a string at line 1"),
        "{error}"
    );
    let error = Recipe::from_json(&text.replace("\"base_size\": 224", "\"base_size\": 96")).unwrap_err();
    assert!(error.to_string().contains("size: expected 1..=96"), "{error}");
}
