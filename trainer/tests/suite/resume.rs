//! A run that is stopped and resumed ends bitwise like an uninterrupted one.

use crate::common::Rendered;
use crate::common::{bits, config, options, run};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{CropMethod, CropOrder, OptimizerName, RunOptions, TrainConfig};
use efficienttrain::observe::log::JsonLog;
use efficienttrain::{Run, Sources};

/// Accuracies of a run, without times.
fn accuracies(run: &Run) -> Vec<(u64, f64, f64, Option<f64>)> {
    run.history.evals.iter().map(|e| (e.step, e.top1, e.loss, e.ema_top1)).collect()
}

fn interrupted(config: &TrainConfig, stops: &[u64]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let mut current = run(config, options(dir.path(), 3));
    for (i, &stop) in stops.iter().chain([&u64::MAX]).enumerate() {
        // Another number of workers each time.
        let mut o = options(dir.path(), i + 1);
        o.stop_after = Some(stop);
        if i > 0 {
            let saved = Checkpoint::open(&dir.path().join("last.safetensors")).unwrap();
            current = Run::resume(&saved, o, Sources::open(config).unwrap()).unwrap();
        } else {
            current = run(config, o);
        }
        current.train(&mut ()).unwrap();
        assert_eq!(current.step(), stop.min(current.plan().total_steps()));
    }
    current
}

fn check(config: &TrainConfig) {
    let dir = tempfile::tempdir().unwrap();
    let mut whole = run(config, options(dir.path(), 2));
    assert!(whole.train(&mut ()).unwrap());
    let stages = whole.plan().stages();
    // In the middle of an epoch and a stage, then exactly at a change of size.
    let change = stages.iter().find(|s| s.size != stages[0].size).unwrap().first_step;
    let again = interrupted(config, &[3, change, change + 1]);
    assert_eq!(accuracies(&whole), accuracies(&again));
    assert_eq!(bits(&whole), bits(&again));
}

#[test]
fn a_resnet_with_average_and_accumulation() {
    check(&TrainConfig { accumulation: 2, batch: 4.into(), ..config("resnet10") });
}

#[test]
fn a_run_for_three_devices() {
    check(&TrainConfig { devices: 3, accumulation: 2, batch: 2.into(), epochs: 0.8, ..config("resnet10") });
}

#[test]
fn a_transformer_whose_shapes_change_with_the_size() {
    check(&TrainConfig { base_size: 48, epochs: 0.8, ..config("deit_tiny") });
}

#[test]
fn the_authors_order_and_resize() {
    let order = CropOrder::AugmentThenCrop;
    check(&TrainConfig { order, crop: CropMethod::Lanczos, epochs: 0.7, ..config("resnet10") });
}

#[test]
fn another_seed_is_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let trained = |seed| {
        let mut run = run(&TrainConfig { seed, epochs: 0.3, ..config("resnet10") }, options(dir.path(), 1));
        run.train(&mut ()).unwrap();
        bits(&run)
    };
    assert_ne!(trained(1), trained(2));
    assert_eq!(trained(1), trained(1));
}

#[test]
fn the_log_of_a_resumed_run_has_every_line_once() {
    let dir = tempfile::tempdir().unwrap();
    let (config, path) = (config("resnet10"), dir.path().join("log.jsonl"));
    let mut o = options(dir.path(), 1);
    o.stop_after = Some(5);
    run(&config, o).train(&mut JsonLog::open(&path, 0).unwrap()).unwrap();
    // A process that was killed later leaves lines after its last checkpoint, the last of them
    // incomplete.
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"event\":\"stage\",\"step\":6}\n{\"event\":\"step\",\"st");
    std::fs::write(&path, text).unwrap();
    let saved = Checkpoint::open(&dir.path().join("last.safetensors")).unwrap();
    let mut resumed = Run::resume(&saved, options(dir.path(), 1), Sources::open(&config).unwrap()).unwrap();
    resumed.train(&mut JsonLog::open(&path, resumed.step()).unwrap()).unwrap();
    let lines: Vec<serde_json::Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |event: &str| -> Vec<u64> {
        lines.iter().filter(|l| l["event"] == event).map(|l| l["step"].as_u64().unwrap()).collect()
    };
    let steps = resumed.plan().total_steps();
    // Every tenth step, and the first and last of each stage: a stop in between leaves no trace.
    let bound = |step: &u64| {
        let mut stages = resumed.plan().stages().iter().filter(|s| s.steps > 0);
        step.is_multiple_of(10)
            || stages.any(|s| *step == s.first_step || *step + 1 == s.first_step + s.steps)
    };
    assert_eq!(of("step"), (0..steps).filter(bound).collect::<Vec<_>>());
    let stages: Vec<u64> =
        resumed.plan().stages().iter().filter(|s| s.steps > 0).map(|s| s.first_step).collect();
    assert_eq!(of("stage"), stages);
    assert_eq!(of("eval").last(), Some(&steps));
}

/// All optimizers, whatever their state.
#[test]
fn lamb_and_gradient_descent() {
    let recipe = |opt, lr, weight_decay| TrainConfig {
        opt: Some(opt),
        lr: Some(lr),
        weight_decay: Some(weight_decay),
        epochs: 0.8,
        ..config("resnet10")
    };
    check(&recipe(OptimizerName::Lamb, 2e-3, 0.02));
    check(&recipe(OptimizerName::Sgd, 0.05, 1e-4));
}

#[test]
fn another_optimizer_wants_numbers_of_its_own() {
    let config = TrainConfig { opt: Some(OptimizerName::Sgd), ..config("resnet10") };
    let message = Run::check(&config).unwrap_err().rendered();
    assert!(message.contains("--opt") && message.contains("--weight-decay"), "{message}");
    // The recipe's own optimizer is no change.
    let config = TrainConfig { opt: Some(OptimizerName::AdamW), lr: None, ..config };
    Run::check(&config).unwrap();
}

#[test]
fn checkpointed_activations_change_no_bit() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig { epochs: 0.5, ..config("resnet10") };
    let trained = |checkpoint_activations| {
        let mut run = run(&config, RunOptions { checkpoint_activations, ..options(dir.path(), 2) });
        run.train(&mut ()).unwrap();
        bits(&run)
    };
    assert_eq!(trained(true), trained(false));
}
