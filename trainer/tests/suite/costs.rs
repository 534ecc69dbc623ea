//! Costs of models under the authors' schedules, compared with the reference.

use efficienttrain::Run;
use efficienttrain::config::TrainConfig;
use efficienttrain::measure::macs_of;
use efficienttrain_models::{ModelOptions, cost, create_model};
use efficienttrain_schedule::{CostModel, Plan, PlanOptions, Preset, Recipe, Rounding};
use serde_json::Value;

fn macs(model: &str, size: u32) -> f64 {
    let options = ModelOptions { input_size: [size as usize; 2], ..ModelOptions::default() };
    cost(&*create_model(model, &options).unwrap()).unwrap().macs() as f64
}

/// Recipe with the schedule of a table row.
fn recipe_of(script: &str) -> Recipe {
    let model = match script.strip_prefix("_ET_pp_main_").unwrap() {
        "res50" => "resnet50",
        "deitS" => "deit-small",
        other => {
            let (family, size) = other.split_at(other.len() - 1);
            let size = match size {
                "T" => "tiny",
                "S" => "small",
                _ => "base",
            };
            return Recipe::preset(&format!("{}-{size}", family.to_lowercase()), Preset::Etpp).unwrap();
        }
    };
    Recipe::preset(model, Preset::Etpp).unwrap()
}

#[test]
fn theoretical_speed_ups_are_the_reference_s() {
    let golden: Value = serde_json::from_str(include_str!("../data/theoretical_speedup.json")).unwrap();
    let mut rows = 0;
    for (model, row) in golden["models"].as_object().unwrap() {
        let recipe = recipe_of(row["schedule"].as_str().unwrap());
        for (epochs, want) in row["epochs"].as_object().unwrap() {
            let options = PlanOptions::new(epochs.parse().unwrap(), 1_281_167, 8);
            let plan = Plan::new(&recipe, options.with_rounding(Rounding::Reference)).unwrap();
            let sum: f64 = plan.stages().iter().map(|s| s.epochs * macs(model, s.size)).sum();
            assert_eq!(
                sum,
                want["forward_macs_per_training_image_summed_over_passes"].as_f64().unwrap(),
                "{model} {epochs}"
            );
            let speed_up = 300.0 * macs(model, 224) / sum;
            let wanted = want["speedup_vs_300_epochs_at_224"].as_f64().unwrap();
            assert!((speed_up / wanted - 1.0).abs() < 1e-12, "{model} {epochs}: {speed_up}, {wanted}");
            rows += 1;
        }
    }
    assert!(rows >= 16 * 4, "{rows} rows");
}

#[test]
fn every_model_has_a_recipe_that_it_can_follow() {
    for name in efficienttrain_models::model_names() {
        let config = TrainConfig { model: Some(name.into()), ..TrainConfig::default() };
        Run::check(&config).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            create_model(&config.recipe().unwrap().model, &ModelOptions::default()).unwrap().name(),
            name
        );
    }
}

#[test]
fn a_plan_counts_the_model_s_own_arithmetic() {
    let recipe = Recipe::named("swin-tiny-etpp").unwrap();
    let table = macs_of(&recipe).unwrap();
    for size in [96, 160, 224] {
        let want = macs("swin_tiny", size) / macs("swin_tiny", 224);
        assert_eq!(table.relative(size, 224).unwrap(), want);
    }
    let options = PlanOptions::new(200.0, 1_281_167, 8);
    let square = Plan::new(&recipe, options.clone().with_cost(CostModel::Square)).unwrap();
    let counted = Plan::new(&recipe, options.with_cost(table)).unwrap();
    // Attention makes small images cheaper than the square of the size suggests, so the same
    // compute allows more passes.
    assert!(counted.stages()[0].epochs > square.stages()[0].epochs);
}
