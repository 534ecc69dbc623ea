//! Weights for other programs, completions and man pages.

use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, options, run};
use efficienttrain::checkpoint::Checkpoint;

#[test]
fn exported_weights_are_those_of_the_run_and_of_its_average() {
    let dir = tempfile::tempdir().unwrap();
    let (last, model) = (dir.path().join("last.safetensors"), dir.path().join("model.safetensors"));
    run(&config("deit_tiny"), options(dir.path(), 2)).train(&mut ()).unwrap();
    let values = |path: &Path, name: &str| {
        let tensor = Checkpoint::open(path).unwrap().weights(false).unwrap()[name].clone();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let (plain, average) = (dir.path().join("plain.safetensors"), dir.path().join("average.safetensors"));
    accepted(&["export", "--weights", text(&last), "--out", text(&plain)]);
    accepted(&["export", "--weights", text(&last), "--ema", "--out", text(&average)]);
    for name in ["head.weight", "pos_embed", "blocks.3.attn.qkv.weight"] {
        // Compares with the output of the run itself.
        assert_eq!(values(&plain, name), values(&model, name), "{name}");
        let kept = Checkpoint::open(&last).unwrap().weights(true).unwrap()[name].clone();
        assert_eq!(values(&average, name), kept.flatten_all().unwrap().to_vec1::<f32>().unwrap(), "{name}");
        assert_ne!(values(&average, name), values(&plain, name), "{name}");
    }
    let again = efficienttrain(&["export", "--weights", text(&last), "--out", text(&plain)]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    accepted(&["export", "--weights", text(&last), "--out", text(&plain), "--force"]);
}

#[test]
fn completions_and_man_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = accepted(&["completions", shell]);
        assert!(script.contains("print-config") && script.contains("recipes"), "{shell}");
    }
    assert!(accepted(&["man"]).contains("efficienttrain"));
    let dir = tempfile::tempdir().unwrap();
    accepted(&["man", "--out", text(dir.path())]);
    let page = std::fs::read_to_string(dir.path().join("efficienttrain-train.1")).unwrap();
    assert!(page.contains("layer\\-decay"), "{page}");
}
