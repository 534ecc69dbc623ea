//! Files that are not images of a data set are skipped and reported; images are read.

use crate::common::Rendered;
use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::shards::{jpeg, tar_of};
use crate::common::{config, image_folder, options};
use efficienttrain::config::TrainConfig;
use efficienttrain::data::{
    DEFAULT_IMAGE_LIMIT, ImageFiles, ImageFolder, Source, Split, TarShards, check, open_all, open_split,
    read_image,
};
use efficienttrain::events::{Event, Observer};
use efficienttrain::observe::progress::lines;
use efficienttrain::{Run, Sources};

const LIMIT: u64 = DEFAULT_IMAGE_LIMIT;

fn write(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn formats_are_read_as_pillow_reads_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/formats");
    let dir = tempfile::tempdir().unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let golden = entry.unwrap().path();
        let name = golden.file_name().unwrap().to_str().unwrap().to_string();
        let Some(image) = name.strip_suffix(".pixels.png") else { continue };
        let ours = read_image(&folder.join(image)).unwrap();
        let theirs = image::open(&golden).unwrap().into_rgb8();
        assert_eq!(ours.dimensions(), theirs.dimensions(), "{image}");
        assert!(ours == theirs, "{image}");
        write(&dir.path().join("cat").join(image), &std::fs::read(folder.join(image)).unwrap());
        names.push(image.to_uppercase());
    }
    let message = read_image(&folder.join("reversed-bits.tif")).unwrap_err().rendered();
    assert!(message.contains("reversed-bits.tif") && message.contains("FillOrder"), "{message}");
    let message = read_image(&folder.join("photo.avif")).unwrap_err().rendered();
    assert!(message.contains("photo.avif") && message.contains("an AVIF image"), "{message}");
    assert_eq!(names.len(), 28, "an image lacks its pixels");
    let set = ImageFolder::open(dir.path()).unwrap();
    assert_eq!((set.len(), set.skipped().is_empty()), (28, true));
    let found = check(&set);
    assert_eq!((found.images, found.misnamed), (28, vec![]));
    let bytes = std::fs::read(folder.join("rgb.ppm")).unwrap();
    let entries: Vec<(String, &[u8])> =
        names.iter().map(|name| (format!("cat/{name}"), &bytes[..])).collect();
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    write(&dir.path().join("a.tar"), &tar_of(&entries));
    assert_eq!(TarShards::open(&[dir.path().join("a.tar")], None, LIMIT).unwrap().len(), 28);
}

/// Files that are not images of a class folder.
const LEFT_OUT: [&str; 9] = [
    ".ipynb_checkpoints/1-checkpoint.jpg",
    "deep/.hidden/2.jpg",
    "deep/@eaDir/3.jpg",
    "$RECYCLE.BIN/4.jpg",
    "__MACOSX/5.jpg",
    "._6.jpg",
    "Thumbs.db",
    "7.heic",
    "notes.txt",
];

#[test]
fn what_is_hidden_is_no_image_in_folders_and_archives() {
    let dir = tempfile::tempdir().unwrap();
    let image = jpeg(9, 8, 8);
    let mut entries = vec![("cat/deep/1.jpg".to_string(), &image[..])];
    entries.extend(LEFT_OUT.map(|name| (format!("cat/{name}"), &image[..])));
    for (name, bytes) in &entries {
        write(&dir.path().join("folder").join(name), bytes);
    }
    write(&dir.path().join("folder/.cache/1.jpg"), &image);
    write(&dir.path().join("folder/lost+found/1.jpg"), &image);
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    write(&dir.path().join("a.tar"), &tar_of(&entries));
    let folder = ImageFolder::open(&dir.path().join("folder")).unwrap();
    let unlabeled = ImageFolder::unlabeled(&dir.path().join("folder")).unwrap();
    let files = ImageFiles::new(&[dir.path().join("folder")], &[]).unwrap();
    let tar = TarShards::open(&[dir.path().join("a.tar")], None, LIMIT).unwrap();
    let sets: [(&dyn Source, usize); 4] = [(&folder, 11), (&unlabeled, 11), (&files, 11), (&tar, 9)];
    for (set, files) in sets {
        assert_eq!(set.len(), 1);
        assert!(set.name(0).ends_with("1.jpg"), "{}", set.name(0));
        assert_eq!(set.skipped().files(), files, "{}", set.skipped());
        let line = set.skipped().to_string();
        assert!(line.contains("1 .heic") && line.contains("1 .txt") && line.contains("hidden"), "{line}");
    }
    assert_eq!(folder.classes(), ["cat"]);
}

/// Keeps the start of a run, as text and as logged.
struct First(Vec<String>, serde_json::Value);

impl Observer for First {
    fn observe(&mut self, event: &Event) -> efficienttrain::Result<()> {
        if let Event::Start(_) = event {
            self.0 = lines(event);
            self.1 = serde_json::to_value(event).unwrap();
        }
        Ok(())
    }
}

#[test]
fn the_start_of_a_run_and_data_check_say_what_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 4);
    write(&data.join("train/class1/a.heic"), b"x");
    write(&data.join("train/class1/.x/a.jpg"), b"x");
    std::fs::remove_dir_all(data.join("val/class1")).unwrap();
    let config = TrainConfig { data: Some(data.clone()), epochs: 1.0, ..config("resnet10") };
    let sources = Sources::open(&config).unwrap();
    assert_eq!((sources.val.len(), sources.val.classes().len()), (8, 3));
    assert_eq!(sources.val.label(7), 2, "classes are met by name");
    let mut first = First(Vec::new(), serde_json::Value::Null);
    let mut run = Run::new(config, options(&dir.path().join("run"), 1), sources).unwrap();
    run.train(&mut first).unwrap();
    let said = first.0.join("\n");
    assert!(said.contains("training: skipped 2 files") && said.contains("1 .heic"), "{said}");
    assert!(said.contains("evaluation: no image of 1 class: `class1`"), "{said}");
    let mut logged = first.1;
    assert_eq!(logged["train_notes"]["skipped"][0]["ending"], "heic");
    assert_eq!(logged["val_notes"]["empty_classes"], serde_json::json!(["class1"]));
    // Logs of earlier builds do not have them.
    for key in ["train_notes", "val_notes"] {
        assert!(logged.as_object_mut().unwrap().remove(key).is_some());
    }
    assert!(serde_json::from_value::<Event>(logged).is_ok());

    let checked = accepted(&["data", "check", text(&data)]);
    assert!(checked.contains("skipped 2 files") && checked.contains("class1"), "{checked}");
    let json: serde_json::Value =
        serde_json::from_str(&accepted(&["data", "check", "--json", text(&data)])).unwrap();
    let reasons: Vec<_> = json[0]["skipped"].as_array().unwrap().iter().collect();
    assert_eq!(
        (reasons.len(), &reasons[0]["ending"], &reasons[1]["reason"]),
        (2, &"heic".into(), &"hidden".into())
    );

    // Evaluation and prediction of a part of the classes.
    let weights = dir.path().join("run/model.safetensors");
    let out = efficienttrain(&["eval", "--weights", text(&weights), "--data", text(&data.join("train"))]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("skipped 2 files"), "{said}");
    let out = efficienttrain(&["predict", "--weights", text(&weights), text(&data.join("train/class1"))]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("skipped 2 files"), "{said}");
}

#[test]
fn names_that_look_the_same_are_spelled_out() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir.path().join("train/caf\u{e9}/1.jpg"), &jpeg(9, 8, 8));
    write(&dir.path().join("val/cafe\u{301}/1.jpg"), &jpeg(9, 8, 8));
    let message = open_all(dir.path(), LIMIT).err().unwrap().rendered();
    assert!(message.contains("caf\\u{e9}") && message.contains("cafe\\u{301}"), "{message}");
}

#[test]
fn a_shard_of_another_format_says_which() {
    let dir = tempfile::tempdir().unwrap();
    let tests: [(&str, &[u8], &str); 6] = [
        ("train-0.tar", b"\x1f\x8b\x08\x08\x01\x02\x03\x04\0\x03", "gunzip"),
        ("train-0.tar.gz", b"\x1f\x8b\x08\x08\x01\x02\x03\x04\0\x03", "gunzip"),
        ("train-0.tar.zst", b"\x28\xb5\x2f\xfd\x04\x00", "zstd"),
        ("train-0.tbz2", b"BZh91AY&SY", "bunzip2"),
        ("train-0.tar", b"PK\x03\x04\x14\0", "zip"),
        ("train-0.tar", b"\x07\x1b[2J rubbish", "cut off or damaged"),
    ];
    for (name, bytes, part) in tests {
        let folder = tempfile::tempdir_in(dir.path()).unwrap();
        write(&folder.path().join(name), &[bytes, &[7; 2000]].concat());
        let message = open_split(folder.path(), Split::Train, None, LIMIT).err().unwrap().rendered();
        assert!(message.contains(part) && message.contains(name), "{message}");
        assert!(!message.contains(|c: char| c.is_control()), "{message:?}");
    }
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(dir.path(), 2, 2);
    let fifo = data.join("train/class0/x.jpg");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    std::os::unix::fs::symlink(data.join("train/class0/000.jpg"), data.join("train/class0/link.jpg"))
        .unwrap();
    std::os::unix::fs::symlink("/dev/zero", data.join("train/class0/zero.jpg")).unwrap();
    std::os::unix::net::UnixListener::bind(data.join("train/class0/s.jpg")).unwrap();
    let set = ImageFolder::open(&data.join("train")).unwrap();
    assert_eq!((set.len(), set.skipped().files()), (5, 3));
    assert!(set.skipped().to_string().contains("not regular files"), "{}", set.skipped());
    assert!((0..5).all(|index| set.load(index).is_ok()));
    let message = read_image(&fifo).unwrap_err().rendered();
    assert!(message.contains("x.jpg") && message.contains("FIFO"), "{message}");
    for name in ["classes.txt", "dataset.json"] {
        let folder = tempfile::tempdir_in(dir.path()).unwrap();
        write(&folder.path().join("train-0.tar"), &tar_of(&[("a/0.jpg", &jpeg(9, 8, 8))]));
        mknodat(CWD, folder.path().join(name), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let message = open_split(folder.path(), Split::Train, None, LIMIT).err().unwrap().rendered();
        assert!(message.contains(name) && message.contains("FIFO"), "{message}");
    }
}

#[test]
fn classes_of_one_name_are_all_told() {
    let dir = tempfile::tempdir().unwrap();
    let image = |level| jpeg(level, 40, 40);
    let (a, b, c) = (image(0), image(120), image(250));
    let shard = tar_of(&[
        ("0.jpg", &a),
        ("0.cls", b"0"),
        ("1.jpg", &b),
        ("1.cls", b"1"),
        ("2.jpg", &c),
        ("2.cls", b"2"),
    ]);
    for split in ["train", "val"] {
        write(&dir.path().join(format!("data/{split}-0.tar")), &shard);
    }
    write(&dir.path().join("data/classes.txt"), b"crane\ndog\ncrane\n");
    let config = TrainConfig {
        data: Some(dir.path().join("data")),
        epochs: 1.0,
        batch: 3.into(),
        ..config("resnet10")
    };
    let sources = Sources::open(&config).unwrap();
    let out = dir.path().join("run");
    Run::new(config, options(&out, 1), sources).unwrap().train(&mut ()).unwrap();
    let weights = out.join("model.safetensors");
    write(&dir.path().join("a.jpg"), &a);
    let line = accepted(&["predict", "--weights", text(&weights), "--json", text(&dir.path().join("a.jpg"))]);
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    let of = |name: &str| line["probabilities"][name].as_f64().unwrap();
    let mass = of("crane (0)") + of("dog") + of("crane (2)");
    assert!((mass - 1.0).abs() < 1e-6 && line["probabilities"].as_object().unwrap().len() == 3, "{line}");
    let table = dir.path().join("classes.csv");
    accepted(&["eval", "--weights", text(&weights), "--per-class", text(&table)]);
    let table = std::fs::read_to_string(table).unwrap();
    assert!(table.contains("\ncrane (0),1,") && table.contains("\ncrane (2),1,"), "{table}");
}

#[test]
fn a_resumed_run_says_which_classes_differ() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 6);
    let config = TrainConfig { data: Some(data.clone()), epochs: 1.0, ..config("resnet10") };
    let out = dir.path().join("run");
    let mut run = Run::new(config.clone(), options(&out, 1), Sources::open(&config).unwrap()).unwrap();
    run.train(&mut ()).unwrap();
    for split in ["train", "val"] {
        std::fs::rename(data.join(split).join("class1"), data.join(split).join("class9")).unwrap();
    }
    let saved = efficienttrain::checkpoint::Checkpoint::open(&out.join("last.safetensors")).unwrap();
    let resumed = Run::resume(&saved, options(&out, 1), Sources::open(&config).unwrap());
    let message = resumed.err().unwrap().rendered();
    assert!(
        message.contains("gone: `class1`; new: `class9`") && !message.contains("12 training"),
        "{message}"
    );
}
