//! Weight files of other programs.

use std::collections::HashMap;
use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::{ModelOptions, ParamStore, create_model, weights};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

/// A network with four classes, and an input for it.
fn plain(dir: &Path) -> Vec<u8> {
    let options = ModelOptions { num_classes: 4, input_size: [32, 32], ..ModelOptions::default() };
    let model = create_model("resnet10", &options).unwrap();
    let params = ParamStore::init(model.specs(), 3, DType::F32, &Device::Cpu).unwrap();
    let path = dir.join("plain.safetensors");
    weights::save(&path, &*model, &params).unwrap();
    let values: Vec<f32> = (0..2 * 3 * 32 * 32).map(|i| (i % 97) as f32 / 48.0 - 1.0).collect();
    let input = Tensor::from_vec(values, (2, 3, 32, 32), &Device::Cpu).unwrap();
    candle_core::safetensors::save(&HashMap::from([("input", input)]), dir.join("input.safetensors"))
        .unwrap();
    std::fs::read(path).unwrap()
}

fn predict(dir: &Path, file: &str) -> std::process::Output {
    let at = |name: &str| dir.join(name).to_str().unwrap().to_string();
    let (weights, input, out) = (at(file), at("input.safetensors"), at("logits.safetensors"));
    efficienttrain(&[
        "predict",
        "--weights",
        &weights,
        "--tensor",
        &input,
        "--model",
        "resnet10",
        "--out",
        &out,
    ])
}

fn logits(dir: &Path) -> Vec<f32> {
    let mut found = candle_core::safetensors::load(dir.join("logits.safetensors"), &Device::Cpu).unwrap();
    found.remove("logits").unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn files_of_other_programs_give_the_same_logits() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = plain(dir.path());
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert!(predict(dir.path(), "plain.safetensors").status.success());
    let want = logits(dir.path());

    let views = |prefix: &str| -> Vec<(String, TensorView)> {
        file.tensors().into_iter().map(|(name, view)| (format!("{prefix}{name}"), view)).collect()
    };
    let foreign = |key: &str, value: &str| Some(HashMap::from([(key.to_string(), value.to_string())]));
    let ones = [1u8; 8];
    let with = |name: &str, dtype, length: usize| {
        let mut views = views("");
        views.push((name.to_string(), TensorView::new(dtype, vec![1], &ones[..length]).unwrap()));
        views
    };
    let cases = [
        ("module", views("module."), None, None),
        ("compiled", views("_orig_mod.module."), None, None),
        ("lightning", views("model."), None, None),
        (
            "averaged",
            {
                let mut v = views("module.");
                v.extend(with("n_averaged", Dtype::I64, 8).pop());
                v
            },
            None,
            None,
        ),
        ("checksum", views(""), foreign("checksum", "sha256:0123456789abcdef"), None),
        ("short-checksum", views(""), foreign("checksum", "deadbeef"), None),
        ("mask", with("mask", Dtype::BOOL, 1), None, Some("`mask`")),
        ("scale", with("scale", Dtype::F8_E5M2, 1), None, Some("`scale`")),
        ("profiler", with("total_ops", Dtype::F64, 8), None, Some("`total_ops`")),
        ("decoder", with("decoder.bias", Dtype::F32, 4), None, Some("`decoder.bias`")),
    ];
    for (name, tensors, metadata, said) in cases {
        let name = format!("{name}.safetensors");
        std::fs::write(dir.path().join(&name), safetensors::serialize(tensors, metadata).unwrap()).unwrap();
        let output = predict(dir.path(), &name);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {message}");
        assert_eq!(logits(dir.path()), want, "{name}");
        assert_eq!(said.is_some(), message.contains("skipped"), "{name}: {message}");
        assert!(said.is_none_or(|key| message.contains(key)), "{name}: {message}");
    }

    // An unsupported type matters only for weights that the model uses.
    let mut tensors = views("");
    tensors.retain(|(name, _)| name != "fc.bias");
    tensors.push(("fc.bias".into(), TensorView::new(Dtype::F8_E5M2, vec![4], &ones[..4]).unwrap()));
    std::fs::write(dir.path().join("f8.safetensors"), safetensors::serialize(tensors, None).unwrap())
        .unwrap();
    let message = String::from_utf8_lossy(&predict(dir.path(), "f8.safetensors").stderr).into_owned();
    assert!(message.contains("`fc.bias`") && message.contains("F8_E5M2"), "{message}");
}

#[test]
fn what_is_no_weight_file_is_called_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let cases: [(&[u8], &str); 4] = [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"", "empty"),
        (b"\x80\x04}q\x00.", "torch.save"),
    ];
    for (bytes, expected) in cases {
        let path = dir.path().join("w.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let out = dir.path().join("out").to_str().unwrap().to_string();
        let commands: [&[&str]; 3] = [
            &["eval", "--weights", text(&path)],
            &["export", "--weights", text(&path), "--out", &out],
            &["train", "--model", "resnet10", "--base-size", "32", "--init", text(&path), "--out", &out],
        ];
        for args in commands {
            let output = efficienttrain(args);
            let message = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && message.contains("w.safetensors"), "{args:?}: {message}");
            assert!(message.contains(expected), "{args:?}: {message}");
        }
    }
    accepted(&["models"]);
}

/// A pipe without a writer, which would block a reader forever.
#[cfg(unix)]
#[test]
fn a_pipe_is_no_weight_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("w.safetensors");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let output = efficienttrain(&["eval", "--weights", text(&path)]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("FIFO"), "{message}");
}
