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
fn an_onnx_file_says_how_to_use_it_and_has_the_asked_size() {
    let dir = tempfile::tempdir().unwrap();
    let (last, onnx) = (dir.path().join("last.safetensors"), dir.path().join("model.onnx"));
    run(&config("resnet10"), options(dir.path(), 2)).train(&mut ()).unwrap();
    accepted(&["export", "--weights", text(&last), "--out", text(&onnx), "--size", "48", "--softmax"]);
    let bytes = std::fs::read(&onnx).unwrap();
    let has = |text: &str| memchr::memmem::find(&bytes, text.as_bytes()).is_some();
    assert!(has("[3,48,48]") && has("[0.485,0.456,0.406]") && has("layer4.0.conv2.weight") && has("Softmax"));
    let refused = |arguments: &[&str]| {
        let output = efficienttrain(&[&["export", "--weights", text(&last)], arguments].concat());
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(refused(&["--out", text(&onnx)]).contains("--force"));
    let weights = dir.path().join("weights.safetensors");
    assert!(refused(&["--out", text(&weights), "--softmax"]).contains("--format onnx"));
    let nowhere = dir.path().join("last.safetensors/model.onnx");
    assert!(refused(&["--out", text(&nowhere)]).contains("last.safetensors"));
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
