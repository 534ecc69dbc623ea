//! Exact plans: the budget, the order of the samples, the curves.

use efficienttrain_schedule::{
    BatchRule, CostModel, Curriculum, LrOver, LrScaling, Magnitude, Plan, PlanOptions, Recipe, ShareUnit,
    Stage, WarmUp, even_split,
};
use proptest::prelude::*;

/// Any recipe, with a batch that fits the data.
fn any_plan() -> impl Strategy<Value = Plan> {
    let names: Vec<String> = Recipe::names().filter(|name| !name.contains("replay")).collect();
    let batch = (1u32..64, 1u32..4, 1u32..9);
    (prop::sample::select(names), 5.0..300.0f64, 2000u64..2_000_000, batch).prop_map(
        |(name, epochs, images, batch)| {
            let (per_device, accumulation, devices) = batch;
            let options = PlanOptions::new(epochs, images, devices)
                .with_batch(BatchRule::Fixed { per_device, accumulation });
            Plan::new(&Recipe::named(&name).unwrap(), options).unwrap()
        },
    )
}

/// Compute of a plan in base images, from what `at` says of each stage's first step alone.
fn compute(plan: &Plan) -> f64 {
    let cost = |size: u32| (f64::from(size) / f64::from(plan.recipe().curriculum.base_size)).powi(2);
    plan.stages().iter().map(|s| s.steps as f64 * s.images_per_step as f64 * cost(s.size)).sum()
}

proptest! {
    #[test]
    fn budget_is_met_to_within_one_step(plan in any_plan()) {
        let images = plan.options().train_images as f64;
        let asked = plan.options().equivalent_epochs * images;
        let step = plan.stages().iter().map(|s| s.images_per_step).max().unwrap() as f64;
        prop_assert!((compute(&plan) - asked).abs() <= 0.5 * step + 1e-6 * step);
        prop_assert!((plan.equivalent_epochs() - compute(&plan) / images).abs() < 1e-9 * plan.equivalent_epochs());
    }

    #[test]
    fn every_boundary_falls_within_one_step_of_its_share(plan in any_plan()) {
        let curriculum = &plan.recipe().curriculum;
        let weight = |stage: &Stage| match curriculum.share_of {
            ShareUnit::Compute => stage.share,
            ShareUnit::Epochs => stage.share * f64::from(stage.size).powi(2),
        };
        let all: f64 = curriculum.stages.iter().map(weight).sum();
        let mut due = 0.0;
        for (planned, stage) in plan.stages().iter().zip(&curriculum.stages) {
            due += weight(stage) / all * plan.options().equivalent_epochs;
            let end = planned.equivalent_epochs_before + planned.equivalent_epochs;
            let step = planned.images_per_step as f64 / plan.options().train_images as f64;
            prop_assert!((end - due).abs() <= step);
        }
    }

    #[test]
    fn summary_adds_up(plan in any_plan()) {
        let summary = plan.summary().unwrap();
        prop_assert!((summary.stages.iter().map(|s| s.share).sum::<f64>() - 1.0).abs() < 1e-12);
        prop_assert_eq!(summary.stages.iter().map(|s| s.steps).sum::<u64>(), summary.total_steps);
    }

    #[test]
    fn samples_run_on_across_stages(plan in any_plan()) {
        let images = plan.options().train_images;
        let mut consumed = 0;
        for stage in plan.stages().iter().filter(|stage| stage.steps > 0) {
            for step in [stage.first_step, stage.first_step + stage.steps - 1] {
                let settings = plan.at(step).unwrap();
                prop_assert_eq!(settings.epoch * images + settings.position, settings.samples_before);
                prop_assert_eq!(plan.samples_before(step + 1).unwrap(), settings.samples_before + settings.fresh_samples);
            }
            prop_assert_eq!(plan.at(stage.first_step).unwrap().samples_before, consumed);
            consumed += stage.steps * stage.fresh_per_step;
        }
        prop_assert_eq!(plan.samples_before(plan.total_steps()).unwrap(), consumed);
    }

    #[test]
    fn neighboring_learning_rates_are_as_near_as_the_curve_is_steep(plan in any_plan(), at in 0.0..1.0f64) {
        let peak = plan.recipe().optimizer.lr * plan.recipe().optimizer.lr_scaling.factor(plan.stages()[0].images_per_step, 4096);
        let warm = plan.warm_up_share();
        let steepest = peak * (1.0 / warm).max(0.5 * std::f64::consts::PI / (1.0 - warm));
        let boundaries = plan.stages().iter().map(|stage| stage.first_step);
        let inside = (at * (plan.total_steps() - 1) as f64) as u64;
        for step in boundaries.chain([inside, 0, plan.total_steps() - 1]).filter(|&s| s > 0 && s < plan.total_steps()) {
            let (before, after) = (plan.at(step - 1).unwrap(), plan.at(step).unwrap());
            let moved = after.compute_fraction - before.compute_fraction;
            prop_assert!(moved > 0.0);
            // In runs of millions of steps neighboring fractions differ by so little that their
            // last bits count.
            let rounding = 2.0 * f64::EPSILON;
            prop_assert!((after.lr - before.lr).abs() <= steepest * (moved + rounding));
        }
    }

    #[test]
    fn json_round_trip(plan in any_plan()) {
        let text = serde_json::to_string(&plan).unwrap();
        prop_assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }
}

/// A recipe with the given stages, so that plans can be worked out by hand.
fn recipe_of(stages: Vec<Stage>) -> Recipe {
    let curriculum = Curriculum::new(224, ShareUnit::Compute, stages).unwrap();
    Recipe { curriculum, ..Recipe::named("resnet50-baseline").unwrap() }
}

#[test]
fn two_stages_by_hand() {
    // Half of 100 images' compute at a quarter of the cost is 200 images: 20 steps of 10. The other
    // half is 5 steps.
    let stages = vec![
        Stage::new(0.5, 112, Magnitude::Fixed(0.0), 10),
        Stage::new(0.5, 224, Magnitude::Fixed(9.0), 10),
    ];
    let plan = Plan::new(&recipe_of(stages), PlanOptions::new(1.0, 100, 1)).unwrap();
    let steps: Vec<u64> = plan.stages().iter().map(|stage| stage.steps).collect();
    assert_eq!((steps, plan.equivalent_epochs()), (vec![20, 5], 1.0));
    let (a, b) = (plan.at(19).unwrap(), plan.at(20).unwrap());
    assert_eq!((a.size, a.epoch, a.position), (112, 1, 90));
    assert_eq!((b.size, b.epoch, b.position, b.compute_fraction), (224, 2, 0, 0.5));
}

#[test]
fn the_learning_rate_can_be_laid_over_passes() {
    // Half of the passes at a quarter of the cost: a fifth of the compute.
    let stages = vec![
        Stage::new(0.5, 112, Magnitude::Fixed(0.0), 10),
        Stage::new(0.5, 224, Magnitude::Fixed(9.0), 10),
    ];
    let mut recipe = recipe_of(stages);
    recipe.curriculum.share_of = ShareUnit::Epochs;
    recipe.optimizer.warm_up = WarmUp::None;
    let lr = |recipe: &Recipe| {
        let plan = Plan::new(recipe, PlanOptions::new(12.5, 1000, 1)).unwrap();
        let second = plan.stages()[1].first_step;
        (second, plan.at(second).unwrap().lr)
    };
    let peak = 4e-3 * 10.0 / 4096.0;
    let at = |done: f64| 1e-6 + 0.5 * (peak - 1e-6) * (1.0 + (std::f64::consts::PI * done).cos());
    let (second, over_compute) = lr(&recipe);
    assert_eq!(second, 1000);
    assert!((over_compute - at(0.2)).abs() < 1e-12);
    recipe.optimizer.lr_over = LrOver::Shares;
    assert!((lr(&recipe).1 - at(0.5)).abs() < 1e-12);
    // A warm-up of five of twenty passes is a quarter, whatever they cost.
    recipe.optimizer.warm_up = WarmUp::Epochs { epochs: 5.0, at_most_share: 1.0 };
    let plan = Plan::new(&recipe, PlanOptions::new(12.5, 1000, 1)).unwrap();
    assert!((plan.warm_up_share() - 0.25).abs() < 1e-12);
    // Plans of the usual kind are stored as before.
    let text = |recipe: &Recipe| serde_json::to_string(recipe).unwrap();
    assert!(text(&recipe).contains("\"lr_over\":\"shares\""));
    assert!(!text(&Recipe::named("resnet50-et").unwrap()).contains("lr_over"));
}

#[test]
fn a_table_of_costs_replaces_the_square() {
    let stages = vec![
        Stage::new(0.5, 112, Magnitude::Fixed(0.0), 10),
        Stage::new(0.5, 224, Magnitude::Fixed(9.0), 10),
    ];
    let cost = CostModel::from_fn(&[112, 224], 224, f64::from);
    let plan = Plan::new(&recipe_of(stages), PlanOptions::new(2.0, 100, 1).with_cost(cost)).unwrap();
    let steps: Vec<u64> = plan.stages().iter().map(|stage| stage.steps).collect();
    assert_eq!(steps, [20, 10]);
}

#[test]
fn the_remainder_is_carried() {
    // Seven stages of 1/7 of 10 steps: rounding each alone gives 7 steps of 1, carrying gives 10.
    let stages = (0..7).map(|_| Stage::new(1.0 / 7.0, 224, Magnitude::Fixed(0.0), 10)).collect();
    let plan = Plan::new(&recipe_of(stages), PlanOptions::new(1.0, 100, 1)).unwrap();
    assert_eq!(plan.total_steps(), 10);
}

#[test]
fn stages_without_steps_are_passed_over() {
    let stages = (0..10).map(|m| Stage::new(0.1, 224, Magnitude::Fixed(f64::from(m)), 10)).collect();
    let plan = Plan::new(&recipe_of(stages), PlanOptions::new(0.3, 100, 1)).unwrap();
    assert_eq!(plan.total_steps(), 3);
    let magnitudes: Vec<f64> = (0..3).map(|step| plan.at(step).unwrap().magnitude).collect();
    // Boundaries at 0.3, 0.6 ... of a step: the first to pass a half is stage 1, then 4, then 8.
    assert_eq!(magnitudes, [1.0, 4.0, 8.0]);
    assert_eq!(plan.summary().unwrap().stages[0].lr_first, None);
}

#[test]
fn deit_at_200_meets_200() {
    let plan =
        Plan::new(&Recipe::named("deit-small-etpp").unwrap(), PlanOptions::new(200.0, 1_281_167, 8)).unwrap();
    assert!((plan.equivalent_epochs() - 200.0).abs() <= 0.5 * 4096.0 / 1_281_167.0);
    assert_eq!(plan.warm_up_share(), 0.2);
}

#[test]
fn warm_up_of_20_epochs_is_counted_in_the_first_stage() {
    let plan =
        Plan::new(&Recipe::named("resnet50-etpp").unwrap(), PlanOptions::new(200.0, 1_281_167, 8)).unwrap();
    let expected = 20.0 * (96.0f64 / 224.0).powi(2) / 200.0;
    assert!((plan.warm_up_share() - expected).abs() < 1e-6);
    // Half way up at half of it, and at the peak right after.
    let steps_of_20_epochs = 20 * 1_281_167 / 4096;
    assert!((plan.at(steps_of_20_epochs / 2).unwrap().lr / 2e-3 - 1.0).abs() < 1e-3);
    assert!((plan.at(steps_of_20_epochs + 1).unwrap().lr / 4e-3 - 1.0).abs() < 1e-3);
}

#[test]
fn warm_up_can_be_none_and_is_bounded_in_short_runs() {
    let mut recipe = Recipe::named("resnet50-etpp").unwrap();
    let short = PlanOptions::new(5.0, 1_281_167, 8);
    assert_eq!(Plan::new(&recipe, short.clone()).unwrap().warm_up_share(), 0.2);
    recipe.optimizer.warm_up = WarmUp::None;
    assert_eq!(Plan::new(&recipe, short).unwrap().at(0).unwrap().lr, 4e-3);
}

#[test]
fn peak_follows_the_batch_by_the_named_rule() {
    let recipe = Recipe::named("resnet50-etpp").unwrap().with_batch(256, 1).unwrap();
    for (rule, factor) in [(LrScaling::Linear, 1.0 / 16.0), (LrScaling::Sqrt, 0.25), (LrScaling::None, 1.0)] {
        let plan =
            Plan::new(&recipe.clone().with_lr_scaling(rule), PlanOptions::new(50.0, 100_000, 1)).unwrap();
        let highest = (0..plan.total_steps()).map(|step| plan.at(step).unwrap().lr).fold(0.0, f64::max);
        assert!((highest / (4e-3 * factor) - 1.0).abs() < 1e-4, "{rule:?}: {highest}");
    }
}

#[test]
fn keeping_the_global_batch_moves_the_accumulation() {
    let recipe = Recipe::named("swin-base-etpp").unwrap();
    let options =
        PlanOptions::new(100.0, 1_281_167, 2).with_batch(BatchRule::KeepGlobal { recipe_devices: 8 });
    let plan = Plan::new(&recipe, options).unwrap();
    assert!(plan.stages().iter().all(|stage| stage.images_per_step == 4096));
    assert_eq!((plan.stages()[0].accumulation, plan.stages()[9].accumulation), (4, 16));
    let options =
        PlanOptions::new(100.0, 1_281_167, 3).with_batch(BatchRule::KeepGlobal { recipe_devices: 8 });
    assert!(
        Plan::new(&recipe, options).unwrap_err().to_string().starts_with("devices: expected a divisor of 8")
    );
}

#[test]
fn replayed_images_count_as_compute_but_not_as_samples() {
    let recipe = Recipe::named("deit-small-etpp-replay").unwrap();
    let plan = Plan::new(&recipe, PlanOptions::new(200.0, 1_281_167, 8)).unwrap();
    let same =
        Plan::new(&Recipe::named("deit-small-etpp").unwrap(), PlanOptions::new(200.0, 1_281_167, 8)).unwrap();
    assert_eq!(plan.total_steps(), same.total_steps());
    let first = plan.at(1).unwrap();
    assert_eq!((first.global_batch, first.samples_before), (4096, 1024));
}

#[test]
fn linear_magnitude_climbs_with_the_compute() {
    let recipe = Recipe::named("resnet50-etpp").unwrap().with_linear_magnitude(9.0).unwrap();
    let plan = Plan::new(&recipe, PlanOptions::new(20.0, 50_000, 1)).unwrap();
    for step in 0..plan.total_steps() {
        let settings = plan.at(step).unwrap();
        // Stage boundaries fall on whole steps, so the two clocks differ by up to a step of about
        // 1/2000.
        assert!((settings.magnitude - 9.0 * settings.compute_fraction).abs() < 9.0 * 1.5e-3, "step {step}");
    }
}

#[test]
fn no_sample_is_skipped_or_visited_twice_in_a_pass() {
    let images = 97;
    let recipe = Recipe::named("resnet18-etpp").unwrap().with_batch(4, 2).unwrap();
    let plan = Plan::new(&recipe, PlanOptions::new(7.3, images, 3)).unwrap();
    let mut visits = vec![0u64; images as usize];
    for step in 0..plan.total_steps() {
        let settings = plan.at(step).unwrap();
        for sample in settings.samples_before..settings.samples_before + settings.fresh_samples {
            let (pass, position) = (sample / images, (sample % images) as usize);
            // Seen once in each pass before this one, and not yet in this one.
            assert_eq!(visits[position], pass, "step {step}");
            visits[position] += 1;
        }
    }
    let (most, least) = (visits.iter().max().unwrap(), visits.iter().min().unwrap());
    assert!(most - least <= 1 && *least > 7);
}

#[test]
fn mini_batches_are_cut_evenly() {
    let splits = [(1, 1), (6, 6), (10, 10), (31, 31), (32, 32), (37, 1), (48, 24), (128, 32), (256, 32)];
    for (fresh, split) in splits {
        assert_eq!(even_split(fresh), split, "{fresh}");
    }
}

#[test]
fn a_replay_buffer_lives_as_long_as_its_images_fit() {
    let recipe = Recipe::named("deit-small-etpp-replay").unwrap();
    let plan = Plan::new(&recipe, PlanOptions::new(200.0, 1_281_167, 8)).unwrap();
    let starts: Vec<usize> = (0..10).map(|stage| plan.replay_start(stage)).collect();
    assert_eq!(starts, [0, 0, 2, 2, 2, 2, 6, 6, 8, 8]);
    // 1920 batches of 512 / 4 images of 96 pixels, 256 of 512 / 2 of 160; nothing at the sizes
    // without replay.
    assert_eq!(plan.replay_bytes(0), 1920 * 128 * 3 * 96 * 96);
    assert_eq!(plan.replay_bytes(5), 256 * 256 * 3 * 160 * 160);
    assert_eq!((plan.replay_batches(6), plan.replay_bytes(9)), (0, 0));
    // A short run has not that many batches: the buffer grows over the stages of one size.
    let short = Plan::new(&recipe, PlanOptions::new(0.5, 1_281_167, 8)).unwrap();
    let steps = |stage: usize| short.stages()[stage].steps;
    assert!(steps(0) + steps(1) < 1920);
    assert_eq!(short.replay_batches(0), steps(0));
    assert_eq!(short.replay_batches(1), steps(0) + steps(1));
}

/// A run that changes its plan is placed by what it has spent.
#[test]
fn a_step_is_found_by_the_compute_before_it() {
    for name in ["resnet50-etpp", "deit-small-et", "resnet18-baseline"] {
        let plan = Plan::new(&Recipe::named(name).unwrap(), PlanOptions::new(2.0, 50_000, 1)).unwrap();
        let total = plan.total_steps();
        for step in 0..total {
            let (spent, settings) = (plan.compute_before(step).unwrap(), plan.at(step).unwrap());
            assert!((spent / plan.equivalent_epochs() - settings.compute_fraction).abs() < 1e-12);
            assert_eq!(plan.step_at_compute(spent), step, "{name}");
            // The nearest one, from either side.
            let next = plan.compute_before(step + 1).unwrap();
            assert_eq!(plan.step_at_compute(spent + 0.49 * (next - spent)), step, "{name}");
            assert_eq!(plan.step_at_compute(spent + 0.51 * (next - spent)), step + 1, "{name}");
        }
        assert_eq!(plan.step_at_compute(plan.equivalent_epochs()), total);
        assert_eq!((plan.step_at_compute(1e9), plan.step_at_compute(-1.0)), (total, 0));
        assert!(plan.compute_before(total + 1).is_err());
    }
}
