//! Shapes of the learning rate, against their formulas computed by hand.

use efficienttrain_schedule::{
    BatchRule, LrCurve, Plan, PlanOptions, Recipe, Rounding, RunLength, RunProgress, WarmUp,
};

/// A baseline of 100 steps: 1000 images, 10 passes, 100 images per step.
fn plan(curve: LrCurve, warm_up: WarmUp) -> Plan {
    let mut recipe = Recipe::named("resnet50-baseline").unwrap();
    recipe.optimizer.lr = 4.096;
    recipe.optimizer.min_lr = 0.01;
    recipe.optimizer.warm_up = warm_up;
    recipe.optimizer.curve = curve;
    let batch = BatchRule::Fixed { per_device: 100, accumulation: 1 };
    Plan::new(&recipe, PlanOptions::new(10.0, 1000, 1).with_batch(batch)).unwrap()
}

fn lr(plan: &Plan, step: u64) -> f64 {
    plan.at(step).unwrap().lr
}

fn near(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-12, "{a} is not {b}");
}

#[test]
fn each_curve_has_its_shape() {
    // The peak at a batch of 100 is 4.096 * 100 / 4096 = 0.1.
    let linear = plan(LrCurve::Linear, WarmUp::Steps(20));
    near(lr(&linear, 0), 0.0);
    near(lr(&linear, 10), 0.05);
    near(lr(&linear, 20), 0.1);
    near(lr(&linear, 60), 0.055);
    near(lr(&linear, 99), 0.1 - 0.09 * 79.0 / 80.0);
    let constant = plan(LrCurve::Constant, WarmUp::None);
    near(lr(&constant, 0), 0.1);
    near(lr(&constant, 99), 0.1);
    for every in [RunLength::Steps(30), RunLength::Epochs(3.0), RunLength::Share(0.3)] {
        let step = plan(LrCurve::Step { factor: 0.5, every }, WarmUp::None);
        let seen = [0, 29, 30, 59, 60, 89, 90].map(|s| lr(&step, s));
        for (lr, expected) in seen.into_iter().zip([0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125]) {
            near(lr, expected);
        }
    }
    // Never below the last value.
    let steep = plan(LrCurve::Step { factor: 1e-3, every: RunLength::Steps(10) }, WarmUp::None);
    near(lr(&steep, 50), 0.01);
}

#[test]
fn warm_up_in_steps_is_the_same_as_its_share() {
    let (steps, share) =
        (plan(LrCurve::Cosine, WarmUp::Steps(25)), plan(LrCurve::Cosine, WarmUp::Share(0.25)));
    for step in 0..100 {
        near(lr(&steps, step), lr(&share, step));
    }
}

#[test]
fn impossible_curves_are_named() {
    let mut recipe = Recipe::named("resnet50-etpp").unwrap();
    recipe.optimizer.curve = LrCurve::Step { factor: 1.5, every: RunLength::Steps(1) };
    assert!(recipe.validate().unwrap_err().to_string().contains("optimizer.curve.factor"));
    recipe.optimizer.curve = LrCurve::Step { factor: 0.5, every: RunLength::Share(0.0) };
    assert!(recipe.validate().unwrap_err().to_string().contains("optimizer.curve.every"));
    recipe.optimizer.curve = LrCurve::Linear;
    let options = PlanOptions::new(200.0, 1_281_167, 8).with_rounding(Rounding::Reference);
    assert!(Plan::new(&recipe, options).unwrap_err().to_string().contains("cosine"));
    let now = RunProgress { steps: 0, epochs: 0.0, compute: 1.0 };
    near(LrCurve::Linear.at(1.0, 0.25, 0.5, now), 0.25);
}
