//! Mistakes of new users: images without a second split, flags without effect, ignored values, and
//! error messages that say what to do.

use efficienttrain::data::TrainPipeline;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::image_folder;
use efficienttrain::checkpoint::Checkpoint;

fn refused(args: &[&str]) -> String {
    let out = efficienttrain(args);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(matches!(out.status.code(), Some(1 | 2)), "{args:?}: {:?}, {said}", out.status);
    said
}

/// Arguments of a run of a few steps, on an image folder.
fn short<'a>(command: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = [command, "--base-size", "32", "--batch", "4", "--epochs", "1", "--recipe", "baseline"];
    [&fixed[..], &["--data", data, "--out", out], more].concat()
}

#[test]
fn a_part_of_each_class_is_held_out_where_there_is_no_second_split() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 10);
    std::fs::remove_dir_all(data.join("val")).unwrap();
    let (split, flat) = (text(&data).to_string(), text(&data.join("train")).to_string());
    let out = |name: &str| text(&dir.path().join(name)).to_string();

    let said = refused(&short("train", &split, &out("none"), &[]));
    assert!(said.contains("has no val split") && said.contains("--val-share 0.1"), "{said}");
    let said = refused(&short("train", &flat, &out("none"), &[]));
    assert!(said.contains("has no train split") && said.contains("--val-share 0.1"), "{said}");
    for (name, data) in [("split", &split), ("flat", &flat)] {
        let folder = out(name);
        accepted(&short("train", data, &folder, &["--model", "resnet10", "--val-share", "0.3"]));
        let weights = format!("{folder}/model.safetensors");
        let eval: serde_json::Value =
            serde_json::from_str(&accepted(&["eval", "--weights", &weights, "--json"])).unwrap();
        assert_eq!(eval["images"], 6, "three of ten images of two classes are held out");
        let log = std::fs::read_to_string(Path::new(&folder).join("log.jsonl")).unwrap();
        assert!(log.contains("\"train_images\":14"), "{log}");
    }

    for (share, expected) in [("0", "above 0"), ("1", "below 1"), ("nan", "finite")] {
        let said = refused(&short("train", &split, &out("bad"), &["--val-share", share]));
        assert!(said.contains("--val-share") && said.contains(expected), "{share}: {said}");
    }
    let both = image_folder(&dir.path().join("both"), 2, 3);
    let said = refused(&short("train", text(&both), &out("bad"), &["--val-share", "0.3"]));
    assert!(said.contains("--val-share") && said.contains("has a val split"), "{said}");
    assert!(refused(&["train", "--val-share", "0.3", "--out", &out("bad")]).contains("--val-share"));
    std::fs::create_dir_all(data.join("train/single")).unwrap();
    std::fs::copy(data.join("train/class0/000.jpg"), data.join("train/single/000.jpg")).unwrap();
    let said = refused(&short("train", &split, &out("bad"), &["--val-share", "0.3"]));
    assert!(said.contains("`single` has 1"), "{said}");
    assert!(!Path::new(&out("bad")).exists());
}

#[test]
fn pre_training_wants_neither_classes_nor_a_second_split() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 1, 6);
    let (class, train) = (data.join("train/class0"), data.join("train"));
    for (name, images) in [("plain", &class), ("one split", &train), ("both", &data)] {
        let out = dir.path().join(name);
        let mae = ["--model", "deit_tiny", "--decoder", "32x2x1"];
        accepted(&short("pretrain", text(images), text(&out), &mae));
        assert!(out.join("encoder.safetensors").exists(), "{name}");
    }
    // The data on which probes are trained and evaluated must be different.
    let weights = text(&dir.path().join("one split/last.safetensors")).to_string();
    let features = text(&dir.path().join("features")).to_string();
    let args = ["features", "--weights", &weights, "--out", &features];
    let said = refused(&args);
    assert!(said.contains("has no train split") && said.contains("--val-share"), "{said}");
    assert!(refused(&[&args[..], &["--val-share", "7"]].concat()).contains("--val-share"));
    let said = accepted(&[&args[..], &["--val-share", "0.34"]].concat());
    assert!(said.contains("4 images") && said.contains("2 images"), "{said}");

    std::fs::create_dir_all(dir.path().join("empty")).unwrap();
    let said = refused(&short("pretrain", text(&dir.path().join("empty")), "nowhere", &[]));
    assert!(said.contains("empty: has no image (jpg"), "{said}");
    // A classifier cannot learn from one class.
    let said = refused(&short("train", text(&data), text(&dir.path().join("run")), &[]));
    assert!(said.contains("`class0` is the only class") && said.contains("pretrain"), "{said}");
}

#[test]
fn values_that_cannot_be_kept_are_refused_and_not_dropped() {
    for (flag, value) in [("--lr", "nan"), ("--mixup", "inf"), ("--layer-decay", "nan"), ("--epochs", "inf")]
    {
        let said = refused(&["train", flag, value, "--dry-run"]);
        assert!(said.contains(flag) && said.contains("finite"), "{flag} {value}: {said}");
    }
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_is_refused_and_does_not_undo_other_options() {
    use std::os::unix::ffi::OsStringExt;
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 3);
    let odd = dir.path().join(std::ffi::OsString::from_vec(b"d\xffta".to_vec()));
    std::fs::rename(data, &odd).unwrap();
    for flag in ["--data", "--out", "--init"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
        let out = command.args(["train", "--dry-run", "--base-size", "32", flag]).arg(&odd).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.code() == Some(1) && said.contains(flag) && said.contains("UTF-8"),
            "{flag}: {said}"
        );
    }
    // If nothing is written, any path is valid.
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    assert!(command.args(["data", "check"]).arg(&odd).status().unwrap().success());
}

#[test]
fn a_reader_of_messages_that_goes_away_does_not_end_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 6);
    std::fs::write(data.join("train/class1/broken.jpg"), b"\xff\xd8\xff").unwrap();
    let out = dir.path().join("run");
    let run = short("train", text(&data), text(&out), &["--model", "resnet10"]);
    for args in [&run[..], &["models", "--input-size", "0"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
        let mut child = command.args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stderr.take());
        assert!(child.wait().unwrap().success(), "{args:?}");
    }
    assert!(out.join("model.safetensors").exists());
}

#[test]
fn flags_that_would_do_nothing_are_refused() {
    let cases: &[(&[&str], &str)] = &[
        (&["search", "--log", "csv"], "--log"),
        (&["search", "--view", "full"], "--view"),
        (&["search", "--keep-best", "3"], "--keep-best"),
        (&["compare", "--view", "full"], "--view"),
        (&["pretrain", "--loss", "bce"], "--loss"),
        (&["pretrain", "--eval-every", "1ep"], "--eval-every"),
        (&["pretrain", "--demo"], "--demo"),
        (&["finetune", "--demo"], "--demo"),
        (&["train", "--demo", "--epochs", "3"], "--epochs"),
        (&["train", "--demo", "--data", "photos"], "--data"),
        (&["train", "--demo", "--eval-every", "1ep"], "--eval-every"),
        (&["train", "--demo", "--dry-run"], "--dry-run"),
        (&["train", "--mask-ratio", "0.5"], "--mask-ratio"),
        (&["train", "--lr-step-factor", "0.5"], "--lr-step-factor"),
    ];
    for (args, flag) in cases {
        let said = refused(args);
        assert!(said.contains(flag), "{args:?}: {said}");
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    let cases: &[(&[&str], &str)] = &[
        (&["--threads", "0", "models"], "1..=4096"),
        (&["--threads", "100000", "models"], "1..=4096"),
        (&["train", "--workers", "0", "--dry-run"], "--workers: expected 1 to 4096"),
        (&["train", "--epochs", "0"], "--epochs: expected a number above 0"),
        (&["train", "--synthetic-images", "99999999999999"], "--synthetic-images"),
        (&["train", "--checkpoint-minutes", "-1"], "--checkpoint-minutes"),
        (&["train", "--hflip", "1.5"], "--hflip: expected 0 to 1"),
        (&["train", "--base-size", "7"], "--base-size: expected a multiple of 8"),
        (&["train", "--accumulation", "0"], "--accumulation"),
        (&["train", "--devices", "0"], "--devices: expected at least 1 device"),
        (&["train", "--lr", "0"], "--lr: expected a finite number above 0"),
        (
            &["train", "--batch", "30", "--synthetic-images", "20", "--base-size", "32"],
            "--batch: a step takes 30 images, and there are 20",
        ),
        (&["bench", "step", "--model", "resnet10", "--steps", "0"], "--steps"),
        (&["bench", "preprocess", "--data", ".", "--images", "0"], "--images"),
        (&["bench", "preprocess", "--data", ".", "--magnitude", "99"], "--magnitude"),
        (&["doctor", "--seconds", "-1"], "--seconds: expected 0 to 86400"),
        (&["doctor", "--batch", "0"], "--batch"),
        (
            &["search", "--synthetic-images", "80", "--fine-tune", "3"],
            "--fine-tune: expected a number in 0..=1",
        ),
        (&["search", "--synthetic-images", "80", "--stages", "0"], "--stages: expected"),
        (&["search", "--synthetic-images", "80", "--epochs", "0.1"], "--epochs: 0.1 over 80 images"),
        (&["pretrain", "--base-size", "16", "--recipe", "baseline"], "--mask-ratio"),
    ];
    for (args, expected) in cases {
        let said = refused(args);
        assert!(said.contains(expected), "{args:?}: `{said}`, not `{expected}`");
    }
}

#[test]
fn messages_say_what_is_wrong_once_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = text(dir.path()).to_string();
    let missing = text(&dir.path().join("missing.safetensors")).to_string();
    let said = refused(&["eval", "--weights", &missing]);
    assert_eq!(said.matches("os error").count(), 1, "{said}");
    let said = refused(&["train", "--model", "resnet19"]);
    assert!(said.contains("--model: unknown model `resnet19`") && said.contains("`resnet18`"), "{said}");
    let said = refused(&["train", "--recipe", "half"]);
    assert!(said.contains("--recipe") && said.contains("half-96"), "{said}");
    assert!(refused(&["report", &folder]).contains("expected the folder of a run"));
    assert!(refused(&["probe", &folder]).contains("efficienttrain features --out"));
    assert!(refused(&["recipes", "resnet19"]).contains("`resnet19`"));
    assert!(refused(&["compare", "--vary", "mixap=1,2"]).contains("--vary mixap"));
    let said = refused(&["train", "--data", &text(&dir.path().join("file")).replace("file", "")]);
    assert!(said.contains("has no train split"), "{said}");
    std::fs::write(dir.path().join("file"), "").unwrap();
    let said = refused(&["train", "--data", text(&dir.path().join("file"))]);
    assert!(said.contains("is a file"), "{said}");
}

#[test]
fn help_says_what_is_true_of_each_command() {
    assert!(accepted(&["--help"]).starts_with("Train visual backbones"));
    for (command, out) in [
        ("train", "runs/train"),
        ("search", "runs/search"),
        ("compare", "runs/compare"),
        ("pretrain", "runs/pretrain"),
    ] {
        assert!(accepted(&[command, "--help"]).contains(&format!("[default: {out}]")), "{command}");
    }
    let compare = accepted(&["compare", "--help"]);
    assert_eq!(compare.matches("[default: 10%]").count(), 2, "{compare}");
    assert!(!accepted(&["search", "--help"]).contains("--view"));
}

#[test]
fn mirroring_can_be_switched_off() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 6);
    let out = dir.path().join("run");
    let more = ["--model", "resnet10", "--hflip", "0", "--stop-after", "1"];
    accepted(&short("train", text(&data), text(&out), &more));
    let saved = Checkpoint::open(&out.join("last.safetensors")).unwrap();
    let config = &saved.run().unwrap().config;
    let recipe = config.recipe().unwrap();
    assert_eq!((config.hflip, recipe.augmentation.flip), (Some(0.0), 0.0));
    assert_eq!(TrainPipeline::new(config, &recipe).augmentation.flip, 0.0);
}

#[test]
fn weights_are_used_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 6);
    let out = dir.path().join("run");
    let said = accepted(&short("train", text(&data), text(&out), &["--model", "resnet10"]));
    let weights = text(&out.join("model.safetensors")).to_string();
    assert!(said.contains(&format!("weights: {weights}")), "{said}");

    let other = text(&dir.path().join("other")).to_string();
    let said = refused(&short("train", text(&data), &other, &["--model", "resnet18", "--init", &weights]));
    assert!(said.contains(&weights) && said.contains("--model") && !said.contains("adapt_"), "{said}");

    // The result of a long evaluation is printed even if a file cannot be written.
    std::fs::write(dir.path().join("file"), "").unwrap();
    let csv = text(&dir.path().join("file/classes.csv")).to_string();
    let out = efficienttrain(&["eval", "--weights", &weights, "--per-class", &csv]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stdout).contains("top-1"), "{out:?}");
}

#[test]
fn the_folder_of_a_comparison_is_a_report_of_its_runs() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 6);
    for name in ["a", "b"] {
        let out = dir.path().join("runs").join(name);
        accepted(&short("train", text(&data), text(&out), &["--model", "resnet10"]));
    }
    let page = dir.path().join("page.html");
    accepted(&["report", text(&dir.path().join("runs")), "--out", text(&page), "--images", "0"]);
    let both = std::fs::read_to_string(&page).unwrap();
    let (a, b) = (dir.path().join("runs/a"), dir.path().join("runs/b"));
    accepted(&["report", text(&a), text(&b), "--out", text(&page), "--images", "0"]);
    assert_eq!(both, std::fs::read_to_string(&page).unwrap());

    // Folders with the same name are distinguished.
    let elsewhere = dir.path().join("elsewhere/a");
    std::fs::create_dir_all(&elsewhere).unwrap();
    for name in ["log.jsonl", "config.toml"] {
        std::fs::copy(a.join(name), elsewhere.join(name)).unwrap();
    }
    accepted(&["report", text(&a), text(&elsewhere), "--out", text(&page), "--images", "0"]);
    assert!(std::fs::read_to_string(&page).unwrap().contains(text(&elsewhere)));
}
