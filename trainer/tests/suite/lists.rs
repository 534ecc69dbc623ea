//! Images whose classes are in CSV files.

use std::path::{Path, PathBuf};

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, image_folder, options, run};
use efficienttrain::Sources;
use efficienttrain::config::TrainConfig;

/// Eight images a split without class folders, and lists of them.
fn listed(dir: &Path, train: &str, val: &str) -> PathBuf {
    let folders = image_folder(&dir.join("folders"), 2, 4);
    let data = dir.join("data");
    for split in ["train", "val"] {
        std::fs::create_dir_all(data.join(split)).unwrap();
        for (class, image) in (0..2).flat_map(|class| (0..4).map(move |image| (class, image))) {
            let from = folders.join(format!("{split}/class{class}/{image:03}.jpg"));
            std::fs::copy(from, data.join(format!("{split}/{}.jpg", 4 * class + image))).unwrap();
        }
    }
    std::fs::write(data.join("train.csv"), train).unwrap();
    std::fs::write(data.join("val.csv"), val).unwrap();
    data
}

/// A row for each image: of a path by its number, and a label by its class.
fn rows(heading: &str, path: impl Fn(usize) -> String, label: impl Fn(usize) -> String) -> String {
    (0..8).fold(heading.to_string(), |text, i| text + &format!("{},{}\n", path(i), label(i / 4)))
}

fn sources(data: &Path) -> Result<Sources, efficienttrain::Error> {
    Sources::open(&TrainConfig { data: Some(data.into()), ..TrainConfig::default() })
}

#[test]
fn a_list_gives_the_classes_of_images_in_one_folder() {
    let dir = tempfile::tempdir().unwrap();
    // Paths from the list's folder or from that of the split, with and without a heading.
    let train = rows(
        "path,label\n",
        |i| format!("train/{i}.jpg"),
        |class| format!("\"class, {}\"", ["b", "a"][class]),
    );
    let val = rows("", |i| format!("{i}.jpg"), |class| format!("\"class, {}\"", ["b", "a"][class]));
    let data = listed(dir.path(), &train, &val);
    let sources = sources(&data).unwrap();
    assert_eq!(sources.train.classes(), ["class, a", "class, b"]);
    for set in [&sources.train, &sources.val] {
        let labels: Vec<u32> = (0..8).map(|i| set.label(i)).collect();
        assert_eq!(labels, [1, 1, 1, 1, 0, 0, 0, 0]);
    }
    assert!(sources.val.name(0).ends_with("val/0.jpg"));
    let given = TrainConfig { data: Some(data.clone()), batch: 4.into(), ..config("resnet10") };
    run(&given, options(&dir.path().join("run"), 2)).train(&mut ()).unwrap();
    let said = accepted(&["data", "check", text(&data.join("val.csv"))]);
    assert!(said.contains("8 images, 2 classes, 0 broken"), "{said}");
}

#[test]
fn numbers_are_classes_in_the_order_of_their_values() {
    let dir = tempfile::tempdir().unwrap();
    let list = rows("file,class\n", |i| format!("train/{i}.jpg"), |class| ["10", "9"][class].into());
    let data = listed(dir.path(), &list, "");
    std::fs::rename(data.join("train.csv"), data.join("images.csv")).unwrap();
    std::fs::remove_file(data.join("val.csv")).unwrap();
    std::fs::rename(data.join("val"), data.join("other")).unwrap();
    std::fs::rename(data.join("train"), data.join("photos")).unwrap();
    let text = std::fs::read_to_string(data.join("images.csv")).unwrap().replace("train/", "photos/");
    std::fs::write(data.join("images.csv"), text).unwrap();
    let given = TrainConfig { data: Some(data), val_share: Some(0.25), ..TrainConfig::default() };
    let sources = Sources::open(&given).unwrap();
    assert_eq!(sources.train.classes(), ["9", "10"]);
    assert_eq!((sources.train.len(), sources.val.len()), (6, 2));
}

#[test]
fn class_folders_go_before_a_list_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 4);
    std::fs::write(data.join("train.csv"), "id,breed\n0001,beagle\n").unwrap();
    assert_eq!(sources(&data).unwrap().train.classes(), ["class0", "class1"]);
}

#[test]
fn rows_that_cannot_be_used_are_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let good = rows("", |i| format!("train/{i}.jpg"), |class| class.to_string());
    let val = |label: &str| format!("val/0.jpg,{label}\n");
    for (number, (train, val, expected)) in [
        (format!("{good}train/9.jpg,1\n"), val("1"), "line 9: there is no file `train/9.jpg`"),
        (format!("path,label\n{good}train/1.jpg\n"), val("1"), "line 10: has 1 columns"),
        (format!("{good}train/1.jpg,1,2\n"), val("1"), "line 9: has 3 columns"),
        (format!("{good}train/1.jpg,\n"), val("1"), "line 9: has no label"),
        ("path,label\n".into(), val("1"), "has no images"),
        (good.clone(), val("7"), "line 1: label `7`"),
    ]
    .into_iter()
    .enumerate()
    {
        let data = listed(&dir.path().join(number.to_string()), &train, &val);
        let error = sources(&data).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let output = efficienttrain(&["data", "check", text(&dir.path().join("none.csv"))]);
    assert!(!output.status.success());
}
