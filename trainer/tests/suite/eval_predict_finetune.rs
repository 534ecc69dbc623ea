//! Commands after training: evaluation by class, predictions of folders, fine-tuning; and before
//! it: the doctor.

use crate::common::Rendered;
use std::path::{Path, PathBuf};

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, image_folder, options, run};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::TrainConfig;
use efficienttrain::inference::predict::Predictor;
use efficienttrain::{Run, Sources};
use serde_json::Value;

/// Trains on a folder of three classes; returns the run and its data.
fn trained(dir: &Path, model: &str) -> (PathBuf, PathBuf) {
    let data = image_folder(&dir.join("data"), 3, 8);
    let config = TrainConfig { data: Some(data.clone()), ..config(model) };
    run(&config, options(&dir.join("run"), 2)).train(&mut ()).unwrap();
    (data, dir.join("run/model.safetensors"))
}

fn rows(path: &Path) -> Vec<csv::StringRecord> {
    csv::Reader::from_path(path).unwrap().records().map(Result::unwrap).collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap()
}

#[test]
fn an_evaluation_class_by_class_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let (_, weights) = trained(dir.path(), "resnet10");
    let (classes, matrix) = (dir.path().join("classes.csv"), dir.path().join("matrix.csv"));
    let args = ["eval", "--weights", text(&weights), "--json", "--size", "48", "--crop-pct", "1"];
    let tables = ["--per-class", text(&classes), "--confusion", text(&matrix)];
    let found: Value = serde_json::from_str(&accepted(&[&args[..], &tables].concat())).unwrap();
    let (rows, matrix) = (rows(&classes), rows(&matrix));
    assert_eq!((rows.len(), matrix.len()), (3, 3));
    let mut correct = 0.0;
    for (i, (row, counts)) in rows.iter().zip(&matrix).enumerate() {
        let name = format!("class{i}");
        assert_eq!((&row[0], &counts[0], &row[1]), (name.as_str(), name.as_str(), "8"));
        let counts: Vec<f64> = counts.iter().skip(1).map(number).collect();
        assert_eq!((counts.iter().sum::<f64>(), counts[i]), (8.0, number(&row[2])));
        assert_eq!(number(&row[3]), counts[i] / 8.0);
        correct += counts[i];
    }
    assert_eq!(found["top1"].as_f64().unwrap(), correct / 24.0);
    assert_eq!(found["images"], 24);
    // Another crop is another image.
    let loss = |pct: &str| {
        let args = ["eval", "--weights", text(&weights), "--json", "--crop-pct", pct];
        serde_json::from_str::<Value>(&accepted(&args)).unwrap()["loss"].as_f64().unwrap()
    };
    assert_ne!(loss("0.5"), loss("1"));
    assert_eq!(loss("0.875"), {
        let plain = accepted(&["eval", "--weights", text(&weights), "--json"]);
        serde_json::from_str::<Value>(&plain).unwrap()["loss"].as_f64().unwrap()
    });
    for wrong in ["0", "1.5", "NaN"] {
        let said = efficienttrain(&["eval", "--weights", text(&weights), "--crop-pct", wrong]);
        assert!(
            !said.status.success() && String::from_utf8_lossy(&said.stderr).contains("--crop-pct"),
            "{wrong}"
        );
    }
}

#[test]
fn folders_are_predicted_as_their_images_are() {
    let dir = tempfile::tempdir().unwrap();
    let (data, weights) = trained(dir.path(), "resnet10");
    std::fs::write(data.join("val/class1/notes.txt"), "no image").unwrap();
    let folder = data.join("val");
    let table = accepted(&["predict", "--weights", text(&weights), "--csv", "--top", "2", text(&folder)]);
    let path = dir.path().join("predictions.csv");
    std::fs::write(&path, table).unwrap();
    let rows = rows(&path);
    assert_eq!(rows.len(), 24 * 2);
    let lines = accepted(&["predict", "--weights", text(&weights), "--json", text(&folder)]);
    let predictor = Predictor::load(&Checkpoint::open(&weights).unwrap(), false).unwrap();
    for (pair, line) in rows.chunks(2).zip(lines.lines()) {
        let image = Path::new(&pair[0][0]);
        let line: Value = serde_json::from_str(line).unwrap();
        let alone = predictor.probabilities(image).unwrap();
        assert_eq!(
            (line["image"].as_str(), line["class"].as_str()),
            (image.to_str(), Some(alone[0].0.as_str()))
        );
        for (rank, row) in pair.iter().enumerate() {
            assert_eq!((&row[1], &row[2]), ((rank + 1).to_string().as_str(), alone[rank].0.as_str()));
            // Batches change the order of sums in no layer of this model, but may in others.
            assert!((number(&row[3]) - alone[rank].1).abs() < 1e-5);
        }
        let mass: f64 =
            line["probabilities"].as_object().unwrap().values().map(|p| p.as_f64().unwrap()).sum();
        assert!((mass - 1.0).abs() < 1e-6);
    }
    // An unreadable image is reported, and the others are predicted.
    let broken = folder.join("class0/broken.jpg");
    std::fs::write(&broken, "nothing").unwrap();
    let said = efficienttrain(&["predict", "--weights", text(&weights), "--json", text(&folder)]);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("broken.jpg"));
    assert_eq!(String::from_utf8_lossy(&said.stdout).lines().count(), 24);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let said = efficienttrain(&["predict", "--weights", text(&weights), text(&empty)]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("contains no image"));
}

/// All weights except those of the head.
fn body(run: &Run) -> Vec<(String, Vec<f32>)> {
    let head = run.state.model.classifiers()[0].to_string();
    let value = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>();
    let floats = run.state.params.iter().filter(|(name, _)| !name.starts_with(&head));
    floats.filter_map(|(name, t)| Some((name.to_string(), value(t).ok()?))).collect()
}

#[test]
fn a_run_begins_with_the_weights_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let (_, weights) = trained(dir.path(), "deit_tiny");
    let saved = Checkpoint::open(&weights).unwrap();
    let trained_with = saved.run().unwrap().config.clone();
    let sources = |config: &TrainConfig| Sources::open(config).unwrap();
    let begin = |config: &TrainConfig, name: &str| {
        Run::new(config.clone(), options(&dir.path().join(name), 1), sources(config))
    };
    // The same classes and size: all weights are loaded.
    let same = TrainConfig {
        init: Some(weights.clone()),
        recipe: "baseline".into(),
        seed: 99,
        ..trained_with.clone()
    };
    let same = begin(&same, "same").unwrap();
    for (name, tensor) in saved.weights(false).unwrap() {
        let ours = same.state.params.by_name(&name).unwrap();
        let value = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(value(ours), value(&tensor), "{name}");
        assert_eq!(value(same.state.ema.as_ref().unwrap().by_name(&name).unwrap()), value(&tensor), "{name}");
    }
    // Other classes and another size: the head is new, positions are resampled, the rest is loaded.
    let other = TrainConfig {
        data: Some(image_folder(&dir.path().join("other"), 2, 8)),
        init: Some(weights.clone()),
        recipe: "baseline".into(),
        base_size: 48,
        seed: 99,
        ..trained_with.clone()
    };
    let other = begin(&other, "other").unwrap();
    let differing: Vec<String> =
        body(&same).into_iter().zip(body(&other)).filter(|(a, b)| a.1 != b.1).map(|(a, _)| a.0).collect();
    assert_eq!(differing, ["pos_embed"]);
    assert_eq!(other.state.model.num_classes(), 2);
    // Incompatible weights are reported before any training.
    let error = |change: &dyn Fn(&mut TrainConfig)| {
        let mut config = TrainConfig { init: Some(weights.clone()), ..trained_with.clone() };
        change(&mut config);
        begin(&config, "wrong").unwrap_err().rendered()
    };
    let of_another = error(&|config| config.model = Some("resnet10".into()));
    assert!(of_another.contains("resnet10") && of_another.contains("missing"), "{of_another}");
    assert!(error(&|config| config.init = Some("nowhere.safetensors".into())).contains("--init"));
    assert!(error(&|config| config.init_ema = true).contains("no moving average"));
    assert!(error(&|config| (config.init, config.init_ema) = (None, true)).contains("--init-ema"));
    assert!(!dir.path().join("wrong").exists());
}

#[test]
fn fine_tuning_takes_model_and_size_from_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let (_, weights) = trained(dir.path(), "resnet10");
    let other = image_folder(&dir.path().join("other"), 2, 8);
    let out = dir.path().join("tuned");
    let args = ["finetune", "--init", text(&weights), "--data", text(&other), "--out", text(&out)];
    let printed = accepted(&[&args[..], &["--print-config", "--epochs", "2"]].concat());
    let value = |key: &str| {
        let line = printed
            .lines()
            .find(|l| l.split(" = ").next() == Some(key))
            .unwrap_or_else(|| panic!("no {key}"));
        line.split(" = ").nth(1).unwrap().split('#').next().unwrap().trim().to_string()
    };
    for (key, expected) in [
        ("model", "\"resnet10\""),
        ("base-size", "32"),
        ("recipe", "\"baseline\""),
        ("epochs", "2.0"),
        ("layer-decay", "0.9"),
        ("mixup", "0.0"),
    ] {
        assert_eq!(value(key), expected, "{key}");
    }
    let more = ["--batch", "4", "--epochs", "1", "--workers", "1", "--freeze", "conv1.*"];
    accepted(&[&args[..], &more, &["--stop-after", "2"]].concat());
    // A resumed run does not need its initial weights.
    std::fs::rename(&weights, dir.path().join("moved.safetensors")).unwrap();
    accepted(&["finetune", "--resume", "--out", text(&out), "--stop-after", "1000"]);
    // The report of the weights appears once, when they are read; the stem's convolution is 7 x 7
    // from 3 to 64 channels.
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let starts: Vec<Value> = lines.filter(|line| line["event"] == "start").collect();
    let init = starts[0]["init"].as_str().unwrap();
    // Both classes are among the three of the first run.
    assert!(init.starts_with(text(&weights)) && init.contains("2 adapted: fc.weight, fc.bias"), "{init}");
    let notes = starts[0]["notes"][0].as_str().unwrap();
    assert!(notes.contains("2 of its 2 rows by the names of their classes"), "{notes}");
    assert_eq!((&starts[0]["frozen"], &starts[1]["init"]), (&(64 * 3 * 7 * 7).into(), &Value::Null));
    let tuned = Checkpoint::open(&out.join("model.safetensors")).unwrap();
    assert_eq!(tuned.run().unwrap().classes, ["class0", "class1"]);
    let began = Checkpoint::open(&dir.path().join("moved.safetensors")).unwrap().weights(false).unwrap();
    let value = |t: &candle_core::Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let now = tuned.weights(false).unwrap();
    assert_eq!(value(&now["conv1.weight"]), value(&began["conv1.weight"]), "the frozen stem has moved");
    assert_ne!(value(&now["layer1.0.conv1.weight"]), value(&began["layer1.0.conv1.weight"]));
    let said = efficienttrain(&["finetune", "--data", text(&other)]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("--init"));
}

#[test]
fn the_doctor_finds_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("not/there/yet");
    let args =
        ["doctor", "--json", "--size", "32", "--batch", "2", "--model", "deit_tiny", "--out", text(&below)];
    let found: Value = serde_json::from_str(&accepted(&[&args[..], &["--seconds", "0.5"]].concat())).unwrap();
    // timm's count for deit_tiny: 152 tensors.
    assert_eq!(
        (&found["gradients"]["parameters"], &found["gradients"]["problem"]),
        (&152.into(), &Value::Null)
    );
    assert!(found["speed"]["images_per_s"].as_f64().unwrap() > 0.0);
    assert!(!below.exists());
    assert_eq!(found["disk"]["folder"].as_str(), dir.path().to_str());
    // Weights and two moments; timm counts 5,717,416 numbers at 224 pixels, of which 192 for each
    // of 197 positions.
    let numbers = 5_717_416 - 192 * (197 - 5);
    assert_eq!(found["disk"]["checkpoint"].as_u64().unwrap(), 3 * 4 * numbers);
    if cfg!(target_os = "linux") {
        assert!(found["disk"]["free"].as_u64().unwrap() > 0 && found["free_memory"].as_u64().unwrap() > 0);
    }
    if cfg!(target_arch = "x86_64") {
        let sets = found["instruction_sets"].as_array().unwrap();
        let lanes = if sets.contains(&"avx512f".into()) {
            16
        } else if sets.contains(&"avx2".into()) {
            8
        } else {
            1
        };
        assert!(found["vector_lanes"].as_u64().unwrap() <= lanes);
        let products = found["bf16_products"].as_str().unwrap();
        assert!(products.contains("single") || sets.contains(&"avx512bf16".into()), "{products}");
    }
    let said =
        accepted(&["doctor", "--size", "32", "--batch", "2", "--seconds", "0", "--out", text(dir.path())]);
    assert!(said.contains("no problems found") && said.contains("reach all"), "{said}");
}

/// The classes are those of the model, also without `--data`: labels are never positions among the
/// present folders.
#[test]
fn folders_that_changed_after_the_run_are_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (data, weights) = trained(dir.path(), "resnet10");
    let eval = ["eval", "--weights", text(&weights), "--json"];
    let out = dir.path().join("features");
    let features = ["features", "--weights", text(&weights), "--out", text(&out)];
    let before = accepted(&eval);
    let refused = |args: &[&str], name: &str| {
        let output = efficienttrain(args);
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && message.contains(name), "{args:?}: {message}");
    };
    let moved = |from: &str, to: &str| {
        for split in ["train", "val"] {
            std::fs::rename(data.join(split).join(from), data.join(split).join(to)).unwrap();
        }
    };
    // Renamed: in alphabetical order it would be the last of three.
    moved("class0", "zebra");
    refused(&eval, "zebra");
    refused(&features, "zebra");
    moved("zebra", "class0");
    // Added.
    for split in ["train", "val"] {
        let folder = data.join(split).join("aardvark");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(data.join(split).join("class0/000.jpg"), folder.join("0.jpg")).unwrap();
    }
    refused(&eval, "aardvark");
    refused(&features, "aardvark");
    for split in ["train", "val"] {
        std::fs::remove_dir_all(data.join(split).join("aardvark")).unwrap();
    }
    assert_eq!(accepted(&eval), before);
    // The training images are not needed.
    std::fs::remove_dir_all(data.join("train")).unwrap();
    assert_eq!(accepted(&eval), before);
}

#[test]
fn test_time_flips_average_the_logits_of_an_image_and_its_mirror_image() {
    let dir = tempfile::tempdir().unwrap();
    let (_, weights) = trained(dir.path(), "resnet10");
    let image =
        image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * 6) as u8, (y * 6) as u8, (x * y) as u8]));
    let (plain, mirrored) = (dir.path().join("a.png"), dir.path().join("b.png"));
    image.save(&plain).unwrap();
    image::imageops::flip_horizontal(&image).save(&mirrored).unwrap();
    let logits = |path: &Path, more: &[&str]| -> Vec<f64> {
        let args = [&["predict", "--weights", text(&weights), "--json", text(path)], more].concat();
        let found: Value = serde_json::from_str(&accepted(&args)).unwrap();
        (0..3).map(|i| found["probabilities"][format!("class{i}")].as_f64().unwrap().ln()).collect()
    };
    let (a, b) = (logits(&plain, &[]), logits(&mirrored, &[]));
    let both = logits(&plain, &["--tta", "flip"]);
    assert!(a != b);
    // Logarithms of probabilities are logits up to a number that is the same for all classes.
    for i in 1..3 {
        let mean = (a[i] - a[0] + b[i] - b[0]) / 2.0;
        assert!((both[i] - both[0] - mean).abs() < 1e-5, "{a:?} {b:?} {both:?}");
    }
    let eval = |more: &[&str]| -> Value {
        let args = [&["eval", "--weights", text(&weights), "--json"], more].concat();
        serde_json::from_str(&accepted(&args)).unwrap()
    };
    assert_ne!(eval(&[])["loss"], eval(&["--tta", "flip"])["loss"]);
    let ece = eval(&[])["ece"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&ece), "{ece}");
}

#[test]
fn an_average_of_checkpoints_is_their_mean() {
    let dir = tempfile::tempdir().unwrap();
    let kept = efficienttrain::config::RunOptions {
        keep_last: 3,
        checkpoint_every: efficienttrain::config::Interval::Steps(4),
        ..options(dir.path(), 2)
    };
    let short = TrainConfig { synthetic_images: 60, ..config("resnet10") };
    run(&short, kept).train(&mut ()).unwrap();
    let last = dir.path().join("last.safetensors");
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir.path().join("checkpoints"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 3);
    let values = |path: &Path, name: &str| {
        let tensor = Checkpoint::open(path).unwrap().weights(false).unwrap()[name].clone();
        tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let averaged = dir.path().join("mean.safetensors");
    accepted(&["export", "--weights", text(&last), "--average", "2", "--out", text(&averaged)]);
    for name in ["fc.weight", "bn1.running_mean", "layer1.0.conv1.weight"] {
        let (a, b) = (values(&files[1], name), values(&files[2], name));
        assert!(a != b);
        let mean: Vec<f32> =
            a.iter().zip(&b).map(|(a, b)| ((f64::from(*a) + f64::from(*b)) / 2.0) as f32).collect();
        assert_eq!(values(&averaged, name), mean, "{name}");
    }
    accepted(&["eval", "--weights", text(&last), "--average", "3", "--ema"]);
    let refused = efficienttrain(&["eval", "--weights", text(&last), "--average", "4"]);
    let message = String::from_utf8_lossy(&refused.stderr);
    assert!(message.contains("found 3") && message.contains("--keep-last"), "{message}");
}

#[test]
fn predictions_of_a_folder_go_on_where_they_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let (data, weights) = trained(dir.path(), "resnet10");
    let folder = data.join("val");
    let predict = |file: &Path| {
        efficienttrain(&[
            "predict",
            "--weights",
            text(&weights),
            "--json",
            "--append",
            text(file),
            text(&folder),
        ])
    };
    let (whole, parts) = (dir.path().join("whole.jsonl"), dir.path().join("parts.jsonl"));
    assert!(predict(&whole).status.success());
    let expected = std::fs::read_to_string(&whole).unwrap();
    assert_eq!(expected.lines().count(), 24);
    // Stopped in the middle of the eleventh line.
    let ten: usize = expected.lines().take(10).map(|line| line.len() + 1).sum();
    std::fs::write(&parts, &expected[..ten + 20]).unwrap();
    let said = predict(&parts);
    assert!(String::from_utf8_lossy(&said.stderr).contains("10 images are in the file already, 14 are left"));
    assert_eq!(std::fs::read_to_string(&parts).unwrap(), expected);
    // A file of something else is left alone.
    std::fs::write(&parts, "notes\n").unwrap();
    let said = predict(&parts);
    assert!(!said.status.success() && String::from_utf8_lossy(&said.stderr).contains("line 1"));
    assert_eq!(std::fs::read_to_string(&parts).unwrap(), "notes\n");
}

#[test]
fn measured_statistics_are_options_of_training() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 4);
    let file = dir.path().join("stats.toml");
    accepted(&["data", "stats", text(&data), "--write", text(&file)]);
    let shown = accepted(&["train", "--config", text(&file), "--data", text(&data), "--print-config"]);
    let stats: Value = serde_json::from_str(&accepted(&["data", "stats", text(&data), "--json"])).unwrap();
    for key in ["mean", "std"] {
        let line = shown.lines().find(|line| line.starts_with(&format!("{key} ="))).unwrap();
        let written: Vec<f64> = line.split('"').nth(1).unwrap().split(',').map(number).collect();
        for (i, value) in written.iter().enumerate() {
            assert!((value - stats[0][key][i].as_f64().unwrap()).abs() < 1e-4, "{line} {stats}");
        }
    }
    let again = efficienttrain(&["data", "stats", text(&data), "--write", text(&file)]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
}
