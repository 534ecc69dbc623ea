//! Commands that list models and their costs: `models`, `bench step`, `plan --cost`.

use std::process::Command;

use crate::common::command::accepted;
use efficienttrain_models::model_names;
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    let out = Command::new(env!("CARGO_BIN_EXE_efficienttrain")).args(args).output().unwrap();
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).unwrap()
}

fn refused(args: &[&str], expected: &str) {
    let out = Command::new(env!("CARGO_BIN_EXE_efficienttrain")).args(args).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.code().is_some_and(|c| c != 0 && c != 101), "{args:?}: {said}");
    assert!(said.contains(expected), "{args:?}: `{said}` does not say `{expected}`");
}

#[test]
fn models_are_listed_with_exact_numbers() {
    let rows = json(&["models", "--json", "--input-size", "96"]);
    let listed: Vec<&str> = rows.as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    assert_eq!(listed, model_names().collect::<Vec<_>>());
    let row = |name: &str| rows.as_array().unwrap().iter().find(|r| r["name"] == name).unwrap();
    // Values of the reference (models/tests/data/macs.json).
    for (name, params, macs) in
        [("resnet50", 25_557_032u64, 752_746_496u64), ("deit_tiny", 5_686_696, 208_220_160)]
    {
        assert_eq!(row(name)["params"].as_u64(), Some(params));
        assert_eq!(row(name)["macs"].as_u64(), Some(macs));
        assert_eq!(row(name)["input_size"], 96);
    }
    let parts = ["conv_macs", "linear_macs", "attention_macs"].map(|k| row("swin_tiny")[k].as_u64().unwrap());
    assert_eq!(parts.iter().sum::<u64>(), row("swin_tiny")["macs"].as_u64().unwrap());
}

#[test]
fn models_that_cannot_take_a_size_are_left_out_unless_asked_for() {
    let rows = json(&["models", "--json", "--input-size", "100"]);
    assert!(rows.as_array().unwrap().iter().all(|r| r["family"] != "Swin" && r["family"] != "DeiT"));
    refused(&["models", "--input-size", "100", "swin_tiny"], "multiples of 32");
    refused(&["models", "swim_tiny"], "did you mean `swin_tiny`");
}

#[test]
fn a_step_is_timed_with_its_arithmetic() {
    let step = json(&[
        "bench", "step", "--model", "resnet18", "--size", "32", "--batch", "2", "--steps", "2", "--json",
    ]);
    // Documented by torchvision.
    assert_eq!(step["params"], 11_689_512);
    let number = |key: &str| step[key].as_f64().unwrap();
    assert!(number("min_ms") > 0.0 && number("min_ms") <= number("step_ms"));
    assert!(number("step_ms") <= number("max_ms"));
    assert!((number("images_per_s") - 2e3 / number("step_ms")).abs() < 1e-9 * number("images_per_s"));
    assert!((number("gemm_share") - number("gflops") / number("gemm_gflops")).abs() < 1e-9);
    refused(&["bench", "step", "--model", "deit_tiny", "--size", "30"], "multiples of 16");
    refused(&["bench", "step", "--model", "resnet10", "--size", "32", "--batch", "0"], "above 0");
}

#[test]
fn a_plan_for_many_devices_says_what_it_assumes() {
    let plan = ["plan", "--recipe", "deit-small-etpp", "--devices", "64", "--images-per-second", "1000"];
    let known = [&plan[..], &["--bandwidth", "10", "--latency", "20"]].concat();
    let said = accepted(&known);
    for part in ["on 64 devices", "1000 images/s per device at 224 pixels", "88 MB at 10 GB/s and 20 us"] {
        assert!(said.contains(part), "`{part}` is not in:\n{said}");
    }
    let printed = json(&[&known[..], &["--json"]].concat());
    assert_eq!(printed["scaling"]["devices"], 64);
    assert_eq!(printed["assumptions"]["bandwidth"], 1e10);
    refused(&plan, "--bandwidth");
    refused(&[&plan[..], &["--bandwidth", "0"]].concat(), "bandwidth");
}

#[test]
fn a_plan_can_count_by_the_model_s_arithmetic() {
    let plan = |cost| json(&["plan", "--recipe", "swin-tiny-etpp", "--cost", cost, "--json"]);
    assert_ne!(plan("macs"), plan("square"));
}
