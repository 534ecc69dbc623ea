//! The unit of the compute budget: `--cost`.

use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use serde_json::Value;

const RUN: [&str; 14] = [
    "train",
    "--synthetic-images",
    "64",
    "--model",
    "resnet10",
    "--recipe",
    "half-96",
    "--base-size",
    "32",
    "--batch",
    "8",
    "--epochs",
    "2",
    "--ema-decay=0",
];

fn events(out: &Path) -> Vec<Value> {
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    log.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs a command that must fail, and returns what it says.
fn refused(args: &[&str]) -> String {
    let out = efficienttrain(args);
    assert!(!out.status.success(), "{args:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Returns the value of `cost` in the options that a run has stored.
fn stored(out: &Path) -> String {
    let options = std::fs::read_to_string(out.join("config.toml")).unwrap();
    let line = options.lines().find(|line| line.starts_with("cost = ")).unwrap();
    line.trim_start_matches("cost = ").trim_matches('"').to_string()
}

#[test]
fn operations_and_squares_give_other_plans() {
    let dir = tempfile::tempdir().unwrap();
    let steps = |cost: &str| {
        let out = dir.path().join(cost);
        let more = ["--cost", cost, "--out", text(&out), "--stop-after", "1"];
        accepted(&[&RUN[..], &more].concat());
        let start = events(&out).remove(0);
        let steps = |stage: usize| start["plan"]["stages"][stage]["steps"].as_u64().unwrap();
        ((steps(0), steps(1)), stored(&out))
    };
    let ((small, large), square) = steps("square");
    assert_eq!(square, "square");
    let ((fewer, other), macs) = steps("macs");
    // ResNet-10 at 16 of 32 pixels has maps of half a pixel, which are rounded up.
    assert!(fewer < small && other < large, "{fewer} and {other}, not below {small} and {large}");
    let cost = |size: &str| -> f64 {
        let row = macs.trim_start_matches("macs:").split(',').find_map(|row| row.strip_prefix(size)).unwrap();
        row.parse().unwrap()
    };
    let ratio = cost("16=") / cost("32=");
    assert!(ratio > 0.25 && ratio < 0.5, "{macs}");
}

#[test]
fn a_measured_budget_is_kept_by_a_resumed_run_and_compared_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let more = ["--cost", "time", "--eval-every", "100%", "--out", text(&out)];
    accepted(&[&RUN[..], &more, &["--stop-after", "3"]].concat());
    let before = stored(&out);
    assert!(before.starts_with("time:16=") && before.contains(",32="), "{before}");
    let resumed = efficienttrain(&[&RUN[..], &more, &["--resume"]].concat());
    let said = String::from_utf8_lossy(&resumed.stderr).into_owned();
    assert!(resumed.status.success() && said.contains("the run keeps its costs"), "{said}");
    assert_eq!(stored(&out), before);
    let notes: Vec<String> = events(&out)
        .iter()
        .filter(|event| event["event"] == "note")
        .map(|event| event["text"].as_str().unwrap().to_string())
        .collect();
    assert!(notes.len() == 1 && notes[0].contains("forecast were"), "{notes:?}");
    // What was measured may be given to another run, which then has the same plan.
    let again = dir.path().join("again");
    let given = ["--cost", &before, "--eval-every", "100%", "--out", text(&again)];
    accepted(&[&RUN[..], &given, &["--stop-after", "1"]].concat());
    assert_eq!(events(&again)[0]["plan"], events(&out)[0]["plan"]);
}

#[test]
fn a_forecast_says_what_a_stage_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let said = accepted(&[&RUN[..], &["--cost", "time", "--dry-run", "--out", text(dir.path())]].concat());
    assert!(said.contains("bound by") && said.contains("  training"), "{said}");
}

#[test]
fn a_comparison_in_time_measures_once_and_tells_when_the_baseline_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let what =
        ["compare", "--synthetic-images", "60", "--base-size", "32", "--batch", "8", "--epochs", "0.8"];
    let more = ["--model", "resnet10", "--recipes", "baseline,half-96", "--eval-every", "50%"];
    let args = [&what[..], &more, &["--out", text(&out)]].concat();
    let printed = accepted(&args);
    assert!(
        printed.contains("minutes to reach it") && printed.contains("| resnet10-baseline |"),
        "{printed}"
    );
    assert!(out.join("compare-time.svg").exists());
    let costs = std::fs::read_to_string(out.join("costs.json")).unwrap();
    let table: Value = serde_json::from_str(&costs).unwrap();
    let base = |name: &str| {
        let rule = table[name].as_str().unwrap().to_string();
        rule.rsplit('=').next().unwrap().to_string()
    };
    assert_eq!(base("resnet10-baseline"), base("resnet10-half-96"), "one cost at base size: {costs}");
    // Finished runs are not trained again, and nothing is measured anew.
    accepted(&args);
    assert_eq!(std::fs::read_to_string(out.join("costs.json")).unwrap(), costs);
}

#[test]
fn an_unknown_unit_is_refused() {
    let said = refused(&[&RUN[..], &["--cost", "flops"]].concat());
    assert!(said.contains("`flops` is no unit of the budget") && said.contains("`macs`"), "{said}");
    let said = refused(&[&RUN[..], &["--cost", "time:16=0.1"]].concat());
    assert!(said.contains("--cost: no cost at base size, 32"), "{said}");
}
