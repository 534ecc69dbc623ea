//! Passes that a GPU records and repeats, if `EFFICIENTTRAIN_TEST_GPU` says that there is one: the
//! weights are bitwise those of kernels that are launched one by one.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::command::text;

fn there_is_one() -> bool {
    std::env::var_os("EFFICIENTTRAIN_TEST_GPU").is_some()
}

/// Runs the binary with graphs or without.
fn train(graphs: bool, out: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    command.args(["train", "--device", "cuda", "--log", "csv", "--out", text(out)]).args(args);
    command.env("EFFICIENTTRAIN_GRAPHS", if graphs { "1" } else { "0" });
    command.env("EFFICIENTTRAIN_PRETEND_GPU_COUNTS", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    output
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout)
}

/// Returns how often graphs were launched, if the GPU is the emulated one, which counts.
fn launches(output: &Output) -> Option<u64> {
    let said = said(output);
    let count = |what: &str| {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("pretend GPU: {what}: ")))?;
        line.parse().ok()
    };
    count("pieces of memory")?;
    Some(count("launches of graphs").unwrap_or(0))
}

/// Returns the names and bytes of the tensors of a checkpoint.
fn tensors(out: &Path) -> Vec<(String, Vec<u8>)> {
    let bytes = std::fs::read(out.join("last.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file.tensors().into_iter().map(|(name, t)| (name, t.data().to_vec())).collect();
    tensors.sort();
    tensors
}

/// Trains twice and compares; returns the number of launches of graphs.
fn compare(what: &str, args: &[&str]) -> Option<u64> {
    let dir = tempfile::tempdir().unwrap();
    let [with, without] = ["with", "without"].map(|name| dir.path().join(name));
    let recorded = train(true, &with, args);
    let plain = train(false, &without, args);
    assert_eq!(launches(&plain).unwrap_or(0), 0, "{what}: graphs although they are switched off");
    let [a, b] = [&with, &without].map(|out| tensors(out));
    assert_eq!(a.len(), b.len(), "{what}");
    for ((name, a), (_, b)) in a.iter().zip(&b) {
        assert!(a == b, "{what}: {name} differs");
    }
    assert!(!said(&recorded).contains("one by one"), "{what}: {}", said(&recorded));
    launches(&recorded)
}

const SMALL: [&str; 8] =
    ["--synthetic-images", "16", "--base-size", "32", "--batch", "2", "--eval-every", "50%"];

#[test]
fn recorded_passes_train_as_others_do() {
    if !there_is_one() {
        return;
    }
    // (Steps at one size; the first is seen, the second recorded and launched.)
    let plain = ["--recipe", "baseline", "--epochs", "1"];
    let cases: [(&str, &[&str]); 5] = [
        ("resnet10", &["--ema-decay", "0.9"]),
        ("deit_tiny", &["--drop-path", "0.3", "--precision", "bf16", "--stop-after", "4"]),
        ("swin_tiny", &["--drop-path", "0.2", "--stop-after", "3"]),
        ("convnext_tiny", &["--drop-path", "0.2", "--checkpoint-activations", "--stop-after", "3"]),
        ("resnet10", &["--loss", "bce", "--accumulation", "2", "--precision", "f16"]),
    ];
    for (model, more) in cases {
        let args = [&SMALL[..], &plain, &["--model", model], more].concat();
        let launched = compare(&format!("{model} {more:?}"), &args);
        // Eight passes, unless the run stops before.
        let stop = more.iter().position(|&option| option == "--stop-after");
        let expected = stop.map_or(7, |at| more[at + 1].parse::<u64>().unwrap() - 1);
        assert_eq!(launched.unwrap_or(expected), expected, "{model} {more:?}");
    }
}

#[test]
fn a_change_of_size_records_anew() {
    if !there_is_one() {
        return;
    }
    let sizes = ["--model", "resnet10", "--recipe", "progressive", "--epochs", "2"];
    let launched = compare("sizes", &[&SMALL[..], &sizes].concat());
    assert!(launched.is_none_or(|n| n > 6), "{launched:?}");
}

#[test]
fn what_cannot_be_recorded_is_said_and_trains_all_the_same() {
    if !there_is_one() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model =
        ["--model", "deit_tiny_distilled", "--recipe", "baseline", "--epochs", "1", "--stop-after", "3"];
    let output = train(true, dir.path(), &[&SMALL[..], &model].concat());
    assert!(said(&output).contains("launched one by one"), "{}", said(&output));
    assert_eq!(launches(&output).unwrap_or(0), 0);
}
