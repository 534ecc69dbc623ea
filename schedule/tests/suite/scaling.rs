//! Plans on many devices, on paper.

use efficienttrain_schedule::{Magnitude, Plan, PlanOptions, Recipe, Scaling, ScalingModel, Stage};

/// 1000 images a second, 20 ms besides, 112 MB at 10 GB/s in five pieces.
const MODEL: ScalingModel = ScalingModel {
    images_per_second: 1000.0,
    pass_overhead: 0.02,
    gradient_bytes: 112e6,
    bandwidth: 10e9,
    latency: 15e-6,
    bucket_bytes: 25e6,
    overlap: 0.9,
    update: 0.003,
};

/// Five stages of equal compute, of so many images per device.
fn scaling(batches: [u32; 5], devices: u32, model: &ScalingModel) -> Scaling {
    let sizes = [96, 160, 160, 224, 224];
    let stages =
        sizes.iter().zip(batches).map(|(&size, batch)| Stage::new(0.2, size, Magnitude::Fixed(9.0), batch));
    let mut recipe = Recipe::named("deit-small-etpp").unwrap();
    recipe.curriculum.stages = stages.collect();
    let plan = Plan::new(&recipe, PlanOptions::new(300.0, 1_281_167, devices)).unwrap();
    plan.scaling(model).unwrap()
}

fn near(a: f64, b: f64, within: f64) {
    assert!((a - b).abs() < within, "{a}, expected {b}");
}

/// Computed by hand from the assumptions: at 64 devices a curriculum with one batch loses a quarter
/// of its saving, and larger early batches give it back.
#[test]
fn early_large_batches_keep_the_saving_on_many_devices() {
    let one = scaling([64; 5], 64, &MODEL);
    near(one.kept(), 0.72, 0.005);
    near(one.kept_with_one_batch(), one.kept(), 0.002);
    let early = scaling([256, 128, 128, 64, 64], 64, &MODEL);
    near(early.kept(), 0.98, 0.005);
    near(early.kept_with_one_batch(), 0.72, 0.005);
}

#[test]
fn a_step_is_what_the_assumptions_say() {
    let stage = scaling([64; 5], 64, &MODEL).stages[0];
    let pass = 0.02 + 0.064 * (96.0f64 / 224.0).powi(2);
    near(stage.step.compute, pass, 1e-12);
    let sums = 5.0 * 15e-6 + 2.0 * 63.0 / 64.0 * 112e6 / 10e9;
    near(stage.step.sums, sums, 1e-12);
    // The pass hides most of the sums, but never the last piece.
    near(stage.step.exposed, (sums / 5.0).max(sums - 0.6 * pass), 1e-12);
    near(stage.step.total(), pass + stage.step.exposed + 0.003, 1e-12);
    near(stage.efficiency, (pass - 0.02) / stage.step.total(), 1e-12);
}

#[test]
fn one_device_sums_nothing_and_ideal_devices_lose_nothing() {
    assert_eq!(scaling([64; 5], 1, &MODEL).stages[0].step.exposed, 0.0);
    near(scaling([64; 5], 1, &MODEL).plain_speedup, 1.0, 1e-12);
    let ideal = ScalingModel { pass_overhead: 0.0, latency: 0.0, bandwidth: 1e30, update: 0.0, ..MODEL };
    let scaling = scaling([64; 5], 64, &ideal);
    // Stages are rounded to whole steps.
    near(scaling.kept(), 1.0, 1e-9);
    near(scaling.plain_speedup, 64.0, 1e-6);
    near(scaling.seconds, scaling.plain_seconds, 1e-6 * scaling.seconds);
}

#[test]
fn assumptions_out_of_range_are_named() {
    let plan =
        Plan::new(&Recipe::named("resnet50-etpp").unwrap(), PlanOptions::new(100.0, 1_281_167, 8)).unwrap();
    let refused = |model: ScalingModel| plan.scaling(&model).unwrap_err().to_string();
    assert!(refused(ScalingModel { bandwidth: 0.0, ..MODEL }).contains("bandwidth"));
    assert!(refused(ScalingModel { overlap: 1.5, ..MODEL }).contains("overlap"));
    assert!(refused(ScalingModel { images_per_second: f64::NAN, ..MODEL }).contains("images_per_second"));
    assert!(refused(ScalingModel { latency: -1.0, ..MODEL }).contains("latency"));
}

#[test]
fn the_table_has_a_row_for_each_stage() {
    let text = scaling([256, 128, 128, 64, 64], 64, &MODEL).to_string();
    assert_eq!(text.lines().count(), 8, "{text}");
    assert!(text.ends_with("keeps 98%; with the last stage's batch in every stage 72%"), "{text}");
}
