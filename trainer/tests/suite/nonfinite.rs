//! Non-finite losses: stored so that they can be read back, reported, and never ranked best.

use std::collections::HashMap;
use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, options, run};
use candle_core::{Device, Tensor};
use efficienttrain::checkpoint::{Checkpoint, LAST};
use efficienttrain::config::Interval;
use efficienttrain::config::{LogFormat, RunOptions, TrainConfig};
use efficienttrain::events::Event;
use efficienttrain::events::{EvalRecord, History};
use efficienttrain::observe::log;
use efficienttrain::observe::report::RunLog;
use efficienttrain::{Run, Sources};

/// A complete run whose last evaluation diverges, because running statistics, which training does
/// not read, are corrupted during it.
fn diverged(out: &Path, log: Vec<LogFormat>) -> Run {
    let config =
        TrainConfig { recipe: "baseline".into(), ema_decay: Some(0.0), epochs: 0.5, ..config("resnet10") };
    let options = RunOptions { log, eval_every: Interval::Steps(4), ..options(out, 1) };
    let mut first = run(&config, RunOptions { stop_after: Some(4), ..options.clone() });
    first.train(&mut log::open(first.config(), first.options(), 0).unwrap()).unwrap();
    assert!(first.history.evals.len() == 1 && first.step() < first.plan().total_steps());
    let saved = Checkpoint::open(&out.join(LAST)).unwrap();
    let mut run = Run::resume(&saved, options, Sources::open(&config).unwrap()).unwrap();
    let mean = run.state.params.by_name("bn1.running_mean").unwrap();
    mean.slice_set(&Tensor::full(f32::NAN, mean.dims(), &Device::Cpu).unwrap(), 0, 0).unwrap();
    let mut logs = log::open(run.config(), run.options(), run.step()).unwrap();
    assert!(run.train(&mut logs).unwrap());
    run
}

/// Runs a command that must succeed, and returns its standard error.
fn said(args: &[&str]) -> String {
    let out = efficienttrain(args);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}: {said}");
    said
}

/// Writes `null` instead of `"NaN"`, like earlier builds, whose files first had no checksum.
fn as_before(out: &Path) {
    let log = out.join("log.jsonl");
    let lines = std::fs::read_to_string(&log).unwrap();
    assert!(lines.contains(r#""loss":"NaN""#), "{lines}");
    std::fs::write(&log, lines.replace(r#""loss":"NaN""#, r#""loss":null"#)).unwrap();
    for name in [LAST, "model.safetensors"] {
        let path = out.join(name);
        let bytes = std::fs::read(&path).unwrap();
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        let record = header.metadata().as_ref().unwrap()["efficienttrain"].clone();
        assert!(record.contains(r#""loss":"NaN""#), "{record}");
        let record = record.replace(r#""loss":"NaN""#, r#""loss":null"#);
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).unwrap();
        let metadata = HashMap::from([("efficienttrain".to_string(), record)]);
        std::fs::write(&path, safetensors::serialize(tensors, Some(metadata)).unwrap()).unwrap();
    }
}

#[test]
fn a_run_with_a_diverged_evaluation_can_be_used_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let run = diverged(&out, Vec::new());
    let (evals, steps) = (run.history.evals.clone(), run.plan().total_steps());
    assert!(evals[0].loss.is_finite() && evals[1].loss.is_nan() && evals.len() == 2);
    for again in [false, true] {
        if again {
            as_before(&out);
        }
        let saved = Checkpoint::open(&out.join(LAST)).unwrap();
        let history = &saved.run().unwrap().history;
        assert!(history.evals[1].loss.is_nan() && history.best() == Some(&evals[0]), "{history:?}");
        let best = Checkpoint::open(&out.join("best.safetensors")).unwrap();
        assert_eq!(
            best.run().unwrap().step,
            evals[0].step,
            "the best checkpoint is that of a diverged network"
        );
        for weights in [LAST, "model.safetensors"] {
            let weights = out.join(weights);
            let json = accepted(&["eval", "--weights", text(&weights), "--json"]);
            let accuracy: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert_eq!(accuracy["loss"], "NaN");
            let exported = dir.path().join("exported.safetensors");
            said(&["export", "--weights", text(&weights), "--out", text(&exported), "--force"]);
        }
        let log = RunLog::read(&out).unwrap();
        assert!(log.evals[1].loss.is_nan() && log.evals.len() == 2);
        let page = dir.path().join("page.html");
        accepted(&["report", text(&out), "--out", text(&page)]);
        let page = std::fs::read_to_string(page).unwrap();
        assert!(
            page.contains("the loss of 1 of ") && page.contains(&format!("NaN first at step {steps}")),
            "{page}"
        );
        let resumed = said(&["train", "--resume", "--out", text(&out), "--workers", "1"]);
        assert!(resumed.contains(&format!("done: {steps} steps")), "{resumed}");
    }
}

#[test]
fn a_diverged_evaluation_is_told_when_it_happens() {
    let record = EvalRecord {
        step: 7,
        epoch: 1.0,
        equivalent_epochs: 1.0,
        seconds: 1.0,
        top1: 0.9,
        top5: 1.0,
        loss: f64::INFINITY,
        ema_top1: None,
        multi_label: None,
    };
    let lines = efficienttrain::observe::progress::lines(&Event::Eval(record.clone())).join("\n");
    assert!(lines.contains("warning") && lines.contains("7 steps") && lines.contains("--lr"), "{lines}");
    // It ranks behind all others, whatever its accuracy.
    let sound = EvalRecord { step: 3, top1: 0.1, loss: 2.0, ..record.clone() };
    let later = EvalRecord { step: 9, top1: 0.95, loss: f64::NAN, ..record.clone() };
    let history = History { evals: vec![sound, record, later], ..History::default() };
    assert_eq!(history.ranking(), [3, 9, 7]);
    let stored: History = serde_json::from_str(&serde_json::to_string(&history).unwrap()).unwrap();
    assert_eq!(stored.evals[1].loss, f64::INFINITY);
    assert!(stored.evals[2].loss.is_nan());
}

#[test]
fn tables_have_them_as_other_programs_write_them() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    diverged(&out, vec![LogFormat::Csv, LogFormat::Tensorboard]);
    let table = std::fs::read_to_string(out.join("evals.csv")).unwrap();
    let last = table.lines().last().unwrap();
    assert!(last.split(',').any(|cell| cell == "NaN"), "{table}");
}
