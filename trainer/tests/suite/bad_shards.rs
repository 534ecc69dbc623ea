//! Damaged shards and CIFAR files: the result is an error that names the file, or a set that can be
//! read, never a panic.

use std::path::Path;

use efficienttrain::data::{Cifar, DEFAULT_IMAGE_LIMIT, ShardIndex, Source, TarShards, open_all};
use rand::RngExt;
use randaug::{Purpose, sample_rng};

use crate::common::Rendered;
use crate::common::shards::{cifar, jpeg, tar_of, webdataset};

#[test]
fn shards_cut_off_anywhere_name_the_last_complete_entry() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("whole.tar");
    let whole = webdataset(&path, &["0", "1", "2"]);
    let index = ShardIndex::open(&path).unwrap();
    let data_end = (index.images[2].offset + index.images[2].length) as usize;
    let mut named = std::collections::BTreeSet::new();
    for length in (0..whole.len() - 1024).step_by(37).chain([whole.len() - 1024, data_end, data_end + 1]) {
        let cut = dir.path().join("cut.tar");
        std::fs::write(&cut, &whole[..length]).unwrap();
        let message = ShardIndex::open(&cut).unwrap_err().rendered();
        assert!(message.contains("cut.tar") && message.contains("cut off"), "{length}: {message}");
        named.extend(
            message.split('`').nth(1).filter(|n| message.contains(&format!("after `{n}`"))).map(String::from),
        );
    }
    assert!(named.contains("000000.jpg") && named.contains("000002.cls"), "{named:?}");
}

#[test]
fn changed_bytes_of_shards_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let whole = webdataset(&dir.path().join("a.tar"), &["0", "1", "2"]);
    let mut rng = sample_rng(2, 0, 0, Purpose::Custom(0));
    let (mut refused, mut read) = (0, 0);
    for round in 0..20_000 {
        let mut changed = whole.clone();
        for _ in 0..rng.random_range(1..4) {
            let block = rng.random_range(0..changed.len() / 512) * 512;
            changed[block + rng.random_range(0..512)] = rng.random_range(0..=255);
            if round % 2 == 0 {
                seal(&mut changed[block..block + 512]);
            }
        }
        let size = changed.len() as u64;
        match ShardIndex::scan(std::io::Cursor::new(changed), size, Path::new("a.tar")) {
            Ok(index) => {
                assert!(
                    index.images.iter().all(|i| i.offset + i.length <= size),
                    "an image outside the shard"
                );
                read += 1;
            }
            Err(error) => {
                assert!(error.rendered().contains("a.tar"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 2000 && read > 2000, "{refused} refused, {read} read");
}

#[test]
fn changed_bytes_of_kept_indexes_do_no_harm() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    let kept = dir.path().join("a.tar.index.json");
    webdataset(&path, &["0", "1", "2"]);
    ShardIndex::open(&path).unwrap();
    let text = std::fs::read(&kept).unwrap();
    let mut rng = sample_rng(3, 0, 0, Purpose::Custom(0));
    let (mut used, mut loaded, mut broken) = (0, 0, 0);
    for _ in 0..400 {
        let mut changed = text.clone();
        let at = rng.random_range(0..changed.len());
        // Mostly digits, so that the text remains an index.
        changed[at] =
            if rng.random_bool(0.7) { rng.random_range(b'0'..=b'9') } else { rng.random_range(0..=255) };
        std::fs::write(&kept, &changed).unwrap();
        let Ok(set) = TarShards::open(std::slice::from_ref(&path), None, DEFAULT_IMAGE_LIMIT) else {
            continue;
        };
        used += usize::from(std::fs::read(&kept).unwrap() == changed);
        for index in 0..set.len() {
            if set.load(index).is_ok() { loaded += 1 } else { broken += 1 }
        }
    }
    // Some changes leave a valid index that points to bytes that are not an image.
    assert!(used > 20 && loaded > 500 && broken > 10, "{used} used, {loaded} loaded, {broken} broken");
}

/// Corrects the checksum of a changed header, so that the data after it are read.
fn seal(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

#[test]
fn shards_without_images_or_labels_say_what_was_expected() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(9, 8, 8);
    let message = |entries: &[(&str, &[u8])]| {
        let path = dir.path().join(format!("{}.tar", own_name(entries)));
        std::fs::write(&path, tar_of(entries)).unwrap();
        open_all(&path, DEFAULT_IMAGE_LIMIT).err().map(|e| e.rendered()).unwrap_or_default()
    };
    assert!(message(&[]).contains("no image"));
    assert!(message(&[("1.jpg", &image)]).contains("1.cls"));
    assert!(message(&[("1.jpg", &image), ("1.json", b"{")]).contains("1.json"));
    assert!(message(&[("1.jpg", &image), ("1.cls", b"4294967295")]).contains("4294967295"));
    let mixed = message(&[("1.jpg", &image), ("1.cls", b"1"), ("2.jpg", &image), ("2.cls", b"cat")]);
    assert!(mixed.contains("classes.txt") && mixed.contains("cat"), "{mixed}");
}

/// Returns a unique name for each list of entries, so that they do not share an index.
fn own_name(entries: &[(&str, &[u8])]) -> String {
    let parts: String = entries.iter().map(|(name, bytes)| format!("-{name}-{}", bytes.len())).collect();
    format!("shard{}", parts.replace('.', ""))
}

#[test]
fn cifar_files_that_are_cut_off_or_of_another_kind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data_batch_1.bin");
    let whole = cifar(&[&[3], &[9]]);
    for length in [0, 1, 3072, 3074, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = Cifar::open(std::slice::from_ref(&path)).unwrap_err().rendered();
        assert!(message.contains("data_batch_1.bin") && message.contains("3073"), "{message}");
    }
    std::fs::write(&path, cifar(&[&[3], &[10]])).unwrap();
    let message = Cifar::open(&[path]).unwrap_err().rendered();
    assert!(message.contains("image 1") && message.contains("label 10"), "{message}");
}
