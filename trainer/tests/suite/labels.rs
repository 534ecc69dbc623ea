//! Labels of shards: the intended one, or an error that shows it.

use crate::common::Rendered;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::common::shards::{jpeg, tar_of};
use efficienttrain::data::{
    DEFAULT_IMAGE_LIMIT, ImageFolder, SkipReason, Skipped, Source, Split, TarShards, open_all, open_split,
};
use rand::RngExt;
use randaug::{Purpose, sample_rng};

const LIMIT: u64 = DEFAULT_IMAGE_LIMIT;

fn open(entries: &[(&str, &[u8])], classes: Option<&str>) -> Result<std::sync::Arc<dyn Source>, String> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("train-0.tar"), tar_of(entries)).unwrap();
    if let Some(classes) = classes {
        std::fs::write(dir.path().join("classes.txt"), classes).unwrap();
    }
    open_split(dir.path(), Split::Train, None, LIMIT).map_err(|e| e.rendered())
}

/// Returns the last part of each image's name, and the name of its class.
fn labeled(set: &dyn Source) -> Vec<(String, String)> {
    let name = |index: usize| set.name(index).rsplit([' ', '/']).next().unwrap().to_string();
    (0..set.len()).map(|i| (name(i), set.classes()[set.label(i) as usize].clone())).collect()
}

fn classes(set: &dyn Source) -> Vec<String> {
    labeled(set).into_iter().map(|(_, class)| class).collect()
}

fn count(skipped: &Skipped, reason: &SkipReason) -> usize {
    skipped.iter().filter(|of| of.reason == *reason).map(|of| of.files).sum()
}

#[test]
fn the_label_of_an_image_has_its_stem() {
    let image = jpeg(9, 8, 8);
    let set = open(
        &[
            ("v2.00.jpg", &image),
            ("v2.00.cls", b"0"),
            ("v2.01.cls", b"1"),
            ("v2.01.jpg", &image),
            ("v2.cls", b"2"),
            ("v2.02.JPG", &image),
            ("x.y/a.b.jpg", &image),
            ("x.y/a.CLS", b"0\n"),
        ],
        None,
    );
    assert_eq!(classes(&*set.unwrap()), ["0", "1", "2", "0"]);
}

#[test]
fn two_labels_of_a_sample_are_an_error_that_names_both() {
    let image = jpeg(9, 8, 8);
    let of = |cls: &[u8], json: &[u8], classes| {
        let entries =
            [("1.json", json), ("1.jpg", &image[..]), ("1.cls", cls), ("2.jpg", &image), ("2.cls", b"0")];
        open(&entries, classes).map(|set| set.label(0))
    };
    assert_eq!(of(b"1", b"{\"label\": 1.0}", None), Ok(1));
    assert_eq!(of(b"1", b"{\"caption\": \"a cat\"}", None), Ok(1));
    assert_eq!(of(b"1", b"{\"label\": \"dog\"}", Some("cat\ndog\n")), Ok(1));
    for (json, classes) in [(&b"{\"label\": 2}"[..], None), (b"{\"label\": \"cat\"}", Some("cat\ndog\n"))] {
        let message = of(b"1", json, classes).unwrap_err();
        assert!(
            message.contains("1.jpg") || message.contains("1.cls") && message.contains("1.json"),
            "{message}"
        );
    }
    let entries = [("1.jpg", &image[..]), ("1.cls", b"0"), ("1.cls", b"1")];
    let message = open(&entries, None).err().unwrap();
    assert!(message.contains("`1.cls`") && message.contains("`0`") && message.contains("`1`"), "{message}");
}

#[test]
fn a_label_file_is_the_label_and_never_the_folder() {
    let image = jpeg(9, 8, 8);
    let set = open(
        &[
            ("part0/0.jpg", &image),
            ("part0/0.json", br#"{"target": 1, "class_name": "dog"}"#),
            ("part0/1.jpg", &image),
            ("part0/1.json", b"0"),
            ("part1/2.jpg", &image),
            ("part1/2.json", br#"{"label": 2.0}"#),
            ("part1/3.jpg", &image),
            ("part1/3.json", br#"{"label": "1"}"#),
        ],
        None,
    );
    assert_eq!(classes(&*set.unwrap()), ["1", "0", "2", "1"]);
    let refused: [(&str, &[u8], &str); 14] = [
        ("json", br#"{"text": "x"}"#, "\"text\""),
        ("json", br#"{"label": -1}"#, "-1"),
        ("json", br#"{"label": 1.5}"#, "1.5"),
        ("json", br#"{"label": null}"#, "null"),
        ("json", br#"{"label": {"id": 3}}"#, "\"id\""),
        ("json", br#"{"label": 1e12}"#, "1000000000000"),
        ("json", br#"{"label": "-3"}"#, "-3"),
        ("json", b"{", "not JSON"),
        ("cls", b"", "empty"),
        ("cls", b"\x03\0\0\0", "\\x03"),
        ("cls", b"\x80\x04\x95", "\\x80"),
        ("cls", b"-1", "-1"),
        ("cls", b"0.5", "0.5"),
        ("cls", b"99999999999999", "99999999999999"),
    ];
    for (ending, bytes, shown) in refused {
        let name = format!("part0/0.{ending}");
        let message = open(&[("part0/0.jpg", &image), (&name, bytes)], None).err().unwrap();
        assert!(message.contains(shown) && message.contains("expected"), "{message}");
        assert!(message.contains("part0/0."), "{message}");
        assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
    }
    // If other images have labels, an image without one does not belong to the class of its folder.
    let message = open(&[("a/0.jpg", &image), ("a/0.cls", b"b"), ("a/1.jpg", &image)], None).err().unwrap();
    assert!(message.contains("a/1.jpg") && message.contains("no label"), "{message}");
}

#[test]
fn a_sample_has_one_image() {
    let image = jpeg(9, 8, 8);
    let entries = [
        ("0.mask.png", &b"mask"[..]),
        ("0.jpg", &image),
        ("0.cls", b"1"),
        ("1.left.jpg", &image),
        ("1.right.jpg", &image),
        ("1.cls", b"0"),
        ("2.jpg", &image),
        ("2.png", &image),
        ("2.cls", b"0"),
        ("3.cls", b"0"),
        ("notes.txt", b"x"),
    ];
    let set = open(&entries, None).unwrap();
    let names: Vec<String> = labeled(&*set).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.jpg", "1.left.jpg", "2.jpg"]);
    let skipped = set.skipped();
    assert_eq!((count(&skipped, &SkipReason::ExtraImage), count(&skipped, &SkipReason::LabelAlone)), (3, 1));
    assert_eq!(count(&skipped, &SkipReason::Ending { ending: "txt".into() }), 1);
}

#[test]
fn an_ambiguous_name_is_no_label() {
    let image = jpeg(9, 8, 8);
    let of = |label: &[u8]| open(&[("0.jpg", &image), ("0.cls", label)], Some("crane\ndog\ncrane\n"));
    assert_eq!(of(b"2").unwrap().label(0), 2);
    assert_eq!(of(b"dog").unwrap().label(0), 1);
    let message = of(b"crane").err().unwrap();
    assert!(message.contains("`crane`") && message.contains("several classes"), "{message}");
}

#[test]
fn a_number_is_a_position_and_says_so() {
    let image = jpeg(9, 8, 8);
    let of = |label: &[u8]| open(&[("0.jpg", &image), ("0.cls", label)], Some("3\n5\n7\n"));
    assert_eq!(of(b"2").unwrap().label(0), 2);
    let message = of(b"3").err().unwrap();
    assert!(message.contains("from 0 to 2") && message.contains("write 0"), "{message}");
    let json = |label: &[u8]| open(&[("0.jpg", &image), ("0.json", label)], Some("3\n5\n7\n"));
    assert_eq!(json(b"\"7\"").unwrap().label(0), 2);
}

#[test]
fn numbers_are_positions_in_the_list_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(9, 8, 8);
    for (split, list) in [("train", "cat\ndog\n"), ("val", "dog\ncat\n")] {
        let folder = dir.path().join(split);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("0.tar"), tar_of(&[("0.jpg", &image), ("0.cls", b"0")])).unwrap();
        std::fs::write(folder.join("classes.txt"), list).unwrap();
    }
    let sets = open_all(dir.path(), LIMIT).unwrap();
    assert_eq!((classes(&*sets[0].1), classes(&*sets[1].1)), (vec!["cat".into()], vec!["dog".to_string()]));
    assert_eq!((sets[1].1.label(0), sets[1].1.classes()[0].as_str()), (1, "cat"));
}

#[test]
fn hard_links_in_a_tar_are_files_and_other_links_are_counted() {
    let image = jpeg(9, 8, 8);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, target: Option<&str>, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_entry_type(kind);
        match target {
            Some(target) => tar.append_link(&mut header, name, target).unwrap(),
            None => tar.append_data(&mut header, name, bytes).unwrap(),
        }
    };
    add("cat/0.jpg", tar::EntryType::Regular, None, &image);
    add("dog/1.jpg", tar::EntryType::Link, Some("cat/0.jpg"), b"");
    add("dog/2.jpg", tar::EntryType::Symlink, Some("../cat/0.jpg"), b"");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    let set = TarShards::open(&[path], None, LIMIT).unwrap();
    assert_eq!(classes(&set), ["cat", "dog"]);
    assert_eq!(set.encoded(1).unwrap().unwrap(), image);
    assert_eq!(count(&set.skipped(), &SkipReason::NotRegular), 1);
}

/// Returns a random tree of class folders: paths and contents.
fn tree(rng: &mut impl rand::Rng, stray: bool) -> Vec<(String, Vec<u8>)> {
    let names = ["cat", "dog", "caf\u{e9}", "a.b", "n0", "7", "big cat"];
    let first = rng.random_range(0..names.len());
    let mut files = Vec::new();
    for class in 0..rng.random_range(2..5) {
        let class = names[(first + class) % names.len()];
        for file in 0..rng.random_range(1..6) {
            let below: Vec<&str> = (0..rng.random_range(0..3))
                .map(|_| ["cat", "x", "train", ".h", "@eaDir"][rng.random_range(0..5)])
                .collect();
            // The first one always exists, so that no class is empty.
            let below =
                if file == 0 { String::new() } else { below.into_iter().map(|f| format!("{f}/")).collect() };
            let ending = if file == 0 {
                "jpg"
            } else {
                ["png", "jpg", "mask.png", "txt", "GIF"][rng.random_range(0..5)]
            };
            files.push(format!("{class}/{below}{file}.{ending}"));
        }
    }
    if stray {
        files.extend(["beside.jpg".to_string(), "._cat.jpg".into(), "list.csv".into()]);
    }
    files.into_iter().map(|name| (name.clone(), name.into_bytes())).collect()
}

/// Returns content (the path), class and label of each image.
fn samples(set: &dyn Source) -> BTreeSet<(Vec<u8>, String, u32)> {
    let sample = |i: usize| {
        let label = set.label(i);
        (set.encoded(i).unwrap().unwrap(), set.classes()[label as usize].clone(), label)
    };
    let all: BTreeSet<_> = (0..set.len()).map(sample).collect();
    assert_eq!(all.len(), set.len());
    all
}

#[test]
fn folders_and_tar_files_of_them_are_the_same_set() {
    let mut rng = sample_rng(11, 0, 0, Purpose::Custom(0));
    let mut nested = 0;
    for round in 0..200 {
        let dir = tempfile::tempdir().unwrap();
        let around = ["", "./", "train/", "./train/", "set/", "/data/set/"][round % 6];
        // With an image beside the wrapper's folders, the wrapper cannot be recognized.
        let mut files = tree(&mut rng, round % 6 < 4);
        for (name, bytes) in &files {
            let path = dir.path().join("train").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        rand::seq::SliceRandom::shuffle(&mut files[..], &mut rng);
        let shards = files.chunks(files.len().div_ceil(1 + round % 2));
        let shards: Vec<PathBuf> =
            shards.enumerate().map(|(i, files)| shard(dir.path(), i, around, files)).collect();
        let folder = ImageFolder::open(&dir.path().join("train")).unwrap();
        let tar = TarShards::open(&shards, None, LIMIT).unwrap();
        assert_eq!(
            (folder.classes(), samples(&folder)),
            (tar.classes(), samples(&tar)),
            "{around} {files:?}"
        );
        for reason in [SkipReason::OutsideClass, SkipReason::Ending { ending: "csv".into() }] {
            assert_eq!(
                count(&folder.skipped(), &reason),
                count(&tar.skipped(), &reason),
                "{around} {files:?}"
            );
        }
        // Like the second split of a set with one more class, in another order.
        let mut known: Vec<String> = folder.classes().to_vec();
        known.push("other".into());
        known.reverse();
        let folder = ImageFolder::open_like(&dir.path().join("train"), &known).unwrap();
        let tar = TarShards::open(&shards, Some(known), LIMIT).unwrap();
        assert_eq!(samples(&folder), samples(&tar), "{around} {files:?}");
        nested += usize::from(files.iter().any(|(name, _)| name.split('/').count() > 2));
    }
    assert!(nested > 100, "{nested}");
}

fn shard(dir: &Path, number: usize, around: &str, files: &[(String, Vec<u8>)]) -> PathBuf {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        // Unchanged, with `./` and with a leading `/`, which the library would remove.
        let name = format!("{around}{name}");
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, &bytes[..]).unwrap();
    }
    let path = dir.join(format!("shard-{number}.tar"));
    std::fs::write(&path, tar.into_inner().unwrap()).unwrap();
    path
}
