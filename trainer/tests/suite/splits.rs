//! Splits of a data set: found by the names of folders and files, complete, and never mixed up.

use crate::common::Rendered;
use std::path::Path;

use crate::common::shards::{cifar, jpeg, tar_of};
use efficienttrain::Sources;
use efficienttrain::config::TrainConfig;
use efficienttrain::data::{
    DEFAULT_IMAGE_LIMIT, ShardIndex, Source, Split, TarShards, empty_classes, open_all, open_for_evaluation,
    open_split,
};

const LIMIT: u64 = DEFAULT_IMAGE_LIMIT;

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A shard of one image, whose label is `class`.
fn shard(class: &str) -> Vec<u8> {
    tar_of(&[("0.jpg", &jpeg(9, 8, 8)), ("0.cls", class.as_bytes())])
}

/// Names of the shards of a split.
fn shards(dir: &Path, split: Split) -> Result<Vec<String>, String> {
    let set = open_split(dir, split, None, LIMIT).map_err(|e| e.rendered())?;
    let name = |i| set.name(i).rsplit('/').next().unwrap().split(':').next().unwrap().to_string();
    Ok((0..set.len()).map(name).collect())
}

#[test]
fn splits_are_recognized_anywhere_in_names() {
    for (train, val) in [
        ("imagenet1k-train-0000.tar", "imagenet1k-validation-0000.tar"),
        ("cifar10-train-0.tar", "cifar10-test-0.tar"),
        ("x_train_000.tar", "x_val_000.tar"),
        ("Train000.TAR", "Val000.TAR"),
        ("data/train-0.tar", "data/test-0.tar"),
        ("plain_text/train-00000-of-00001.tar", "plain_text/test-00000-of-00001.tar"),
        ("default/train/0.tar", "default/test/0.tar"),
        ("TRAIN/0.tar", "Validation/0.tar"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        write(&dir.path().join(train), &shard("0"));
        write(&dir.path().join(val), &shard("1"));
        let name = |path: &str| vec![path.rsplit('/').next().unwrap().to_string()];
        assert_eq!(shards(dir.path(), Split::Train), Ok(name(train)));
        assert_eq!(shards(dir.path(), Split::Val), Ok(name(val)));
        let sets = open_all(dir.path(), LIMIT).map_err(|e| e.rendered());
        // The training images alone would have only one class.
        assert!(sets.is_err(), "{train}");
    }
}

#[test]
fn validation_shards_are_never_trained_on() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a-train-0.tar", "a-val-0.tar", "a-test-0.tar", "extra-0.tar"] {
        write(&dir.path().join(name), &shard("0"));
    }
    assert_eq!(shards(dir.path(), Split::Train), Ok(vec!["a-train-0.tar".into()]));
    assert_eq!(shards(dir.path(), Split::Val), Ok(vec!["a-val-0.tar".into()]));
    let left_out = |split| open_split(dir.path(), split, None, LIMIT).unwrap().skipped().to_string();
    assert!(left_out(Split::Train).contains("extra-0.tar"), "{}", left_out(Split::Train));
    assert!(left_out(Split::Val).contains("a-test-0.tar"), "{}", left_out(Split::Val));
    // In a separate folder, too.
    write(&dir.path().join("b/train/x-0.tar"), &shard("0"));
    write(&dir.path().join("b/train/x-val-0.tar"), &shard("0"));
    assert_eq!(shards(&dir.path().join("b"), Split::Train), Ok(vec!["x-0.tar".into()]));
    std::fs::remove_file(dir.path().join("a-train-0.tar")).unwrap();
    let message = shards(dir.path(), Split::Train).unwrap_err();
    assert!(message.contains("`train-extra-0.tar`") && !message.contains("--val-share"), "{message}");
    let pretrain = TrainConfig { data: Some(dir.path().into()), ..TrainConfig::default() };
    let held = Sources::open(&TrainConfig { val_share: Some(0.5), ..pretrain }).err().unwrap().rendered();
    assert!(held.contains("val split"), "{held}");
}

#[test]
fn shards_whose_names_say_no_split_are_one() {
    let dir = tempfile::tempdir().unwrap();
    for (name, class) in [("000.tar", "0"), ("001.tar", "2"), ("002.tar", "0"), ("003.tar", "2")] {
        write(&dir.path().join(name), &shard(class));
    }
    let sets = open_all(dir.path(), LIMIT).unwrap();
    assert_eq!((sets.len(), sets[0].0.as_str(), sets[0].1.len()), (1, "all", 4));
    let config =
        TrainConfig { data: Some(dir.path().into()), val_share: Some(0.5), ..TrainConfig::default() };
    let set = Sources::open(&config).unwrap();
    assert_eq!((set.train.len(), set.val.len()), (2, 2));
    // A number without images is a class without images in both parts.
    assert_eq!(empty_classes(&*set.val), ["1"]);
}

#[test]
fn joined_tar_files_are_read_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let image = jpeg(9, 8, 8);
    let part = |class: &[u8]| tar_of(&[("0.jpg", &image), ("0.cls", class)]);
    // Names and labels start again in each part.
    let joined = [part(b"0"), part(b"1"), vec![0; 9000 / 512 * 512], part(b"2"), vec![0; 10240]].concat();
    std::fs::write(&path, &joined).unwrap();
    let set = TarShards::open(std::slice::from_ref(&path), None, LIMIT).unwrap();
    assert_eq!((0..set.len()).map(|i| set.label(i)).collect::<Vec<_>>(), [0, 1, 2]);
    assert!((0..3).all(|i| set.encoded(i).unwrap().unwrap() == image));
    for rest in [&b"x"[..], &[b'x'; 512], &part(b"3")[..700]] {
        std::fs::write(&path, [&joined[..], rest].concat()).unwrap();
        let message = ShardIndex::open(&path).unwrap_err().rendered();
        assert!(message.contains("a.tar") && message.contains("end of a tar file"), "{message}");
    }
}

#[test]
fn files_that_are_missing_by_the_names_of_others_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for number in [0, 1, 3] {
        write(&dir.path().join(format!("data/train-{number:05}-of-00005.tar")), &shard("0"));
    }
    let message = shards(dir.path(), Split::Train).unwrap_err();
    assert!(
        message.contains("train-00002-of-00005") && message.contains("train-00004-of-00005"),
        "{message}"
    );
}

#[test]
fn a_cifar_batch_that_is_missing_or_short_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for number in [1, 2, 4, 5] {
        write(&dir.path().join(format!("data_batch_{number}.bin")), &cifar(&[&[3], &[9]]));
    }
    let message = || open_split(dir.path(), Split::Train, None, LIMIT).err().map(|e| e.rendered());
    assert!(message().unwrap().contains("data_batch_3.bin"));
    write(&dir.path().join("data_batch_3.bin"), &cifar(&[&[3]]));
    let said = message().unwrap();
    assert!(said.contains("data_batch_3.bin") && said.contains("cut off"), "{said}");
    write(&dir.path().join("data_batch_3.bin"), &cifar(&[&[3], &[0]]));
    assert_eq!(message(), None);
    write(&dir.path().join("data_batch_6.bin"), b"x");
    let skipped = open_split(dir.path(), Split::Train, None, LIMIT).unwrap().skipped().to_string();
    assert!(skipped.contains("data_batch_6.bin") && skipped.starts_with("1 file"), "{skipped}");
    // The classes of another model are matched by name.
    write(&dir.path().join("test_batch.bin"), &cifar(&[&[3]]));
    let mut classes: Vec<String> =
        open_split(dir.path(), Split::Val, None, LIMIT).unwrap().classes().to_vec();
    classes.reverse();
    let set = open_for_evaluation(dir.path(), &classes, LIMIT).unwrap();
    assert_eq!((set.label(0), set.classes()[6].as_str()), (6, "cat"));
    assert!(open_for_evaluation(dir.path(), &classes[..9], LIMIT).is_err());
}

/// Folder names of Kaggle's sets, another folder beside the splits, and a class named like a split.
#[test]
fn folders_of_splits_are_told_from_those_of_classes() {
    let images = |names: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| write(&dir.path().join(name), &jpeg(9, 8, 8)));
        dir
    };
    for (train, val) in [("Training", "Testing"), ("train_images", "val_images"), ("trainset", "valset")] {
        let paths = [train, val].map(|split| ["a", "b"].map(|class| format!("{split}/{class}/0.jpg")));
        let dir = images(&paths.as_flattened().iter().map(String::as_str).collect::<Vec<_>>());
        for (split, name) in [(Split::Train, train), (Split::Val, val)] {
            let set = open_split(dir.path(), split, None, LIMIT).unwrap();
            assert_eq!((set.len(), set.classes()), (2, &["a".to_string(), "b".into()][..]));
            assert!(set.name(0).contains(name), "{}", set.name(0));
        }
    }
    let dir = images(&["train/a/0.jpg", "val/a/0.jpg", "dog/0.jpg", "test/a/0.jpg"]);
    let train = open_split(dir.path(), Split::Train, None, LIMIT).unwrap();
    assert_eq!(train.skipped().files(), 2, "{}", train.skipped());
    // Vehicles.
    let dir = images(&["bus/0.jpg", "car/0.jpg", "train/0.jpg"]);
    let sets = open_all(dir.path(), LIMIT).unwrap();
    assert_eq!((sets.len(), sets[0].1.classes().len(), sets[0].1.len()), (1, 3, 3));
}

/// Names that are not UTF-8 stay distinct.
#[test]
fn names_of_any_bytes_stay_apart_in_shards() {
    let entry = |name: &[u8], bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        let padding = vec![0; bytes.len().next_multiple_of(512) - bytes.len()];
        [header.as_bytes(), bytes, &padding].concat()
    };
    let image = jpeg(9, 8, 8);
    let tar = [entry(b"caf\xe9/0.jpg", &image), entry(b"caf\xe8/0.jpg", &image), vec![0; 1024]].concat();
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("x.tar"), &tar);
    let set = TarShards::open(&[dir.path().join("x.tar")], None, LIMIT).unwrap();
    assert_eq!((set.len(), set.classes().len()), (2, 2));
}
