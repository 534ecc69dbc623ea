//! Reference rounding against what the authors' launchers do (tests/data, see its README).

use crate::common::{close, load};
use efficienttrain_schedule::{
    Family, OptimizerKind, Plan, PlanOptions, PlanStage, Preset, Recipe, Rounding,
};
use serde_json::Value;

/// Every row of the golden table with its plan and recipe.
fn each_stage(mut check: impl FnMut(&str, &Plan, usize, &dyn Fn(&str) -> Value)) {
    let data = load("et_pp_schedules.json");
    let images = data["train_set_size"].as_u64().unwrap();
    let devices = data["gpus"].as_u64().unwrap() as u32;
    let columns: Vec<&str> =
        data["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    for (script, runs) in data["schedules"].as_object().unwrap() {
        for (epochs, stages) in runs.as_object().unwrap() {
            let rows = stages.as_array().unwrap();
            let column =
                |row: &Value, name: &str| row[columns.iter().position(|c| *c == name).unwrap()].clone();
            let preset = if script.contains("wReplay") { Preset::EtppReplay } else { Preset::Etpp };
            let recipe = Recipe::preset(column(&rows[0], "model").as_str().unwrap(), preset).unwrap();
            let options =
                PlanOptions::new(epochs.parse().unwrap(), images, devices).with_rounding(Rounding::Reference);
            let plan = Plan::new(&recipe, options).unwrap();
            assert_eq!(plan.stages().len(), rows.len());
            for (index, row) in rows.iter().enumerate() {
                check(&format!("{script} {epochs} stage {index}"), &plan, index, &|name| column(row, name));
            }
        }
    }
}

#[test]
fn whole_numbers_of_every_stage() {
    let mut rows = 0;
    each_stage(|label, plan, index, golden| {
        let stage = &plan.stages()[index];
        let ours = integers(plan, stage);
        for (name, value) in ours {
            assert_eq!(golden(name).as_u64().unwrap(), value, "{label} {name}");
        }
        assert_eq!(golden("stage").as_u64().unwrap() as usize, index);
        assert_eq!(
            golden("aa").as_str().unwrap(),
            plan.recipe().augmentation.policy(stage.magnitude.mean()),
            "{label}"
        );
        rows += 1;
    });
    assert_eq!(rows, 15 * 4 * 10);
}

fn integers(plan: &Plan, stage: &PlanStage) -> Vec<(&'static str, u64)> {
    let reference = stage.reference.as_ref().unwrap();
    vec![
        ("input_size", u64::from(stage.size)),
        ("base_input_size", u64::from(plan.recipe().curriculum.base_size)),
        ("rand_magnitude", stage.magnitude.mean() as u64),
        ("epochs", reference.epochs),
        ("start_epoch", reference.start_epoch),
        ("end_epoch", reference.end_epoch),
        ("epochs_run", reference.epochs_run()),
        ("warmup_epochs", reference.warmup_epochs),
        ("batch_size", u64::from(stage.batch_per_device / stage.replay.times)),
        ("update_freq", u64::from(stage.accumulation)),
        ("replay_times", u64::from(stage.replay.times)),
        ("replay_buffer_size", u64::from(stage.replay.buffer_batches)),
        ("replay_buffer_split_factor", u64::from(efficienttrain_schedule::REFERENCE_SPLIT)),
        ("samples_per_optimizer_step", stage.images_per_step),
        ("fresh_samples_per_optimizer_step", stage.fresh_per_step),
        ("steps_per_epoch", reference.steps_per_epoch),
        ("dataset_passes_trained", stage.epochs as u64),
    ]
}

#[test]
fn numbers_of_every_stage() {
    each_stage(|label, plan, index, golden| {
        let (recipe, stage) = (plan.recipe(), &plan.stages()[index]);
        let (first, last) = (stage.first_step, stage.first_step + stage.steps - 1);
        let ours = [
            ("lr", recipe.optimizer.lr),
            ("min_lr", recipe.optimizer.min_lr),
            ("lr_first", plan.at(first).unwrap().lr),
            ("lr_last", plan.at(last).unwrap().lr),
            ("opt_eps", recipe.optimizer.eps),
            ("weight_decay", plan.at(first).unwrap().weight_decay),
            ("drop_path", plan.at(last).unwrap().drop_path),
            // Not in a recipe: the models that have layer scale start with it.
            ("layer_scale_init_value", 1e-6),
            ("mixup", recipe.augmentation.mixup),
            ("cutmix", recipe.augmentation.cutmix),
            ("smoothing", recipe.augmentation.label_smoothing),
            ("reprob", recipe.augmentation.erasing),
            ("equivalent_epochs", stage.equivalent_epochs),
        ];
        for (name, value) in ours {
            close(value, golden(name).as_f64().unwrap(), 1e-12, &format!("{label} {name}"));
        }
    });
}

#[test]
fn switches_of_every_stage() {
    each_stage(|label, plan, _, golden| {
        let recipe = plan.recipe();
        let kind = match recipe.optimizer.kind {
            OptimizerKind::AdamW => "adamw",
            OptimizerKind::Lamb => "lamb",
            OptimizerKind::Sgd => "sgd",
        };
        assert_eq!(golden("model").as_str().unwrap(), recipe.reference_model, "{label}");
        assert_eq!(golden("opt").as_str().unwrap(), kind, "{label}");
        // Not in a recipe: a run sets its precision itself.
        let amp = matches!(recipe.family, Family::DeiT | Family::Swin | Family::CSwin);
        assert_eq!(golden("use_amp").as_bool().unwrap(), amp, "{label}");
        assert_eq!(golden("clip_grad").as_f64(), recipe.optimizer.clip_grad, "{label}");
        assert_eq!(
            golden("clip_grad_effective").as_f64(),
            recipe.optimizer.clip_grad.filter(|_| amp),
            "{label}"
        );
        assert_eq!(golden("model_ema").as_bool().unwrap(), recipe.ema_decay.is_some(), "{label}");
        assert_eq!(golden("model_ema_decay").as_f64(), recipe.ema_decay, "{label}");
    });
}

#[test]
fn equivalent_epochs_of_every_run() {
    let data = load("equivalent_epochs.json");
    let mut runs = 0;
    each_stage(|label, plan, index, _| {
        let (script, epochs) =
            label.split_once(' ').map(|(s, rest)| (s, rest.split(' ').next().unwrap())).unwrap();
        let golden = &data[script][epochs];
        let stage = &plan.stages()[index];
        close(stage.equivalent_epochs, golden["per_stage"][index].as_f64().unwrap(), 1e-12, label);
        assert_eq!(stage.epochs, golden["passes"][index].as_f64().unwrap(), "{label}");
        let loaded = stage.reference.as_ref().unwrap().epochs_run();
        assert_eq!(loaded, golden["cpu_loaded_passes"][index].as_u64().unwrap(), "{label}");
        close(plan.equivalent_epochs(), golden["total"].as_f64().unwrap(), 1e-12, label);
        runs += 1;
    });
    let expected: usize =
        data.as_object().unwrap().values().map(|run| run.as_object().unwrap().len() * 10).sum();
    assert_eq!(runs, expected);
}
