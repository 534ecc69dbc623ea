//! Data sets given by relative paths, in the folder of the runs, and moved since the run.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::command::text;
use crate::common::image_folder;

/// Runs the binary in a folder.
fn within(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_efficienttrain")).current_dir(folder).args(args).output().unwrap()
}

fn accepted(folder: &Path, args: &[&str]) -> String {
    let out = within(folder, args);
    let said = String::from_utf8(out.stderr).unwrap();
    assert!(out.status.success(), "{args:?}: {said}");
    String::from_utf8(out.stdout).unwrap()
}

fn refused(folder: &Path, args: &[&str]) -> String {
    let out = within(folder, args);
    assert!(!out.status.success(), "{args:?}");
    String::from_utf8(out.stderr).unwrap()
}

const TRAIN: [&str; 15] = [
    "train",
    "--data",
    ".",
    "--model",
    "resnet10",
    "--base-size",
    "32",
    "--batch",
    "4",
    "--recipe",
    "baseline",
    "--epochs",
    "1",
    "--workers",
    "1",
];

#[test]
fn the_folder_of_runs_among_the_classes_is_no_class() {
    let dir = tempfile::tempdir().unwrap();
    let photos = image_folder(dir.path(), 2, 6).join("train");
    let once = [&TRAIN[..], &["--val-share", "0.5"]].concat();
    accepted(&photos, &once);
    assert!(photos.join("runs/train/last.safetensors").exists());
    // All commands that read the folder again, with one run in it and with several.
    accepted(&photos, &[&once[..], &["--out", "runs/deep/er/second"]].concat());
    let weights = "runs/train/last.safetensors";
    accepted(&photos, &["eval", "--weights", weights]);
    accepted(&photos, &["eval", "--weights", weights, "--data", "."]);
    accepted(
        &photos,
        &[
            "finetune",
            "--init",
            weights,
            "--data",
            ".",
            "--val-share",
            "0.5",
            "--batch",
            "4",
            "--epochs",
            "1",
        ],
    );
    let checked = accepted(&photos, &["data", "check", "."]);
    assert!(
        checked.contains("2 classes") && checked.contains("folders that this program wrote (such as ./runs)"),
        "{checked}"
    );
    // A class without images is an error as before.
    std::fs::create_dir_all(photos.join("empty/runs")).unwrap();
    let said = refused(&photos, &[&once[..], &["--out", "third"]].concat());
    assert!(said.contains("class folder `empty` has no image"), "{said}");
    std::fs::remove_dir_all(photos.join("empty")).unwrap();
    // So is one with a run and images.
    std::fs::rename(photos.join("runs"), photos.join("class0/runs")).unwrap();
    let checked = accepted(&photos, &["data", "check", "."]);
    assert!(checked.contains("class0"), "{checked}");
}

#[test]
fn pre_training_on_images_without_classes_goes_on_beside_its_runs() {
    let dir = tempfile::tempdir().unwrap();
    let photos = image_folder(dir.path(), 1, 4).join("train/class0");
    let args = ["pretrain", "--data", ".", "--model", "deit_tiny", "--base-size", "32", "--batch", "2"];
    let more = ["--recipe", "baseline", "--epochs", "1", "--workers", "1", "--stop-after", "1"];
    let args = [&args[..], &more].concat();
    accepted(&photos, &args);
    accepted(&photos, &[&args[..], &["--out", "runs/again"]].concat());
}

#[test]
fn relative_data_is_kept_by_its_whole_path_and_moved_data_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    image_folder(&root.join("photos"), 2, 6);
    let mut args = TRAIN.to_vec();
    args[2] = "photos";
    accepted(&root, &args);
    let options = std::fs::read_to_string(root.join("runs/train/config.toml")).unwrap();
    let whole = root.join("photos");
    assert!(options.contains(&format!("data = {:?}", text(&whole))), "{options}");
    // From another folder, with the checkpoint and with the options file.
    let elsewhere = root.join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    accepted(&elsewhere, &["eval", "--weights", "../runs/train/last.safetensors"]);
    accepted(&elsewhere, &["train", "--config", "../runs/train/config.toml", "--out", "again"]);
    // Initial weights given by a relative path are found from there, too.
    args.extend(["--init", "runs/train/model.safetensors", "--out", "second"]);
    accepted(&root, &args);
    accepted(&elsewhere, &["train", "--config", "../second/config.toml", "--out", "third"]);

    std::fs::rename(&whole, root.join("moved")).unwrap();
    *args.last_mut().unwrap() = "fourth";
    let said = refused(&root, &args);
    assert!(
        said.contains("--data") && said.contains(&format!("photos (relative to {})", text(&root))),
        "{said}"
    );
    for command in [
        &["eval", "--weights", "runs/train/last.safetensors"][..],
        &["train", "--resume", "--out", "runs/train"],
        &["features", "--weights", "runs/train/last.safetensors", "--out", "features"],
    ] {
        let said = refused(&root, command);
        assert!(said.contains("--data") && said.contains(text(&whole)), "{command:?}: {said}");
    }
    accepted(&root, &["train", "--resume", "--out", "runs/train", "--data", "moved"]);
}
