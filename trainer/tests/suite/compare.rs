//! Comparisons: equal compute, every combination once, interruption, and `--batch auto`.

use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use serde_json::Value;

const RUN: [&str; 13] = [
    "compare",
    "--cost",
    "square",
    "--synthetic-images",
    "60",
    "--base-size",
    "32",
    "--batch",
    "8",
    "--epochs",
    "0.8",
    "--eval-every",
    "100%",
];

fn rows(out: &Path) -> Vec<Value> {
    serde_json::from_str(&std::fs::read_to_string(out.join("compare.json")).unwrap()).unwrap()
}

fn names(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[test]
fn recipes_and_sizes_at_equal_compute() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let what =
        ["--model", "resnet10", "--recipes", "baseline,half-96", "--sweep-size", "24", "--seeds", "1,2"];
    let args = [&RUN[..], &what, &["--out", text(&out)]].concat();
    let printed = accepted(&args);
    let table = rows(&out);
    assert_eq!(names(&table), ["resnet10-baseline", "resnet10-half-96", "resnet10-half-at-24"]);
    for (row, sizes) in table.iter().zip([&[32][..], &[16, 32], &[24, 32]]) {
        // To within half a step of 8 of the 60 images.
        let compute = row["equivalent_epochs"].as_f64().unwrap();
        assert!((compute - 0.8).abs() <= 4.0 / 60.0, "{row}");
        let found: Vec<u64> = row["sizes"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
        assert_eq!(found, sizes);
        let top1: Vec<f64> =
            row["top1"].as_array().unwrap().iter().map(|accuracy| accuracy.as_f64().unwrap()).collect();
        let mean = row["measured"]["mean"].as_f64().unwrap();
        assert!(top1.len() == 2 && (mean - f64::midpoint(top1[0], top1[1])).abs() < 1e-12, "{row}");
        assert!(
            row["images_per_second"].as_f64().unwrap() > 0.0
                && row["tera_operations"].as_f64().unwrap() > 0.0
        );
    }
    // Half of the epochs at 16 of 32 pixels cost a quarter, so the same compute gives 1 / (0.5 *
    // 0.25 + 0.5) times the passes.
    let passes = |i: usize| table[i]["passes"].as_f64().unwrap();
    assert!((passes(1) / passes(0) - 1.6).abs() < 0.2, "{} of {}", passes(1), passes(0));
    assert!(printed.lines().count() >= 5 && printed.contains("| resnet10-half-at-24 | resnet10 | 24, 32 |"));
    let csv = std::fs::read_to_string(out.join("compare.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4);
    assert!(std::fs::read_to_string(out.join("compare.svg")).unwrap().contains("resnet10-half-96"));

    // Finished runs are not trained again; another run is not overwritten.
    let before = std::fs::metadata(out.join("resnet10-baseline-seed1/last.safetensors")).unwrap();
    accepted(&args);
    let after = std::fs::metadata(out.join("resnet10-baseline-seed1/last.safetensors")).unwrap();
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    assert_eq!(rows(&out)[0]["top1"], table[0]["top1"]);
    let said = efficienttrain(&[&args[..], &["--lr", "0.01"]].concat());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("another run") && said.contains("--lr 0.01"), "{said}");
}

#[test]
#[ignore = "trains much: CI runs it"]
fn every_combination_of_models_and_options() {
    let dir = tempfile::tempdir().unwrap();
    let what = ["--recipes", "baseline", "--models", "resnet10,deit_tiny", "--vary", "mixup=0,0.8"];
    accepted(&[&RUN[..], &what, &["--out", text(dir.path())]].concat());
    let expected = [
        "resnet10-baseline mixup=0",
        "resnet10-baseline mixup=0.8",
        "deit-tiny-baseline mixup=0",
        "deit-tiny-baseline mixup=0.8",
    ];
    assert_eq!(names(&rows(dir.path())), expected);
    // A value with commas.
    let batches = dir.path().join("batches");
    let what = ["--recipes", "half-96", "--model", "resnet10", "--vary", "batch=8|16,8"];
    accepted(&[&RUN[..], &what, &["--out", text(&batches)]].concat());
    assert_eq!(names(&rows(&batches)), ["resnet10-half-96 batch=8", "resnet10-half-96 batch=16,8"]);
    for (args, word) in [
        (&["--vary", "mixup"][..], "KEY=VALUE"),
        (&["--vary", "mixap=0,1"], "`mixup`"),
        (&["--recipes", "baseline,baseline"], "given twice"),
        (&["--sweep-size", "64"], "sweep-size"),
        (&["--recipes", "baselin"], "baseline"),
    ] {
        let other = dir.path().join("other");
        let said = efficienttrain(&[&RUN[..], args, &["--out", text(&other)]].concat());
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(1) && text.contains(word), "{args:?}: {text}");
        assert!(!other.exists());
    }
}

#[test]
fn a_batch_is_chosen_by_speed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let run = [
        "train",
        "--model",
        "resnet10",
        "--recipe",
        "half-96",
        "--synthetic-images",
        "64",
        "--epochs",
        "0.5",
    ];
    let more = ["--base-size", "32", "--batch", "auto", "--eval-every", "100%", "--out", text(&out)];
    let said = efficienttrain(&[&run[..], &more, &["--stop-after", "1"]].concat());
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        said.contains("size 16: ") && said.contains("size 32: ") && said.contains("optimizer steps"),
        "{said}"
    );
    let config = std::fs::read_to_string(out.join("config.toml")).unwrap();
    let line = config.lines().find(|line| line.starts_with("batch = ")).unwrap();
    let numbers: Vec<u32> =
        line.split('"').nth(1).unwrap().split(',').map(|number| number.parse().unwrap()).collect();
    assert!(numbers.len() == 2 && numbers.iter().all(|n| (8..=64).contains(n)), "{line}");
    // Resuming keeps the measured batch.
    accepted(&[&run[..], &more, &["--resume"]].concat());
    assert!(std::fs::read_to_string(out.join("config.toml")).unwrap().contains(line));
}
