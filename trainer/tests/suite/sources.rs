//! Every kind of data set, with correct images and labels.

use crate::common::Rendered;
use std::path::Path;

use crate::common::image_folder;
use crate::common::shards::{cifar, jpeg, tar_of, webdataset};
use efficienttrain::Sources;
use efficienttrain::config::{InputChannels, TrainConfig};
use efficienttrain::data::{
    DEFAULT_IMAGE_LIMIT, PackOptions, ShardIndex, Source, Split, TarShards, check, open_all, open_split,
    pack, read_image, stats, write_classes,
};

const LIMIT: u64 = DEFAULT_IMAGE_LIMIT;

fn sources(dir: &Path) -> Sources {
    Sources::open(&TrainConfig { data: Some(dir.into()), ..TrainConfig::default() }).unwrap()
}

/// Red level of an image's first pixel.
fn level(set: &dyn Source, index: usize) -> u8 {
    set.load(index).unwrap().get_pixel(0, 0).0[0]
}

fn labels(set: &dyn Source) -> Vec<u32> {
    (0..set.len()).map(|i| set.label(i)).collect()
}

#[test]
fn pixels_are_those_of_pillow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/images");
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let golden = entry.unwrap().path();
        let name = golden.file_name().unwrap().to_str().unwrap().to_string();
        let Some(image) = name.strip_suffix(".pixels.png") else { continue };
        let ours = read_image(&folder.join(image)).unwrap();
        let theirs = image::open(&golden).unwrap().into_rgb8();
        assert_eq!(ours.dimensions(), theirs.dimensions(), "{image}");
        let far = ours.as_raw().iter().zip(theirs.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // WebP decoders differ in their chroma interpolation.
        let allowed = if image == "lossy.webp" { 3 } else { 0 };
        assert!(far <= allowed, "{image}: {far} levels apart");
        seen += 1;
    }
    assert_eq!(seen, 31, "a image lacks its pixels");
}

#[test]
fn webdataset_shards_with_numbers() {
    let dir = tempfile::tempdir().unwrap();
    webdataset(&dir.path().join("train/a.tar"), &["2", "0\n"]);
    webdataset(&dir.path().join("train/b.tar"), &["1"]);
    webdataset(&dir.path().join("val/a.tar"), &["1"]);
    let set = sources(dir.path());
    assert_eq!(
        (labels(&*set.train), set.train.classes()),
        (vec![2, 0, 1], &["0", "1", "2"].map(String::from)[..])
    );
    assert_eq!((labels(&*set.val), set.val.classes().len()), (vec![1], 3));
    assert!(level(&*set.train, 0) < 6 && level(&*set.train, 1).abs_diff(20) < 6);
    assert!(set.train.name(1).ends_with("a.tar: 000001.jpg"), "{}", set.train.name(1));
}

#[test]
fn webdataset_shards_with_names_and_listed_classes() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(60, 8, 8);
    let json = br#"{"label": "dog", "size": 8}"#;
    let shard =
        tar_of(&[("x/1.json", json), ("x/1.seg.png", &image), ("x/2.cls", b"cat"), ("x/2.jpg", &image)]);
    std::fs::write(dir.path().join("train-000.tar"), &shard).unwrap();
    std::fs::write(dir.path().join("val-000.tar"), tar_of(&[("a/1.jpg", &image), ("a/1.cls", b"1")]))
        .unwrap();
    let set = sources(dir.path());
    assert_eq!(
        (labels(&*set.train), set.train.classes()),
        (vec![1, 0], &["cat", "dog"].map(String::from)[..])
    );
    assert_eq!(labels(&*set.val), [1]);
    std::fs::write(dir.path().join("classes.txt"), "dog\nbird\ncat\n").unwrap();
    let set = sources(dir.path());
    assert_eq!((labels(&*set.train), set.train.classes().len()), (vec![0, 2], 3));
    std::fs::write(dir.path().join("classes.txt"), "dog\nbird\n").unwrap();
    let message = open_split(dir.path(), Split::Train, None, LIMIT).err().unwrap().rendered();
    assert!(message.contains("cat") && message.contains("x/2.jpg"), "{message}");
}

#[test]
fn folders_in_a_tar_file() {
    let dir = tempfile::tempdir().unwrap();
    let long = format!("./set/cat/{}.jpeg", "long".repeat(60));
    let (a, b) = (jpeg(40, 8, 8), jpeg(80, 8, 8));
    let shard =
        tar_of(&[("./set/dog/1.v2.jpg", &a), (&long, &b), ("./set/dog/._1.jpg", b"x"), ("notes.txt", b"x")]);
    let path = dir.path().join("all.tar");
    std::fs::write(&path, shard).unwrap();
    let set = TarShards::open(&[path], None, LIMIT).unwrap();
    assert_eq!((labels(&set), set.classes()), (vec![1, 0], &["cat", "dog"].map(String::from)[..]));
    assert!(level(&set, 0).abs_diff(40) < 6 && level(&set, 1).abs_diff(80) < 6);
}

#[test]
fn an_index_is_kept_and_made_again_when_it_is_stale() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.tar");
    webdataset(&path, &["2", "0"]);
    let kept = dir.path().join("a.tar.index.json");
    let first = ShardIndex::open(&path).unwrap();
    // The stored index is used: a changed label shows.
    let text = std::fs::read_to_string(&kept).unwrap();
    std::fs::write(&kept, text.replace("\"label\":2", "\"label\":7")).unwrap();
    assert_ne!(ShardIndex::open(&path).unwrap(), first);
    // But not for another size, if it cannot be read, or if it points outside.
    for damaged in [
        &text[..text.len() / 2],
        "",
        "[]",
        &text.replace("\"offset\":512", "\"offset\":18446744073709551615"),
    ] {
        std::fs::write(&kept, damaged).unwrap();
        assert_eq!(ShardIndex::open(&path).unwrap(), first, "{damaged}");
    }
    webdataset(&path, &["1", "1", "1"]);
    assert_eq!(ShardIndex::open(&path).unwrap().images.len(), 3);
}

#[test]
fn cifar_binaries() {
    let dir = tempfile::tempdir().unwrap();
    let ten = dir.path().join("ten/cifar-10-batches-bin");
    std::fs::create_dir_all(&ten).unwrap();
    std::fs::write(ten.join("data_batch_1.bin"), cifar(&[&[3], &[9]])).unwrap();
    for number in 2..=5 {
        std::fs::write(ten.join(format!("data_batch_{number}.bin")), cifar(&[&[0], &[number]])).unwrap();
    }
    std::fs::write(ten.join("test_batch.bin"), cifar(&[&[1]])).unwrap();
    let set = sources(&dir.path().join("ten"));
    assert_eq!((labels(&*set.train), labels(&*set.val)), (vec![3, 9, 0, 2, 0, 3, 0, 4, 0, 5], vec![1]));
    assert_eq!(set.train.load(1).unwrap().get_pixel(5, 7).0, [1, 7, 5]);
    assert_eq!(set.train.classes()[9], "truck");
    let hundred = dir.path().join("hundred");
    std::fs::create_dir_all(&hundred).unwrap();
    std::fs::write(hundred.join("train.bin"), cifar(&[&[3, 99]])).unwrap();
    std::fs::write(hundred.join("test.bin"), cifar(&[&[3, 42]])).unwrap();
    let set = sources(&hundred);
    assert_eq!((labels(&*set.train), labels(&*set.val), set.val.classes().len()), (vec![99], vec![42], 100));
    assert_eq!(set.val.load(0).unwrap().get_pixel(31, 2).0, [0, 2, 31]);
}

#[test]
fn a_packed_set_is_the_set() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 5);
    // A large image is scaled down, one that is not a JPEG is encoded as one, a broken one is
    // skipped.
    image::RgbImage::from_pixel(300, 90, image::Rgb([9, 9, 9]))
        .save(data.join("train/class1/large.jpg"))
        .unwrap();
    image::RgbImage::from_fn(30, 20, |x, y| image::Rgb([(x * y * 7) as u8, 9, 9]))
        .save(data.join("train/class2/other.png"))
        .unwrap();
    std::fs::write(data.join("train/class0/broken.jpg"), b"nothing").unwrap();
    let options = PackOptions { max_size: 45, quality: 90, shards: 2 };
    let out = dir.path().join("out");
    let mut images = Vec::new();
    for (split, set) in open_all(&data, LIMIT).unwrap() {
        let packed = pack(&*set, &out.join(&split), &split, options).unwrap();
        write_classes(&out, set.classes()).unwrap();
        images.push((packed.images, packed.copied, packed.broken.len(), packed.shards.len()));
        let again = pack(&*set, &dir.path().join("again"), &split, options).unwrap();
        for (a, b) in packed.shards.iter().zip(&again.shards) {
            assert!(std::fs::read(a).unwrap() == std::fs::read(b).unwrap(), "{a:?} differs");
        }
    }
    assert_eq!(images, [(17, 15, 1, 2), (15, 15, 0, 2)]);
    let (from, to) = (image_set(&data), image_set(&out));
    assert_eq!(from.0, to.0);
    let same = from.1.iter().filter(|image| to.1.contains(image)).count();
    assert_eq!((from.1.len(), to.1.len(), same), (17, 17, 15), "copied images keep their pixels and labels");
    assert!(to.1.iter().any(|(label, image)| (*label, image.dimensions()) == (1, (150, 45))));
    assert!(to.1.iter().any(|(label, image)| (*label, image.dimensions()) == (2, (30, 20))));
}

/// Classes, and label and pixels of each readable training image.
fn image_set(dir: &Path) -> (Vec<String>, Vec<(u32, image::RgbImage)>) {
    let set = sources(dir).train;
    let images = (0..set.len()).filter_map(|i| Some((set.label(i), set.load(i).ok()?))).collect();
    (set.classes().to_vec(), images)
}

#[test]
fn check_counts_and_names_what_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(dir.path(), 2, 3);
    std::fs::write(data.join("train/class1/broken.png"), b"nothing").unwrap();
    std::fs::rename(data.join("train/class0/000.jpg"), data.join("train/class0/jpeg.png")).unwrap();
    let set = open_split(&data, Split::Train, None, LIMIT).unwrap();
    let found = check(&*set);
    assert_eq!((found.images, found.classes[0].images, found.classes[1].images), (6, 3, 4));
    assert_eq!((found.width.min, found.width.max, found.height.median), (40, 40, 36));
    assert!(found.broken.len() == 1 && found.broken[0].reason.contains("broken.png"), "{:?}", found.broken);
    assert!(found.misnamed.len() == 1 && found.misnamed[0].contains("jpeg.png"), "{:?}", found.misnamed);
}

#[test]
fn stats_are_those_of_the_pixels() {
    let dir = tempfile::tempdir().unwrap();
    for (split, level) in [("train", 51), ("val", 0)] {
        let class = dir.path().join(split).join("a");
        std::fs::create_dir_all(&class).unwrap();
        // Images of different sizes have the same weight.
        image::RgbImage::from_pixel(4, 4, image::Rgb([level, 255, 0])).save(class.join("1.png")).unwrap();
        image::RgbImage::from_pixel(9, 20, image::Rgb([153, 255, 255])).save(class.join("2.png")).unwrap();
    }
    let set = open_split(dir.path(), Split::Train, None, LIMIT).unwrap();
    let all = stats(&*set, InputChannels::Rgb, None).unwrap();
    let near = |a: [f64; 3], b: [f64; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(near(all.mean, [0.4, 1.0, 0.5]) && near(all.std, [0.2, 0.0, 0.5]), "{all:?}");
    let one = stats(&*set, InputChannels::Rgb, Some(1)).unwrap();
    assert!(one.images == 1 && near(one.mean, [0.2, 1.0, 0.0]), "{one:?}");
}

#[test]
fn what_is_no_data_set_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let message = open_split(dir.path(), Split::Train, None, LIMIT).err().unwrap().rendered();
    for kind in ["train/CLASS/IMAGE", "train-*.tar", "data_batch_*.bin"] {
        assert!(message.contains(kind), "{message}");
    }
    std::fs::write(dir.path().join("a.zip"), "x").unwrap();
    let message = open_all(&dir.path().join("a.zip"), LIMIT).err().unwrap().rendered();
    assert!(message.contains("a.zip") && message.contains(".tar"), "{message}");
}

#[cfg(not(feature = "parquet"))]
#[test]
fn parquet_files_say_which_build_reads_them() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("train-00000-of-00001.parquet"), "PAR1").unwrap();
    let message = open_split(dir.path(), Split::Train, None, LIMIT).err().unwrap().rendered();
    assert!(message.contains("train-00000") && message.contains("--features parquet"), "{message}");
}
