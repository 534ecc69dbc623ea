//! `--images-per-class`: the same images for the same seed, also from the run's own file, and in
//! all runs of a comparison.

use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, image_folder, options, run};
use efficienttrain::Sources;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{ConfigLayers, TrainConfig};

/// Names of the training images of a configuration.
fn images(config: &TrainConfig) -> Vec<String> {
    let train = Sources::open(config).unwrap().train;
    (0..train.len()).map(|i| train.name(i)).collect()
}

fn on_three(data: &Path, seed: u64) -> TrainConfig {
    let images_per_class = Some("3".parse().unwrap());
    TrainConfig { data: Some(data.into()), images_per_class, seed, ..config("resnet10") }
}

#[test]
fn a_run_trains_on_its_part_and_can_be_repeated_and_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 8);
    let config = on_three(&data, 7);
    assert_eq!(images(&config).len(), 9);
    assert_ne!(images(&config), images(&on_three(&data, 8)));
    assert_eq!(Sources::open(&config).unwrap().val.len(), 24, "evaluation is on all images");

    let out = dir.path().join("run");
    run(&config, options(&out, 2)).train(&mut ()).unwrap();
    let repeated = ConfigLayers::new().file(&out.join("config.toml")).unwrap().resolve().unwrap().config;
    assert_eq!(images(&repeated), images(&config));
    let record = Checkpoint::open(&out.join("last.safetensors")).unwrap();
    let record = record.run().unwrap();
    assert_eq!((record.train_images, record.config.images_per_class), (9, config.images_per_class));
    let said = efficienttrain(&["train", "--resume", "--out", text(&out), "--images-per-class", "4"]);
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("--images-per-class 4 (the run has 3)"), "{said}");
}

#[test]
fn a_class_with_too_few_images_is_named_with_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(dir.path(), 3, 8);
    std::fs::remove_file(data.join("train/class1/000.jpg")).unwrap();
    for (n, expected) in [("8", &["class `class1` has 7", "ask for fewer"][..]), ("0", &["above 0"])] {
        let said = ["train", "--dry-run", "--data", text(&data), "--images-per-class", n];
        let said = String::from_utf8_lossy(&efficienttrain(&said).stderr).into_owned();
        assert!(said.contains("--images-per-class"), "{said}");
        expected.iter().for_each(|words| assert!(said.contains(words), "{said}"));
    }
}

#[test]
fn all_runs_of_a_comparison_have_the_same_images() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 8);
    let out = dir.path().join("out");
    let args =
        ["compare", "--data", text(&data), "--images-per-class", "4", "--seeds", "0,1", "--out", text(&out)];
    let small = [
        "--model",
        "resnet10",
        "--base-size",
        "32",
        "--batch",
        "4",
        "--epochs",
        "1",
        "--recipes",
        "baseline",
    ];
    accepted(&[&args[..], &small].concat());
    let of_seed = |seed: u64| {
        let file = out.join(format!("resnet10-baseline-seed{seed}/config.toml"));
        ConfigLayers::new().file(&file).unwrap().resolve().unwrap().config
    };
    assert_eq!((of_seed(0).seed, of_seed(1).seed), (0, 1));
    assert_eq!(images(&of_seed(0)), images(&of_seed(1)));
}
