//! Shards that the package `webdataset` has written (`tests/data/webdataset`).

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::common::Rendered;
use efficienttrain::data::{DEFAULT_IMAGE_LIMIT, Source, TarShards};
use flate2::read::GzDecoder;

/// Number of samples of each shard.
const COUNT: usize = 6;

fn compressed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/webdataset").join(format!("{name}.tar.gz"))
}

fn open(name: &str) -> Result<TarShards, String> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(compressed(name)).unwrap()).read_to_end(&mut bytes).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    std::fs::write(&path, bytes).unwrap();
    let set = TarShards::open(&[path], None, DEFAULT_IMAGE_LIMIT).map_err(|e| e.rendered())?;
    assert_eq!(set.len(), COUNT, "{name}");
    for i in 0..COUNT {
        let image = set.load(i).unwrap();
        // Lossy formats are off by a little.
        let far = |color: [u8; 3]| color.iter().zip([40 * i as u8, 100, 200]).any(|(a, b)| a.abs_diff(b) > 6);
        assert!(image.dimensions() == (8, 8) && !image.pixels().any(|pixel| far(pixel.0)), "{name}: {i}");
        assert_eq!(set.classes()[set.label(i) as usize], (i % 3).to_string(), "{name}: {i}");
    }
    Ok(set)
}

#[test]
fn shards_of_webdataset_are_read_with_their_labels() {
    let names = [
        "cls",
        "folders",
        "class-folders",
        "json",
        "cls-json",
        "cls-txt",
        "dots",
        "two-images",
        "upper",
        "long",
        "ppm",
        "webp",
    ];
    let skipped: BTreeMap<&str, usize> =
        names.into_iter().map(|name| (name, open(name).unwrap().skipped().files())).collect();
    // The masks beside the images.
    assert!(
        skipped.iter().all(|(name, files)| *files == if *name == "two-images" { COUNT } else { 0 }),
        "{skipped:?}"
    );
}

#[test]
fn labels_that_match_no_image_are_not_replaced_by_folders() {
    let message = open("other-name").unwrap_err();
    assert!(
        message.contains("part0/000000.target.cls") && message.contains("belongs to no image"),
        "{message}"
    );
}

#[test]
fn compressed_shards_are_refused_with_what_to_do() {
    let message = TarShards::open(&[compressed("cls")], None, DEFAULT_IMAGE_LIMIT).unwrap_err().rendered();
    assert!(message.contains("cls.tar.gz") && message.contains("gunzip"), "{message}");
}
