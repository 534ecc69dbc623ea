//! Bad input: an error that names the field, never a panic.

use proptest::prelude::*;

use efficienttrain_schedule::{
    BatchRule, CostModel, Curriculum, DropPath, Magnitude, Plan, PlanOptions, Recipe, Replay, Rounding,
    ScheduleError, ShareUnit, Stage, WarmUp,
};

fn recipe() -> Recipe {
    Recipe::named("resnet50-etpp").unwrap()
}

fn options() -> PlanOptions {
    PlanOptions::new(20.0, 100_000, 8)
}

fn names(error: &ScheduleError, field: &str) {
    assert!(error.to_string().starts_with(&format!("{field}: expected ")), "{error}");
}

#[test]
fn recipe_fields() {
    type Break = fn(&mut Recipe);
    let cases: [(&str, Break); 27] = [
        ("stages", |r| r.curriculum.stages.clear()),
        ("base_size", |r| r.curriculum.base_size = 0),
        ("stages[1].share", |r| r.curriculum.stages[1].share = 0.0),
        ("stages[1].share", |r| r.curriculum.stages[1].share = f64::NAN),
        ("stages[..].share", |r| r.curriculum.stages[1].share = 0.2),
        ("stages[2].size", |r| r.curriculum.stages[2].size = 0),
        ("stages[2].size", |r| r.curriculum.stages[2].size = 225),
        ("stages[3].magnitude", |r| r.curriculum.stages[3].magnitude = Magnitude::Fixed(10.5)),
        ("stages[3].magnitude", |r| {
            r.curriculum.stages[3].magnitude = Magnitude::Linear { from: -1.0, to: 9.0 }
        }),
        ("stages[3].magnitude", |r| {
            r.curriculum.stages[3].magnitude = Magnitude::Linear { from: 0.0, to: f64::INFINITY }
        }),
        ("stages[4].batch_per_device", |r| r.curriculum.stages[4].batch_per_device = 0),
        ("stages[4].accumulation", |r| r.curriculum.stages[4].accumulation = u32::MAX),
        ("stages[5].replay.times", |r| r.curriculum.stages[5].replay.times = 0),
        ("stages[5].replay.times", |r| {
            r.curriculum.stages[5].replay = Replay { times: 3, buffer_batches: 8 }
        }),
        ("stages[5].replay.buffer_batches", |r| {
            r.curriculum.stages[5].replay = Replay { times: 2, buffer_batches: 0 }
        }),
        ("optimizer.lr", |r| r.optimizer.lr = 0.0),
        ("optimizer.reference_batch", |r| r.optimizer.reference_batch = 0),
        ("optimizer.min_lr", |r| r.optimizer.min_lr = 1.0),
        ("optimizer.betas[1]", |r| r.optimizer.betas.1 = 1.0),
        ("optimizer.eps", |r| r.optimizer.eps = -1e-8),
        ("optimizer.weight_decay", |r| r.optimizer.weight_decay = f64::INFINITY),
        ("optimizer.clip_grad", |r| r.optimizer.clip_grad = Some(0.0)),
        ("optimizer.warm_up.share", |r| r.optimizer.warm_up = WarmUp::Share(1.1)),
        ("optimizer.warm_up.epochs", |r| {
            r.optimizer.warm_up = WarmUp::Epochs { epochs: -1.0, at_most_share: 0.2 }
        }),
        ("augmentation.erasing", |r| r.augmentation.erasing = 1.5),
        ("augmentation.mixup", |r| r.augmentation.mixup = -0.1),
        ("ema_decay", |r| r.ema_decay = Some(2.0)),
    ];
    for (field, damage) in cases {
        let mut broken = recipe();
        damage(&mut broken);
        names(&Plan::new(&broken, options()).unwrap_err(), field);
    }
}

#[test]
fn option_fields() {
    let cases = [
        ("equivalent_epochs", PlanOptions::new(0.0, 100_000, 8)),
        ("equivalent_epochs", PlanOptions::new(f64::NAN, 100_000, 8)),
        ("equivalent_epochs", PlanOptions::new(1e12, 100_000, 8)),
        ("equivalent_epochs", PlanOptions::new(1e6, 1 << 40, 8)),
        ("train_images", PlanOptions::new(20.0, 0, 8)),
        ("train_images", PlanOptions::new(20.0, u64::MAX, 8)),
        ("devices", PlanOptions::new(20.0, 100_000, 0)),
        (
            "stages[0].batch_per_device",
            options().with_batch(BatchRule::Fixed { per_device: 0, accumulation: 1 }),
        ),
        ("batch.recipe_devices", options().with_batch(BatchRule::KeepGlobal { recipe_devices: 0 })),
        ("cost[96]", options().with_cost(CostModel::Table(vec![(96, 0.0), (160, 0.5)]))),
    ];
    for (field, options) in cases {
        names(&Plan::new(&recipe(), options).unwrap_err(), field);
    }
}

#[test]
fn drop_path_past_one() {
    let long = PlanOptions::new(400.0, 1_281_167, 8);
    let mut recipe = Recipe::named("convnext-base-etpp").unwrap();
    names(&Plan::new(&recipe, long.clone()).unwrap_err(), "drop_path");
    recipe.drop_path = DropPath::Constant(0.5);
    assert_eq!(Plan::new(&recipe, long).unwrap().drop_path(), 0.5);
    recipe.drop_path = DropPath::Scaled { rate: 0.5, at_epochs: 0.0 };
    names(&Plan::new(&recipe, options()).unwrap_err(), "drop_path.at_epochs");
}

#[test]
fn a_batch_larger_than_the_data() {
    let error = Plan::new(&recipe(), PlanOptions::new(20.0, 4095, 8)).unwrap_err();
    assert_eq!(error, ScheduleError::BatchLargerThanData { stage: 0, batch: 4096, train_images: 4095 });
    assert!(Plan::new(&recipe(), PlanOptions::new(20.0, 4096, 8)).is_ok());
}

#[test]
fn a_budget_below_a_step() {
    let error = Plan::new(&recipe(), PlanOptions::new(1e-4, 100_000, 8)).unwrap_err();
    assert!(matches!(error, ScheduleError::BudgetTooSmall { .. }), "{error}");
}

#[test]
fn a_size_without_a_cost() {
    let table = options().with_cost(CostModel::Table(vec![(160, 0.5)]));
    assert_eq!(Plan::new(&recipe(), table).unwrap_err(), ScheduleError::MissingCost { size: 96 });
}

#[test]
fn requests_the_launchers_cannot_express() {
    let reference = |epochs: f64| PlanOptions::new(epochs, 1_281_167, 8).with_rounding(Rounding::Reference);
    // At 160 the launcher asks for int(10 * 1.96) = 19 epochs of 312 steps, fewer than its 20 of
    // warm-up.
    let mut uneven = recipe();
    uneven.curriculum.stages[0].share = 0.05;
    uneven.curriculum.stages[1].share = 0.15;
    let cases = [
        (recipe(), reference(100.5), "100.5 is not a whole number"),
        (recipe(), reference(10.0), "a warm-up of 6240 steps (20 epochs) in a run of 5928 steps (19 epochs)"),
        (
            recipe(),
            reference(100.0).with_cost(CostModel::Table(vec![(96, 0.2), (160, 0.5)])),
            "square of the size",
        ),
        (uneven, reference(100.0), "stages[0].share is 0.05"),
    ];
    for (recipe, options, part) in cases {
        let error = Plan::new(&recipe, options).unwrap_err();
        assert!(
            matches!(error, ScheduleError::NotReference { .. }) && error.to_string().contains(part),
            "{error}"
        );
    }
}

#[test]
fn steps_past_the_end() {
    let plan = Plan::new(&recipe(), options()).unwrap();
    let total = plan.total_steps();
    assert!(plan.at(total - 1).is_ok() && plan.samples_before(total).is_ok());
    let error = ScheduleError::StepOutOfRange { step: total, total_steps: total };
    assert_eq!(plan.at(total).unwrap_err(), error);
    assert!(plan.at(u64::MAX).is_err() && plan.samples_before(total + 1).is_err());
}

#[test]
fn stored_plans_are_checked() {
    let plan = Plan::new(&recipe(), options()).unwrap();
    let mut json = serde_json::to_value(&plan).unwrap();
    json["stages"][3]["steps"] = 1.into();
    let error = serde_json::from_value::<Plan>(json).unwrap_err().to_string();
    assert!(error.contains("stage 3 differs"), "{error}");
    let mut json = serde_json::to_value(&plan).unwrap();
    json["stages"].as_array_mut().unwrap().pop();
    assert!(serde_json::from_value::<Plan>(json).is_err());
    let mut json = serde_json::to_value(recipe()).unwrap();
    json["curriculm"] = 1.into();
    assert!(
        serde_json::from_value::<Recipe>(json).unwrap_err().to_string().contains("unknown field `curriculm`")
    );
}

#[test]
fn the_constructor_checks() {
    let stage = Stage::new(0.5, 96, Magnitude::Fixed(0.0), 8);
    names(&Curriculum::new(224, ShareUnit::Compute, vec![stage.clone()]).unwrap_err(), "stages[..].share");
    names(&Curriculum::new(64, ShareUnit::Compute, vec![stage]).unwrap_err(), "stages[0].size");
    names(&recipe().with_batch(0, 1).unwrap_err(), "stages[0].batch_per_device");
    names(&recipe().with_stages(0, 0.0, 9.0).unwrap_err(), "stages");
    names(&recipe().with_stages(4, 0.0, 11.0).unwrap_err(), "stages[3].magnitude");
    names(&recipe().with_linear_magnitude(20.0).unwrap_err(), "stages[5].magnitude");
    names(&recipe().at_base_size(128, 0).unwrap_err(), "multiple");
}

/// Numbers from sensible to absurd.
fn wild() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), 0.0..1e6f64, Just(1e6), (0u32..400).prop_map(f64::from)]
}

proptest! {
    #[test]
    fn no_request_panics(
        epochs in wild(),
        images in prop_oneof![any::<u64>(), 1u64..2_000_000, Just(1 << 40)],
        devices in prop_oneof![any::<u32>(), 1u32..100],
        (per_device, accumulation) in (prop_oneof![any::<u32>(), 1u32..600], prop_oneof![any::<u32>(), 1u32..9]),
        (warm_up, cost) in (wild(), wild()),
        name in prop::sample::select(Recipe::names().collect::<Vec<_>>()),
        (exact, square) in any::<(bool, bool)>(),
    ) {
        let mut recipe = Recipe::named(&name).unwrap();
        recipe.optimizer.warm_up = WarmUp::Epochs { epochs: warm_up, at_most_share: 1.0 };
        let rounding = if exact { Rounding::Exact } else { Rounding::Reference };
        let table = CostModel::Table([96, 160, 192, 224].map(|size| (size, cost)).to_vec());
        let options = PlanOptions::new(epochs, images, devices)
            .with_rounding(rounding)
            .with_cost(if square { CostModel::Square } else { table })
            .with_batch(BatchRule::Fixed { per_device, accumulation });
        if let Ok(plan) = Plan::new(&recipe, options) {
            let last = plan.at(plan.total_steps() - 1).unwrap();
            prop_assert!(last.lr.is_finite() && last.lr >= 0.0 && last.compute_fraction < 1.0);
            prop_assert!(plan.summary().is_ok());
        }
    }
}
