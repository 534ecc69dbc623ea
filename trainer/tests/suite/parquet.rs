//! Hugging Face's Parquet files: correct images and labels from every encoding.

use crate::common::Rendered;
use std::path::{Path, PathBuf};

use efficienttrain::Sources;
use efficienttrain::config::{InputChannels, TrainConfig};
use efficienttrain::data::{
    DEFAULT_IMAGE_LIMIT, PackOptions, ParquetFiles, Source, Split, check, open_all, open_split, pack, stats,
};
use image::RgbImage;
use rand::RngExt;
use randaug::{Purpose, sample_rng};

const LIMIT: u64 = DEFAULT_IMAGE_LIMIT;
/// Number of images in a file, and its classes, as in `make.py`.
const COUNT: usize = 8;
const NAMES: [&str; 3] = ["zebra", "ant", "mole"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/parquet")
}

fn open(path: &Path) -> Result<ParquetFiles, String> {
    ParquetFiles::open(&[path.into()], None, LIMIT).map_err(|e| e.rendered())
}

fn named(name: &str) -> ParquetFiles {
    open(&folder().join(format!("{name}.parquet"))).unwrap()
}

/// Returns the files of one folder of fixtures.
fn files(kind: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder().join(kind)).unwrap().map(|e| e.unwrap().path());
    let mut files: Vec<_> = entries.filter(|p| p.is_file()).collect();
    files.sort();
    files
}

fn image(number: usize) -> RgbImage {
    image::open(folder().join(format!("pictures/{number}.png"))).unwrap().into_rgb8()
}

fn labels(set: &dyn Source) -> Vec<u32> {
    (0..set.len()).map(|i| set.label(i)).collect()
}

fn refusal(name: &str) -> String {
    open(&folder().join(format!("refused/{name}.parquet"))).unwrap_err()
}

/// Checks that the set consists of the images from the first on, each with the label of its number.
fn is_the_set(set: &dyn Source, what: &str) {
    assert_eq!(labels(set), [0, 1, 2, 0, 1, 2, 0, 1], "{what}");
    // Backwards, so that the cache of one read does not serve the next.
    for index in (0..COUNT).rev() {
        assert!(set.load(index).unwrap() == image(index), "{what}: image {index}");
    }
    for index in 0..COUNT {
        let bytes = set.encoded(index).unwrap().unwrap();
        assert!(bytes == std::fs::read(folder().join(format!("pictures/{index}.png"))).unwrap(), "{what}");
    }
}

#[test]
fn every_coding_gives_the_same_images() {
    let files = files("coded");
    assert_eq!(files.len(), 16);
    for path in files {
        let set = open(&path).unwrap();
        assert_eq!(set.classes(), NAMES, "{path:?}");
        is_the_set(&set, path.to_str().unwrap());
    }
}

#[test]
fn a_set_of_the_hub_is_found() {
    let config = TrainConfig { data: Some(folder().join("hub")), ..TrainConfig::default() };
    let set = Sources::open(&config).unwrap();
    is_the_set(&*set.train, "train");
    assert_eq!((set.train.classes(), set.val.classes()), (&NAMES.map(String::from)[..], set.train.classes()));
    assert_eq!(labels(&*set.val), [0, 1]);
    assert!(set.train.name(6).ends_with("train-00001-of-00002.parquet: row 1"), "{}", set.train.name(6));
}

#[test]
fn splits_are_found_where_the_hub_puts_them() {
    let hub = folder().join("hub/data");
    for layout in [
        ["plain_text/train-00000-of-00002-1a2b.parquet", "plain_text/train-00001-of-00002-3c4d.parquet"],
        ["default/train/0000.parquet", "default/train/0001.parquet"],
        ["my_train_0.parquet", "my_train_1.parquet"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (number, name) in layout.iter().enumerate() {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(hub.join(format!("train-0000{number}-of-00002.parquet")), path).unwrap();
        }
        is_the_set(&*open_split(dir.path(), Split::Train, None, LIMIT).unwrap(), layout[0]);
        std::fs::remove_file(dir.path().join(layout[0])).unwrap();
        let left = open_split(dir.path(), Split::Train, None, LIMIT).map(|set| set.len());
        match layout[0].contains("-of-") {
            true => assert!(left.unwrap_err().rendered().contains("train-00000-of-00002")),
            false => assert_eq!(left.unwrap(), 3),
        }
    }
}

#[test]
fn columns_are_told_by_name_and_description() {
    for (name, classes) in [("binary", ["0", "1", "2"]), ("required", ["0", "1", "2"]), ("described", NAMES)]
    {
        let set = named(&format!("columns/{name}"));
        assert_eq!(set.classes(), classes, "{name}");
        is_the_set(&set, name);
    }
    let strings = named("columns/strings");
    assert_eq!(strings.classes(), ["ant", "mole", "zebra"]);
    assert_eq!(labels(&strings), [2, 0, 1, 2, 0, 1, 2, 0]);
    for name in ["large", "categories"] {
        let set = named(&format!("columns/{name}"));
        assert_eq!((set.classes(), labels(&set)), (strings.classes(), labels(&strings)), "{name}");
        assert!((0..COUNT).all(|i| set.load(i).unwrap() == image(i)), "{name}");
    }
    is_the_set(&named("columns/decimals"), "decimals");
    let repeated = named("columns/repeated");
    let images: Vec<_> = (0..COUNT).map(|i| repeated.load(i).unwrap()).collect();
    assert!(images == [0, 1, 0, 0, 1, 0, 2, 0].map(image));
}

#[test]
fn classes_of_another_set_are_met_by_name() {
    let path = folder().join("coded/one-page.parquet");
    let with = |classes: &[&str]| {
        let classes = classes.iter().map(|c| c.to_string()).collect();
        ParquetFiles::open(std::slice::from_ref(&path), Some(classes), LIMIT)
    };
    assert_eq!(labels(&with(&["ant", "cow", "mole", "zebra"]).unwrap())[..3], [3, 0, 2]);
    let message = with(&["ant", "zebra"]).unwrap_err().rendered();
    assert!(message.contains("one-page.parquet: row 2") && message.contains("mole"), "{message}");
    // Numbers without a list are positions in the list.
    let numbers = folder().join("columns/binary.parquet");
    let set = ParquetFiles::open(&[numbers], Some(NAMES.map(String::from).into()), LIMIT).unwrap();
    is_the_set(&set, "numbers");
}

#[test]
fn a_list_beside_the_files_names_the_classes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(folder().join("columns/strings.parquet"), dir.path().join("train.parquet")).unwrap();
    std::fs::write(dir.path().join("classes.txt"), "mole\nyak\nzebra\nant\n").unwrap();
    let set = open_split(dir.path(), Split::Train, None, LIMIT).unwrap();
    assert_eq!((labels(&*set)[..3].to_vec(), set.classes().len()), (vec![2, 3, 0], 4));
    std::fs::copy(folder().join("coded/one-page.parquet"), dir.path().join("train-2.parquet")).unwrap();
    let set = open_split(dir.path(), Split::Train, None, LIMIT).unwrap();
    assert_eq!(labels(&*set)[COUNT..COUNT + 3], [2, 3, 0]);
}

#[test]
fn files_of_one_split_have_the_same_classes() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(folder().join("coded/one-page.parquet")).unwrap();
    let other = String::from_utf8_lossy(b"zebra").to_string();
    let mut changed = whole.clone();
    let at = |bytes: &[u8]| bytes.windows(other.len()).rposition(|w| w == other.as_bytes()).unwrap();
    let place = at(&whole);
    changed[place..place + 5].copy_from_slice(b"sheep");
    let paths = ["a.parquet", "b.parquet"].map(|name| dir.path().join(name));
    std::fs::write(&paths[0], whole).unwrap();
    std::fs::write(&paths[1], changed).unwrap();
    let message = ParquetFiles::open(&paths, None, LIMIT).unwrap_err().rendered();
    assert!(message.contains("b.parquet") && message.contains("a.parquet"), "{message}");
}

#[test]
fn what_cannot_be_used_says_why() {
    let contains = |name: &str, parts: &[&str]| {
        let message = refusal(name);
        let file = format!("{name}.parquet");
        assert!(parts.iter().chain([&file.as_str()]).all(|part| message.contains(part)), "{message}");
    };
    contains("unlabeled", &["row 4", "`label`", "null"]);
    contains("negative", &["row 4", "-1"]);
    contains("beyond", &["row 3", "`3`", "3 classes"]);
    contains("decimal", &["row 3", "0.5"]);
    contains("gap", &["row 2", "NaN"]);
    contains("list-label", &["column of labels", "label.list"]);
    contains("paths", &["column of images", "paths alone", "`image.path`"]);
    contains("gzip", &["GZIP", "snappy", "row group 0"]);
    contains("no-image", &["column of images", "`text`"]);
    contains("no-label", &["column of labels", "fine_label", "`score`"]);
    contains("lists", &["column of images", "image.list"]);
    contains("empty", &["no row"]);
}

#[test]
fn an_image_that_is_null_is_named() {
    let set = named("refused/nulls");
    let found = check(&set);
    let broken: Vec<_> = found.broken.iter().map(|b| b.reason.as_str()).collect();
    assert_eq!((found.images, broken.len()), (6, 2));
    for (reason, row) in broken.iter().zip(["row 2", "row 5"]) {
        assert!(
            reason.contains("nulls.parquet") && reason.contains(row) && reason.contains("null"),
            "{reason}"
        );
    }
    for index in [0, 1, 3, 4, 6, 7] {
        assert!(set.load(index).unwrap() == image(index));
    }
}

#[test]
fn check_stats_and_pack_work_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut sets = open_all(&folder().join("hub"), LIMIT).unwrap();
    assert_eq!(sets.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["train", "val"]);
    let (_, set) = sets.remove(0);
    let found = check(&*set);
    assert_eq!((found.images, found.broken.len(), found.misnamed.len()), (COUNT, 0, 0));
    assert_eq!(found.classes.iter().map(|c| c.images).collect::<Vec<_>>(), [3, 3, 2]);
    let of_images = |channel: usize| {
        let sum = |p: RgbImage| p.pixels().map(|p| f64::from(p.0[channel])).sum::<f64>() / 120.0 / 255.0;
        (0..COUNT).map(image).map(sum).sum::<f64>() / COUNT as f64
    };
    let mean = stats(&*set, InputChannels::Rgb, None).unwrap().mean;
    assert!((0..3).all(|c| (mean[c] - of_images(c)).abs() < 1e-9), "{mean:?}");
    let packed =
        pack(&*set, dir.path(), "train", PackOptions { shards: 2, ..PackOptions::default() }).unwrap();
    assert_eq!((packed.images, packed.broken.len()), (COUNT, 0));
    let (_, tar) = open_all(dir.path(), LIMIT).unwrap().remove(0);
    let mut counts = [0; 3];
    labels(&*tar).into_iter().for_each(|l| counts[l as usize] += 1);
    assert_eq!(counts, [3, 3, 2]);
}

#[test]
fn many_threads_read_the_same_file() {
    let set = named("coded/snappy-v1-dictionary");
    let images: Vec<_> = (0..COUNT).map(image).collect();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (set, images) = (&set, &images);
            scope.spawn(move || {
                for step in 0..200 {
                    let index = (step * (thread + 1)) % COUNT;
                    assert!(set.load(index).unwrap() == images[index]);
                }
            });
        }
    });
}

/// Opens a damaged file and reads all of it; the result is an error that names it, or images.
fn read_damaged(path: &Path, bytes: &[u8]) -> (bool, usize) {
    std::fs::write(path, bytes).unwrap();
    match open(path) {
        Ok(set) => {
            let errors = (0..set.len()).filter_map(|i| set.load(i).err()).map(|e| e.rendered());
            let broken = errors.inspect(|e| assert!(e.contains("damaged.parquet: row"), "{e}")).count();
            (true, broken)
        }
        Err(message) => {
            assert!(message.contains("damaged.parquet"), "{message}");
            (false, 0)
        }
    }
}

#[test]
fn files_cut_off_anywhere_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.parquet");
    for file in [&files("coded")[..], &files("columns")].concat() {
        let whole = std::fs::read(&file).unwrap();
        for length in (0..whole.len()).step_by(29).chain(whole.len() - 12..whole.len()) {
            assert!(!read_damaged(&path, &whole[..length]).0, "{file:?} is opened from {length} bytes");
            // The middle is missing, so positions in the footer are wrong.
            let rest = [&whole[..length / 2], &whole[whole.len() / 2 + length / 2..]].concat();
            read_damaged(&path, &rest);
        }
        assert_eq!(read_damaged(&path, &whole), (true, 0));
    }
}

#[test]
fn changed_bytes_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.parquet");
    let mut rng = sample_rng(5, 0, 0, Purpose::Custom(0));
    let (mut refused, mut opened, mut broken) = (0, 0, 0);
    for file in [&files("coded")[..], &files("columns"), &files("refused")].concat() {
        let whole = std::fs::read(&file).unwrap();
        for round in 0..600 {
            let mut bytes = whole.clone();
            for _ in 0..rng.random_range(1..4) {
                // The footer is a small but the most important part.
                let from = if round % 2 == 0 { 0 } else { bytes.len() * 2 / 3 };
                let at = rng.random_range(from..bytes.len());
                bytes[at] = rng.random_range(0..=255);
            }
            let (is_open, images) = read_damaged(&path, &bytes);
            (refused, opened) = (refused + usize::from(!is_open), opened + usize::from(is_open));
            broken += images;
        }
    }
    assert!(
        refused > 2000 && opened > 2000 && broken > 1000,
        "{refused} refused, {opened} opened, {broken} broken"
    );
}
