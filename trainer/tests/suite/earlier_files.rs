//! Files of an earlier version (`tests/data/earlier`) can be resumed, repeated and loaded.

use std::path::{Path, PathBuf};

use crate::common::command::{accepted, text};
use crate::common::options;
use crate::common::plain::Plain;
use candle_core::DType;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::Interval;
use efficienttrain::config::RunOptions;
use efficienttrain::data::{Source, TarShards};
use efficienttrain::{Run, Sources};
use image::{Rgb, RgbImage};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/earlier").join(name)
}

/// Writes the images of those runs, which are defined by a formula.
fn images(dir: &Path) {
    for (split, images) in [("train", 16u32), ("val", 8)] {
        for (class, name) in (0..).zip(["cat", "dog", "fox"]) {
            let folder = dir.join(split).join(name);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..images {
                let pixel = |x: u32, y: u32| {
                    Rgb([(class * 70 + x) as u8, (x * 5 + i * 3) as u8, (y * 5 + class * i) as u8])
                };
                RgbImage::from_fn(40, 36, pixel).save(folder.join(format!("{i:03}.png"))).unwrap();
            }
        }
    }
}

fn resume(saved: &Checkpoint, dir: &Path) -> Run {
    let mut config = saved.run().unwrap().config.clone();
    config.data = Some(dir.join("data"));
    let sources = Sources::open(&config).unwrap();
    let options = RunOptions { eval_every: Interval::Percent(25.0), ..options(&dir.join("run"), 2) };
    let run = Run::with_backbone(config, options, sources, |options| Ok(Box::new(Plain::new(options))));
    run.unwrap().restore(saved).unwrap()
}

fn distance(run: &Run, end: &Checkpoint) -> f32 {
    let mut furthest = 0f32;
    for (ema, store) in [(false, &run.state.params), (true, run.state.ema.as_ref().unwrap())] {
        let want = end.weights(ema).unwrap();
        for (name, tensor) in store.iter() {
            // Counts of batches are integers.
            let [ours, theirs] = [tensor, &want[name]].map(|t| t.to_dtype(DType::F32).unwrap());
            let far = (ours - theirs).unwrap().abs().unwrap().flatten_all().unwrap();
            furthest = far.to_vec1::<f32>().unwrap().into_iter().fold(furthest, f32::max);
        }
    }
    furthest
}

/// The result equals that of the earlier version, up to rounding that differs between processors;
/// these weights are about 0.3.
#[test]
fn a_run_in_its_middle_ends_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("data"));
    let (middle, end) = (
        Checkpoint::open(&file("middle.safetensors")).unwrap(),
        Checkpoint::open(&file("end.safetensors")).unwrap(),
    );
    let mut run = resume(&middle, dir.path());
    assert_eq!((run.step(), run.plan().total_steps()), (11, 34));
    assert!(distance(&run, &end) > 1e-3, "the run has ended before it went on");
    run.train(&mut ()).unwrap();
    let far = distance(&run, &end);
    assert!(far < 1e-4, "{far} from where the earlier version ended");
    let evals = |history: &efficienttrain::events::History| -> Vec<(u64, f64)> {
        history.evals.iter().map(|e| (e.step, e.top1)).collect()
    };
    assert_eq!(evals(&run.history), evals(&end.run().unwrap().history));
}

/// Non-finite losses were stored as `null`.
#[test]
fn a_history_with_null_is_read() {
    let saved = Checkpoint::open(&file("null.safetensors")).unwrap();
    let losses: Vec<f64> = saved.run().unwrap().history.evals.iter().map(|e| e.loss).collect();
    assert_eq!(losses.iter().map(|loss| loss.is_nan()).collect::<Vec<_>>(), [false, true, true, false]);
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("data"));
    assert_eq!(resume(&saved, dir.path()).step(), 34);
}

#[test]
fn options_and_recipes_are_repeated() {
    let dir = tempfile::tempdir().unwrap();
    images(&dir.path().join("compat-data"));
    let command = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
        let output = command.args(args).current_dir(dir.path()).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let config = file("config.toml");
    let shown = command(&["train", "--config", text(&config), "--print-config"]);
    for line in ["seed = 3", "recipe = \"resnet18-etpp\"", "warmup = \"1ep\"", "ema-decay = 0.9"] {
        assert!(shown.contains(line), "`{line}` is not in {shown}");
    }
    command(&["train", "--config", text(&config), "--stop-after", "1", "--out", "again"]);

    let recipe = file("recipe.json");
    let args = [
        "plan",
        "--recipe",
        text(&recipe),
        "--train-images",
        "48",
        "--devices",
        "1",
        "--epochs",
        "2",
        "--json",
    ];
    let plan: serde_json::Value = serde_json::from_str(&accepted(&args)).unwrap();
    let sizes: Vec<u64> =
        plan["stages"].as_array().unwrap().iter().map(|s| s["size"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [16, 16]);
}

#[test]
fn shards_with_an_earlier_index_have_their_images_and_labels() {
    let dir = tempfile::tempdir().unwrap();
    let shard = dir.path().join("shard.tar");
    for name in ["shard.tar", "shard.tar.index.json"] {
        std::fs::copy(file(name), dir.path().join(name)).unwrap();
    }
    // The index contains the time of the shard's last change.
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(file("shard.tar.index.json")).unwrap()).unwrap();
    let since = std::time::Duration::from_nanos(index["modified"].as_u64().unwrap());
    let opened = std::fs::File::options().write(true).open(&shard).unwrap();
    opened.set_modified(std::time::UNIX_EPOCH + since).unwrap();
    let set = TarShards::open(&[shard], Some(vec!["cat".into(), "dog".into()]), 1 << 30).unwrap();
    assert_eq!((0..set.len()).map(|i| set.label(i)).collect::<Vec<_>>(), [1, 1, 0, 0]);
    assert!((0..set.len()).all(|i| set.load(i).unwrap().dimensions() == (8, 8)));
}
