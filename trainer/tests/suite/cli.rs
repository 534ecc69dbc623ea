//! The command line from a user's view: its output and its errors.

use std::process::Command;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::image_folder;

/// Runs a command that must fail, and returns its message.
fn refused(args: &[&str]) -> String {
    let out = efficienttrain(args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{args:?} succeeded");
    assert!(
        out.status.code().is_some_and(|c| c != 101) && !said.contains("panicked"),
        "{args:?} panicked: {said}"
    );
    said
}

/// Arguments of a short run on an image folder.
fn train<'a>(data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = [
        "train",
        "--model",
        "resnet10",
        "--base-size",
        "32",
        "--batch",
        "4",
        "--epochs",
        "1",
        "--data",
        data,
    ];
    [&fixed[..], &["--out", out], more].concat()
}

#[test]
fn a_run_from_folder_to_prediction() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 8);
    // One broken image must not stop the run.
    std::fs::write(data.join("train/class1/broken.jpg"), b"\xff\xd8\xff").unwrap();
    let out = dir.path().join("run");
    let said = efficienttrain(&train(text(&data), text(&out), &[]));
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("skipped") && said.contains("broken.jpg") && said.contains("done"), "{said}");
    for file in ["last.safetensors", "model.safetensors", "log.jsonl", "accuracy.svg"] {
        assert!(out.join(file).exists(), "no {file}");
    }
    assert!(refused(&train(text(&data), text(&out), &[])).contains("--resume"));

    let weights = out.join("model.safetensors");
    let json = accepted(&["eval", "--weights", text(&weights), "--json"]);
    let accuracy: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(accuracy["images"], 24);
    std::fs::write(data.join("val/class0/broken.png"), b"nothing").unwrap();
    let out = efficienttrain(&["eval", "--weights", text(&weights)]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("broken.png"));
    assert!(String::from_utf8_lossy(&out.stdout).contains("24 images"));
    let image = data.join("val/class2/000.jpg");
    let line = accepted(&["predict", "--weights", text(&weights), "--json", text(&image)]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let mass: f64 = line["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
    assert!((mass - 1.0).abs() < 1e-6);
    let said = refused(&["predict", "--weights", text(&weights), text(&data.join("nothing.jpg"))]);
    assert!(said.contains("nothing.jpg"), "{said}");
    let other = image_folder(&dir.path().join("other"), 2, 1);
    let out = efficienttrain(&["eval", "--weights", text(&weights), "--data", text(&other)]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("no image of 1 class: `class2`"), "{said}");
    std::fs::rename(other.join("val/class1"), other.join("val/class7")).unwrap();
    let said = refused(&["eval", "--weights", text(&weights), "--data", text(&other)]);
    assert!(said.contains("class7"), "{said}");
}

#[test]
fn resuming_refuses_what_does_not_fit_and_keeps_what_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 8);
    let out = dir.path().join("run");
    let (data, out_text) = (text(&data).to_string(), text(&out).to_string());
    assert!(refused(&["train", "--resume", "--out", &out_text]).contains("last.safetensors"));
    accepted(&train(&data, &out_text, &["--stop-after", "3"]));
    let checkpoint = out.join("last.safetensors");
    let saved = std::fs::read(&checkpoint).unwrap();

    let said = refused(&["train", "--resume", "--out", &out_text, "--model", "resnet18", "--batch", "4"]);
    assert!(said.contains("--model") && said.contains("resnet10") && !said.contains("--batch"), "{said}");
    let other = image_folder(&dir.path().join("other"), 3, 8);
    let said = refused(&["train", "--resume", "--out", &out_text, "--data", text(&other)]);
    assert!(said.contains("same data"), "{said}");
    assert_eq!(std::fs::read(&checkpoint).unwrap(), saved, "a refused resume touched the checkpoint");

    for length in [0, 5, 100, saved.len() / 2, saved.len() - 1] {
        std::fs::write(&checkpoint, &saved[..length]).unwrap();
        let said = refused(&["train", "--resume", "--out", &out_text]);
        assert!(said.contains("last.safetensors") && said.contains("complete"), "{length} bytes: {said}");
    }
    std::fs::write(&checkpoint, &saved).unwrap();
    accepted(&["train", "--resume", "--out", &out_text]);
}

#[test]
fn data_is_checked_measured_and_packed() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 4);
    let packed = dir.path().join("packed");
    let said = accepted(&["data", "pack", text(&data), "--out", text(&packed), "--shards", "2"]);
    assert!(said.contains("train: 8 images in 2 shards") && said.contains("8 copied"), "{said}");
    assert!(refused(&["data", "pack", text(&data), "--out", text(&packed)]).contains("not empty"));
    let json = |args: &[&str]| -> serde_json::Value { serde_json::from_str(&accepted(args)).unwrap() };
    for set in [&data, &packed] {
        let found = json(&["data", "check", text(set), "--json"]);
        assert_eq!((&found[1]["split"], &found[1]["images"]), (&"val".into(), &8.into()));
        assert_eq!(found[0]["classes"][1], serde_json::json!({ "name": "class1", "images": 4 }));
    }
    let stats = |set| json(&["data", "stats", text(set), "--json"])[0]["mean"][2].as_f64().unwrap();
    assert!((stats(&data) - stats(&packed)).abs() < 1e-9);
    let said = refused(&["data", "check", text(&data), "--max-image-mib", "0"]);
    assert!(said.contains("16 images are broken"), "{said}");
    assert!(refused(&["data", "stats", text(&data), "--images", "0"]).contains("--images"));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_efficienttrain"))
        .args(["plan", "--list"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(!String::from_utf8_lossy(&out.stderr).contains("panicked"));
    assert!(out.status.success());
}

#[test]
fn a_run_without_data_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 4, 3);
    let said = |more: &[&str]| {
        let plan = ["train", "--dry-run", "--cost", "square", "--model", "resnet10", "--base-size", "32"];
        let out = efficienttrain(&[&plan[..], &["--batch", "4", "--synthetic-images", "16"], more].concat());
        assert!(out.status.success());
        String::from_utf8(out.stderr).unwrap()
    };
    assert_eq!(said(&[]), "note: no --data: training on 16 images of the built-in set\n");
    assert_eq!(said(&["--data", text(&data)]), "");
}

#[test]
fn wrong_input_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 3);
    let (data, out) = (text(&data).to_string(), text(&dir.path().join("run")).to_string());
    let missing = text(&dir.path().join("missing")).to_string();
    std::fs::create_dir_all(dir.path().join("empty/train")).unwrap();
    let empty = text(&dir.path().join("empty")).to_string();
    let cases: Vec<(Vec<&str>, &[&str])> = vec![
        (train(&missing, &out, &[]), &["missing", "no such folder"]),
        (train(&empty, &out, &[]), &["no class folder"]),
        (vec!["train", "--data", &data, "--base-size", "32", "--out", &out], &["6 training images", "batch"]),
        (vec!["train", "--model", "resnet81"], &["resnet18"]),
        (vec!["train", "--model", "deit_tiny", "--base-size", "100"], &["100", "16"]),
        (vec!["train", "--recipe", "resnet18-etp"], &["resnet18-etpp"]),
        (vec!["train", "--replay", "3", "--out", &out], &["--replay", "divisor of the batch (64)"]),
        (
            vec![
                "train",
                "--synthetic-images",
                "640",
                "--max-replay-mib",
                "0",
                "--replay",
                "2",
                "--out",
                &out,
            ],
            &["--max-replay-mib", "32 images"],
        ),
        (vec!["train", "--opt", "sgd", "--out", &out], &["--opt", "--lr and --weight-decay"]),
        (vec!["train", "--lern-rate", "1"], &["--lern-rate"]),
        (vec!["train", "--epochs", "-1"], &["--epochs", "-1"]),
        (vec!["train", "--lr", "-1"], &["--lr", "0 to"]),
        (vec!["train", "--label-smoothing", "2"], &["--label-smoothing", "0 to 1"]),
        (vec!["train", "--min-crop-area", "0"], &["--min-crop-area"]),
        (vec!["train", "--eval-every", "5"], &["1ep", "500st", "10%"]),
        (vec!["train", "--synthetic-images", "0"], &["at least 1 image"]),
        (vec!["plan", "--recipe", "deit-smal-etpp"], &["deit-small-etpp"]),
        (vec!["predict", "--weights", &missing, "x.jpg"], &["missing"]),
        (vec!["eval", "--weights", &missing], &["missing"]),
        (vec!["nothing"], &["nothing"]),
    ];
    for (args, expected) in cases {
        let said = refused(&args);
        for word in expected {
            assert!(said.contains(word), "{args:?} said `{said}`, not `{word}`");
        }
    }
    assert!(!dir.path().join("run").exists(), "a refused run left a folder behind");
}

#[test]
fn a_plan_as_json_has_the_documented_keys() {
    let args =
        ["plan", "--recipe", "deit-small-etpp", "--equivalent-epochs", "100", "--train-images", "1281167"];
    let plan: serde_json::Value =
        serde_json::from_str(&accepted(&[&args[..], &["--json"]].concat())).unwrap();
    assert!((plan["equivalent_epochs"].as_f64().unwrap() - 100.0).abs() < 4096.0 / 1_281_167.0);
    let stages = plan["stages"].as_array().unwrap();
    let keys: std::collections::BTreeSet<&str> =
        stages[0].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "accumulation",
        "batch_per_device",
        "epochs",
        "lr_first",
        "lr_last",
        "magnitude",
        "share",
        "size",
        "steps",
    ];
    assert_eq!(keys.into_iter().collect::<Vec<_>>(), expected);
    let steps: u64 = stages.iter().map(|s| s["steps"].as_u64().unwrap()).sum();
    assert_eq!(plan["total_steps"], steps);
    assert!(accepted(&args).contains("224"));
    assert!(accepted(&["plan", "--list"]).lines().any(|l| l == "swin-tiny-etpp"));
}

#[test]
fn logits_of_a_tensor_are_those_of_the_library() {
    use candle_core::{DType, Device, Tensor};
    use efficienttrain_models::{ModelOptions, ParamStore, create_model, predict};
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, size) in [("resnet10", [40, 56]), ("deit_tiny_patch16_224", [48, 32])] {
        let model =
            create_model(name, &ModelOptions { num_classes: 7, input_size: size, ..ModelOptions::default() })
                .unwrap();
        let params = ParamStore::init(model.specs(), 3, DType::F32, &Device::Cpu).unwrap();
        let weights: std::collections::HashMap<_, _> = params.iter().map(|(n, t)| (n, t.clone())).collect();
        candle_core::safetensors::save(&weights, path("w.safetensors")).unwrap();
        let input = Tensor::rand(-1f32, 1., (2, 3, size[0], size[1]), &Device::Cpu).unwrap();
        candle_core::safetensors::save(&[("input", input.clone())].into(), path("in.safetensors")).unwrap();
        let (w, i, o) = (path("w.safetensors"), path("in.safetensors"), path("out.safetensors"));
        let args =
            ["predict", "--model", name, "--weights", text(&w), "--tensor", text(&i), "--out", text(&o)];
        accepted(&args);
        let got = candle_core::safetensors::load(&o, &Device::Cpu).unwrap().remove("logits").unwrap();
        let want = predict(&*model, &params, &input).unwrap();
        assert_eq!(got.to_vec2::<f32>().unwrap(), want.to_vec2::<f32>().unwrap());
    }
    let (w, i, o) = (path("w.safetensors"), path("in.safetensors"), path("out.safetensors"));
    let said = refused(&[
        "predict",
        "--model",
        "resnet18",
        "--weights",
        text(&w),
        "--tensor",
        text(&i),
        "--out",
        text(&o),
    ]);
    assert!(said.contains("fc.weight"), "{said}");
}
