//! Networks that take gray images.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{InputChannels, Normalization, TargetName, TrainConfig};
use efficienttrain::data::{
    Batch, BatchImages, BatchRequest, EvalPipeline, Loader, RawBytes, Source, Split, Synthetic,
    TrainPipeline, ViewSpec, Workspace, stats,
};
use efficienttrain_models::predict;
use efficienttrain_schedule::{Augmentation, Order, Recipe};
use image::RgbImage;
use randaug::luma;

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{config, image_folder, options, pipeline, run};

const GRAY: Option<InputChannels> = Some(InputChannels::Gray);

fn set() -> Arc<dyn Source> {
    Arc::new(Synthetic::new(1, Split::Train, 24, 72).unwrap())
}

fn batch(pipeline: &TrainPipeline) -> Batch {
    let view = ViewSpec { size: 24, magnitude: 5.0, order: Order::CropThenAugment };
    let requests = std::iter::once(BatchRequest::fresh_images(0, 8, view));
    Loader::train(set(), pipeline.clone(), requests, 1).unwrap().next().unwrap().unwrap()
}

#[test]
fn gray_batches_hold_the_luma_of_color_batches() {
    let whole = Recipe::named("resnet18-etpp").unwrap().augmentation;
    let geometry = Augmentation { ops: 0, erasing: 0.0, mixup: 0.0, cutmix: 0.0, ..whole };
    let plain = TrainPipeline { augmentation: geometry, raw_batches: true, ..pipeline() };
    let BatchImages::Raw(color) = batch(&plain).images else { panic!("bytes") };
    let RawBytes::Host(color) = color.bytes else { panic!("bytes in host memory") };
    let normalization = Normalization::of_imagenet(InputChannels::Gray);
    let expected: Vec<f32> =
        color.as_chunks().0.iter().map(|&rgb| (f32::from(luma(rgb)) / 255.0 - 0.449) / 0.226).collect();
    let gray = batch(&TrainPipeline { normalization, raw_batches: false, ..plain.clone() });
    assert_eq!(gray.normalized().unwrap(), expected);
    let raw = batch(&TrainPipeline { normalization, ..plain }).tensor(&Device::Cpu).unwrap();
    assert_eq!(raw.dims(), [8, 24, 24, 1]);
    assert_eq!(raw.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected);
}

/// Erasing and mixing draw the same values for the host and the device.
#[test]
fn augmented_gray_batches_are_the_same_from_bytes() {
    let normalization = Normalization::of_imagenet(InputChannels::Gray);
    let strong = TrainPipeline { normalization, ..pipeline() };
    let strong =
        TrainPipeline { augmentation: Augmentation { erasing: 0.9, ..strong.augmentation }, ..strong };
    let host = batch(&strong);
    let device = batch(&TrainPipeline { raw_batches: true, ..strong }).tensor(&Device::Cpu).unwrap();
    let device = device.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let off = host.normalized().unwrap().iter().zip(&device).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-5 && device.len() == 8 * 24 * 24, "{off}");
}

#[test]
fn evaluation_and_statistics_see_gray_images() {
    let image = RgbImage::from_pixel(30, 30, image::Rgb([255, 0, 0]));
    let half = Normalization { channels: InputChannels::Gray, mean: [0.5; 3], std: [0.25; 3] };
    let mut values = vec![0.0; 24 * 24];
    let eval = EvalPipeline::new(24).with_normalization(half);
    eval.apply(&image, &mut Workspace::default(), &mut values).unwrap();
    assert_eq!(values, vec![(76f32 / 255.0 - 0.5) / 0.25; 24 * 24]);
    let found = stats(&*set(), InputChannels::Gray, None).unwrap();
    let pixels = (0..set().len()).map(|i| set().load(i).unwrap());
    let mean_of = |image: RgbImage| {
        let pixels = image.as_chunks().0;
        pixels.iter().map(|&rgb| f64::from(luma(rgb))).sum::<f64>() / pixels.len() as f64 / 255.0
    };
    let expected = pixels.map(mean_of).sum::<f64>() / 24.0;
    assert!(found.mean.iter().all(|mean| (mean - expected).abs() < 1e-9), "{found:?} {expected}");
}

/// The sum of the first layer's channels sees in a gray image what the three channels see.
#[test]
fn a_color_model_made_gray_sees_the_same_in_gray_images() {
    let dir = tempfile::tempdir().unwrap();
    let half = Some("0.5".parse().unwrap());
    let color =
        TrainConfig { mean: half, std: half, ema_decay: Some(0.0), epochs: 0.5, ..config("resnet10") };
    run(&color, options(&dir.path().join("color"), 1)).train(&mut ()).unwrap();
    let init = Some(dir.path().join("color/model.safetensors"));
    let of = |input_channels| {
        let config =
            TrainConfig { init: init.clone(), input_channels, mean: None, std: None, ..color.clone() };
        run(&config, options(&dir.path().join("other"), 1))
    };
    let (color, gray) = (of(None), of(GRAY));
    let channels = |run: &efficienttrain::Run| run.state.model.in_channels();
    assert_eq!((channels(&color), channels(&gray)), (3, 1));
    let [size, _] = gray.state.model.input_size();
    let image = Tensor::randn(0f32, 1., (2, 1, size, size), &Device::Cpu).unwrap();
    let logits = |run: &efficienttrain::Run, image: &Tensor| {
        let model = run.state.model.classifier().unwrap();
        predict(model, &run.state.params, image).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    let three = Tensor::cat(&[&image; 3], 1).unwrap();
    for (a, b) in logits(&gray, &image).iter().zip(logits(&color, &three)) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

fn said(args: &[&str]) -> String {
    let out = efficienttrain(args);
    assert!(!out.status.success(), "{args:?}");
    String::from_utf8_lossy(&out.stderr).into_owned()
}

fn train(data: &Path, out: &Path, more: &[&str]) {
    let args =
        ["train", "--data", text(data), "--out", text(out), "--model", "resnet10", "--base-size", "32"];
    let short =
        ["--epochs", "1", "--batch", "8", "--warmup", "0st", "--recipe", "baseline", "--workers", "1"];
    accepted(&[&args[..], &short, more].concat());
}

#[test]
fn every_command_takes_a_gray_model() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 8);
    let path = |name: &str| dir.path().join(name);
    train(&data, &path("run"), &["--input-channels", "1"]);
    let weights = path("run/model.safetensors");
    let saved = Checkpoint::open(&weights).unwrap();
    assert_eq!(saved.weights(false).unwrap()["conv1.weight"].dims()[1], 1);
    accepted(&["eval", "--weights", text(&weights)]);
    accepted(&["predict", "--weights", text(&weights), text(&data.join("val"))]);
    accepted(&["features", "--weights", text(&weights), "--out", text(&path("features"))]);
    accepted(&["export", "--weights", text(&weights), "--out", text(&path("model.onnx"))]);
    let file = std::fs::read(path("model.onnx")).unwrap();
    let holds = |what: &str| memchr::memmem::find(&file, what.as_bytes()).is_some();
    assert!(holds("[1,32,32]") && holds("[0.449]") && holds("[0.226]"));
    // Fine-tuning goes on with gray images, unless it is told otherwise.
    let init = ["--init", text(&weights)];
    train(&data, &path("tuned"), &init);
    train(&data, &path("color"), &[&init[..], &["--input-channels", "3"]].concat());
    let channels = |name: &str| Checkpoint::open(&path(name)).unwrap().run().unwrap().config.channels();
    assert_eq!(channels("tuned/model.safetensors"), InputChannels::Gray);
    assert_eq!(channels("color/model.safetensors"), InputChannels::Rgb);
    // The weights alone tell how many channels they are for.
    accepted(&["export", "--weights", text(&weights), "--out", text(&path("plain.safetensors"))]);
    let bare =
        ["features", "--weights", text(&path("plain.safetensors")), "--model", "resnet10"].map(String::from);
    let more = ["--size", "32", "--data", text(&data), "--out", text(&path("of-plain"))].map(String::from);
    accepted(&bare.iter().chain(&more).map(String::as_str).collect::<Vec<_>>());
    let same = |name: &str| std::fs::read(path(name).join("val.safetensors")).unwrap();
    assert!(same("features") == same("of-plain"));
}

#[test]
fn statistics_of_gray_images_are_options_of_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 2, 8);
    let file = dir.path().join("stats.toml");
    accepted(&["data", "stats", text(&data), "--input-channels", "1", "--write", text(&file)]);
    train(&data, &dir.path().join("run"), &["--config", text(&file)]);
    let saved = Checkpoint::open(&dir.path().join("run/model.safetensors")).unwrap();
    let normalization = saved.run().unwrap().config.normalization();
    assert_eq!(normalization.channels, InputChannels::Gray);
    assert_ne!(normalization.mean, [0.449; 3]);
}

#[test]
fn other_channels_are_refused() {
    let message = said(&["train", "--input-channels", "2"]);
    assert!(message.contains("--input-channels") && message.contains("expected 1"), "{message}");
    let message = said(&["train", "--dry-run", "--input-channels", "1", "--mean", "0.5,0.5,0.4"]);
    assert!(message.contains("--mean") && message.contains("--input-channels"), "{message}");
}

#[test]
fn an_autoencoder_learns_gray_images() {
    let dir = tempfile::tempdir().unwrap();
    for target in [TargetName::Hog, TargetName::NormalizedPixels] {
        let config = TrainConfig {
            target: Some(target),
            input_channels: GRAY,
            synthetic_images: 16,
            base_size: 64,
            epochs: 0.5,
            ema_decay: None,
            ..config("deit_tiny")
        };
        let out = dir.path().join(format!("{target:?}"));
        run(&config, options(&out, 1)).train(&mut ()).unwrap();
        let encoder = Checkpoint::open(&out.join("encoder.safetensors")).unwrap().weights(false).unwrap();
        assert_eq!(encoder["patch_embed.proj.weight"].dims()[1], 1);
    }
}
