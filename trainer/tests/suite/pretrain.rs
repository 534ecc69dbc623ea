//! Pre-training with the ordinary runs, and evaluation of its encoder's features.

use crate::common::Rendered;
use std::path::{Path, PathBuf};

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{bits, options, run};
use candle_core::{DType, Device};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::Precision;
use efficienttrain::config::TargetName;
use efficienttrain::config::{BatchSize, TrainConfig};
use efficienttrain::inference::features::{FeatureSet, ProbeOptions, linear_probe, nearest_neighbors};
use efficienttrain::{Run, Sources};
use efficienttrain_models::weights::LoadOptions;
use efficienttrain_models::{ModelOptions, create_model};

fn config(target: TargetName) -> TrainConfig {
    TrainConfig {
        synthetic_images: 40,
        model: Some("deit_tiny".into()),
        recipe: "half-96".into(),
        epochs: 1.0,
        base_size: 64,
        batch: 8.into(),
        min_crop_area: 0.2,
        target: Some(target),
        seed: 7,
        ..TrainConfig::default()
    }
}

#[test]
fn a_stopped_pretraining_ends_bitwise_as_an_undisturbed_one() {
    for (target, precision) in
        [(TargetName::Hog, Precision::F32), (TargetName::NormalizedPixels, Precision::Bf16)]
    {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = TrainConfig { precision, ..config(target) };
        let mut whole = run(&config, options(dir.path(), 2));
        assert!(whole.train(&mut ()).unwrap());
        assert!(whole.history.evals.is_empty(), "there is no accuracy to measure");
        let sizes: Vec<u32> = whole.plan().stages().iter().map(|stage| stage.size).collect();
        assert_eq!(sizes, [32, 64]);
        let mut stop = options(other.path(), 1);
        stop.stop_after = Some(whole.plan().stages()[1].first_step + 1);
        run(&config, stop).train(&mut ()).unwrap();
        let saved = Checkpoint::open(&other.path().join("last.safetensors")).unwrap();
        let mut rest =
            Run::resume(&saved, options(other.path(), 3), Sources::open(&config).unwrap()).unwrap();
        assert!(rest.train(&mut ()).unwrap());
        assert!(bits(&whole) == bits(&rest));
    }
}

/// Returns the losses of a run's steps.
fn losses(out: &Path) -> Vec<f64> {
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["event"] == "step").map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// A small pre-training run, at full size throughout.
const SMALL: [&str; 11] = [
    "pretrain",
    "--model",
    "deit_tiny",
    "--synthetic-images",
    "64",
    "--base-size",
    "32",
    "--recipe",
    "baseline",
    "--mask-ratio",
    "0.5",
];

#[test]
fn a_batch_can_be_measured_as_a_classifier_s() {
    let dir = tempfile::tempdir().unwrap();
    let chosen = dir.path().join("chosen");
    let auto = ["--batch", "auto", "--stop-after", "1", "--out", text(&chosen)];
    accepted(&[&SMALL[..], &auto].concat());
    let batch = Checkpoint::open(&chosen.join("last.safetensors")).unwrap().record.unwrap().config.batch;
    assert!(matches!(batch, BatchSize::Images(images) if (8..=64).contains(&images)), "{batch:?}");
}

#[test]
fn what_is_hidden_becomes_predictable_and_the_encoder_can_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let more = ["--batch", "16", "--epochs", "20", "--lr", "3e-3", "--target", "normalised-pixels"];
    accepted(&[&SMALL[..], &more, &["--checkpoint-every", "50%", "--out", text(&out)]].concat());
    // For patches with mean 0 and standard deviation 1, predicting nothing gives an error of 1.
    let losses = losses(&out);
    let last = &losses[losses.len() - 4..];
    let mean = last.iter().sum::<f64>() / last.len() as f64;
    assert!(losses[0] > 1.0 && mean < 0.95, "{losses:?}");

    // The weights are those of a deit_tiny without head, and those of the checkpoint.
    let encoder = Checkpoint::open(&out.join("encoder.safetensors")).unwrap();
    assert!(encoder.record.is_none());
    let made = ModelOptions { num_classes: 3, input_size: [32, 32], ..ModelOptions::default() };
    let deit = create_model("deit_tiny", &made).unwrap();
    let adapt = LoadOptions { adapt_head: true, ..LoadOptions::default() };
    let (loaded, _) = encoder.load_into(&*deit, false, &adapt).unwrap();
    let last = Checkpoint::open(&out.join("last.safetensors")).unwrap().weights(false).unwrap();
    let values = |t: &candle_core::Tensor| {
        t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    for name in ["blocks.11.mlp.fc2.weight", "cls_token", "patch_embed.proj.weight"] {
        assert_eq!(values(loaded.by_name(name).unwrap()), values(&last[name]), "{name}");
    }

    // The checkpoint and the exported encoder give the same features.
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let checkpoint = out.join("last.safetensors");
    accepted(&["features", "--weights", text(&checkpoint), "--out", text(&a)]);
    let bare = out.join("encoder.safetensors");
    let said = efficienttrain(&["features", "--weights", text(&bare), "--out", text(&b)]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("--model"));
    // The built-in set of a default run is larger; a folder gives both the same images.
    let data = crate::common::image_folder(&dir.path().join("data"), 2, 6);
    for (weights, to) in [(&checkpoint, &a), (&bare, &b)] {
        let named = ["--model", "deit_tiny", "--size", "32", "--data", text(&data)];
        accepted(&[&["features", "--weights", text(weights), "--out", text(to)], &named[..]].concat());
    }
    let read = |folder: &PathBuf| FeatureSet::load(&folder.join("val.safetensors")).unwrap();
    assert_eq!(read(&a), read(&b));
    assert_eq!((read(&a).len(), read(&a).width, read(&a).classes.len()), (12, 192, 2));
    // The mean of the patch tokens is another pooling of the same network.
    let mean = dir.path().join("mean");
    let args = ["features", "--weights", text(&checkpoint), "--data", text(&data), "--out", text(&mean)];
    accepted(&[&args[..], &["--pool", "mean", "--npy"]].concat());
    assert_eq!((read(&mean).len(), read(&mean).width), (12, 192));
    assert_ne!(read(&mean).features, read(&a).features);
    // The NumPy files contain the same.
    let array = |name: &str| candle_core::Tensor::read_npy(mean.join(name)).unwrap();
    assert_eq!(array("val_features.npy").dims(), [12, 192]);
    assert_eq!(values(&array("val_features.npy")), read(&mean).features);
    assert_eq!(array("val_labels.npy").to_vec1::<u32>().unwrap(), read(&mean).labels);
    assert_eq!(array("train_labels.npy").dims(), [12]);
    // Two classes with different brightness are easy to separate.
    let json: serde_json::Value = serde_json::from_str(&accepted(&["probe", text(&a), "--json"])).unwrap();
    assert_eq!(json["top1"], 1.0, "{json}");
    let json: serde_json::Value =
        serde_json::from_str(&accepted(&["knn", text(&a), "--k", "1,3", "--json"])).unwrap();
    assert_eq!((json[1]["k"].as_u64(), json[1]["images"].as_u64()), (Some(3), Some(12)));

    // Fine-tuning starts with the encoder, given as the checkpoint or as the weights.
    let begun = |init: &Path, more: &[&str]| {
        let out = tempfile::tempdir().unwrap();
        let quick =
            ["--epochs", "1", "--batch", "4", "--eval-every", "100%", "--stop-after", "1", "--warmup", "0st"];
        let args = ["finetune", "--init", text(init), "--data", text(&data), "--out", text(out.path())];
        accepted(&[&args[..], &quick, more].concat());
        let saved = Checkpoint::open(&out.path().join("last.safetensors")).unwrap();
        assert_eq!((saved.run().unwrap().model.as_str(), saved.run().unwrap().base_size), ("deit_tiny", 32));
        values(&saved.weights(false).unwrap()["blocks.11.mlp.fc2.weight"])
    };
    assert_eq!(begun(&checkpoint, &[]), begun(&bare, &["--model", "deit_tiny", "--base-size", "32"]));

    // It has no classes, and the error says so.
    let said = efficienttrain(&["eval", "--weights", text(&checkpoint)]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("pre-training"));
}

#[test]
fn what_cannot_be_pretrained_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    for (args, expected) in [
        (&["pretrain", "--model", "resnet18"][..], &["--model", "deit_small"][..]),
        (&["pretrain", "--mask-ratio", "1"], &["--mask-ratio"]),
        (&["pretrain", "--decoder", "30x4x2"], &["multiple of 4"]),
        (&["pretrain", "--base-size", "16", "--recipe", "baseline"], &["mask_ratio"]),
        (&["train", "--decoder", "64x4x2"], &["--decoder", "--target"]),
        (&["search", "--target", "hog", "--model", "deit_tiny", "--base-size", "64"], &["--target"]),
    ] {
        let other = dir.path().join("other");
        let said = efficienttrain(&[args, &["--out", text(&other)]].concat());
        let text = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(1), "{args:?}: {text}");
        expected.iter().for_each(|word| assert!(text.contains(word), "{args:?}: {text}"));
        assert!(!other.exists());
    }
}

/// Returns `per_class` points around one center per class, far enough apart to be separable despite
/// the noise.
fn clusters(per_class: usize, shift: u32, noise: f32) -> FeatureSet {
    let mut state = 12_345u32.wrapping_add(shift);
    let mut draw = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let (mut features, mut labels) = (Vec::new(), Vec::new());
    for class in 0..3u32 {
        for _ in 0..per_class {
            features.extend((0..5).map(|i| if i == class { 2.0 } else { 0.0 } + noise * draw()));
            labels.push(class);
        }
    }
    let classes = vec!["a".into(), "b".into(), "c".into()];
    FeatureSet { features, width: 5, labels, classes }
}

#[test]
fn probe_and_neighbors_tell_what_can_be_told_whatever_the_threads() {
    let (train, val) = (clusters(300, 0, 1.0), clusters(40, 1, 1.0));
    let (easy, vote) = (
        linear_probe(&train, &val, ProbeOptions::default()).unwrap(),
        nearest_neighbors(&train, &val, 20, 0.07).unwrap(),
    );
    assert_eq!((easy.top1, vote.top1), (1.0, 1.0));
    assert!(easy.slope <= 1e-5 && easy.steps < 1000, "{easy:?}");
    // Without information, both are as good as a guess.
    let chance = FeatureSet {
        features: clusters(300, 5, 1.0).features.iter().map(|x| x.fract()).collect(),
        ..train.clone()
    };
    let shuffled = FeatureSet { labels: (0..900).map(|i| i * 7 % 3).collect(), ..chance };
    let guess = linear_probe(&shuffled, &shuffled, ProbeOptions::default()).unwrap();
    assert!((0.25..0.45).contains(&guess.top1), "{guess:?}");
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| linear_probe(&train, &val, ProbeOptions::default()).unwrap());
        assert_eq!(again, easy);
    }
}

#[test]
fn the_probe_ends_where_the_slopes_are_zero() {
    // Two classes at -1 and 1 on a line: by symmetry the weights are w and -w, and the loss is ln(1
    // + exp(-2w)) + l2 w^2.
    let features = vec![-1.0f32, 1.0, -1.0, 1.0];
    let classes = vec!["left".into(), "right".into()];
    let set = FeatureSet { features, width: 1, labels: vec![0, 1, 0, 1], classes };
    let l2 = 0.1;
    let probe = linear_probe(&set, &set, ProbeOptions { l2, steps: 10_000 }).unwrap();
    let loss = |w: f64| (-2.0 * w).exp().ln_1p() + l2 * w * w;
    let least = (0..20_000).map(|i| loss(f64::from(i) * 1e-4)).fold(f64::MAX, f64::min);
    assert!((probe.loss - least).abs() < 1e-7, "{} for {least}", probe.loss);
}

#[test]
fn sets_that_do_not_go_together_are_refused() {
    let (train, val) = (clusters(5, 0, 1.0), clusters(5, 1, 1.0));
    let probe =
        |a: &FeatureSet, b: &FeatureSet| linear_probe(a, b, ProbeOptions::default()).unwrap_err().rendered();
    let narrow = FeatureSet { width: 3, ..clusters(3, 0, 1.0) };
    assert!(probe(&train, &narrow).contains("width 5 and 3"));
    let other = FeatureSet { classes: vec!["x".into()], ..val.clone() };
    assert!(probe(&train, &other).contains("different classes"));
    assert!(nearest_neighbors(&train, &val, 16, 0.07).unwrap_err().rendered().contains("1 to 15"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.safetensors");
    train.save(&path).unwrap();
    assert_eq!(FeatureSet::load(&path).unwrap(), train);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    assert!(FeatureSet::load(&path).unwrap_err().rendered().contains("set.safetensors"));
    let tensors = [("x".to_string(), candle_core::Tensor::new(1f32, &Device::Cpu).unwrap())].into();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    assert!(FeatureSet::load(&path).unwrap_err().rendered().contains("features"));
}
