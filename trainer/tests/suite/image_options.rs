//! Options about images: normalization, filter, vertical flip, color, and which images are seen.

use std::sync::Arc;

use crate::common::command::{accepted, text};
use crate::common::{config, image_folder, options, pipeline, run};
use candle_core::Device;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{
    ClassWeights, InputChannels, Interpolation, Normalization, SamplerName, TrainConfig,
};
use efficienttrain::data::{
    Batch, BatchRequest, EvalPipeline, Loader, SampleId, Source, Split, Synthetic, TrainPipeline, ViewSpec,
    Workspace,
};
use efficienttrain::inference::predict::Predictor;
use efficienttrain_schedule::{Augmentation, Order, Recipe};
use image::RgbImage;
use randaug::{ColorJitter, Purpose, flip_vertical, grayscale, sample_rng};

const HALF: Normalization = Normalization { channels: InputChannels::Rgb, mean: [0.5; 3], std: [0.5; 3] };

/// Crop and horizontal flip alone.
fn plain() -> TrainPipeline {
    let whole = Recipe::named("resnet18-etpp").unwrap().augmentation;
    let augmentation = Augmentation { ops: 0, erasing: 0.0, mixup: 0.0, cutmix: 0.0, ..whole };
    TrainPipeline { augmentation, ..pipeline() }
}

fn set() -> Arc<dyn Source> {
    Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap())
}

fn prepared(pipeline: &TrainPipeline, index: usize, size: u32) -> RgbImage {
    let view = ViewSpec { size, magnitude: 5.0, order: Order::CropThenAugment };
    let (image, mut out) = (set().load(index).unwrap().into(), RgbImage::default());
    pipeline
        .prepare(&image, view, SampleId { epoch: 0, index }, &mut Workspace::default(), &mut out)
        .unwrap();
    out
}

fn batches(pipeline: &TrainPipeline, source: Arc<dyn Source>, count: u64) -> Vec<Batch> {
    let view = ViewSpec { size: 24, magnitude: 5.0, order: Order::CropThenAugment };
    let requests = (0..count).map(move |i| BatchRequest::fresh_images(i * 8, 8, view));
    Loader::train(source, pipeline.clone(), requests, 2).unwrap().map(Result::unwrap).collect()
}

#[test]
fn images_are_normalized_by_the_given_numbers_on_either_side() {
    let imagenet = batches(&plain(), set(), 2);
    let half = batches(&TrainPipeline { normalization: HALF, ..plain() }, set(), 2);
    let raw = batches(&TrainPipeline { normalization: HALF, raw_batches: true, ..plain() }, set(), 2);
    let default = Normalization::default();
    for ((a, b), c) in imagenet.iter().zip(&half).zip(&raw) {
        let (a, b) = (a.normalized().unwrap(), b.normalized().unwrap());
        for (i, (a, b)) in a.iter().zip(b).enumerate() {
            let pixel = a * default.std[i % 3] + default.mean[i % 3];
            assert!((b - (pixel - 0.5) / 0.5).abs() < 1e-5);
        }
        let finished = c.tensor(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(finished == b, "bytes that the device normalizes");
    }
    let mut pixels = vec![0.0; 24 * 24 * 3];
    let white = RgbImage::from_pixel(30, 30, image::Rgb([255; 3]));
    let eval = EvalPipeline::new(24).with_normalization(HALF);
    eval.apply(&white, &mut Workspace::default(), &mut pixels).unwrap();
    assert_eq!(pixels, vec![1.0; 24 * 24 * 3]);
}

#[test]
fn a_vertical_flip_mirrors_what_is_there_without_it() {
    let flips = |vflip: f64, fused: bool| TrainPipeline { vflip, fused, ..plain() };
    for index in 0..10 {
        let mut expected = prepared(&flips(0.0, true), index, 48);
        flip_vertical(&mut expected);
        assert!(prepared(&flips(1.0, true), index, 48) == expected);
        // The low-frequency crop follows the flip. As one operator it differs by roundings.
        let (one, steps) = (prepared(&flips(1.0, true), index, 24), prepared(&flips(1.0, false), index, 24));
        let off: f64 = one.iter().zip(steps.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum();
        assert!(off / one.len() as f64 <= 1.0, "{index}: {off}");
        assert!(one != prepared(&flips(0.0, true), index, 24));
    }
    let flipped = |&i: &usize| prepared(&flips(0.5, true), i, 48) != prepared(&flips(0.0, true), i, 48);
    let count = (0..40).filter(flipped).count();
    assert!((10..30).contains(&count), "{count}");
}

#[test]
fn color_follows_the_policy_by_its_own_draws() {
    let strength = 0.4;
    let jitter = ColorJitter::symmetric(strength).unwrap();
    let colored = TrainPipeline { color_jitter: jitter, grayscale: 0.3, ..pipeline() };
    let mut gray = 0;
    for index in 0..40 {
        let mut expected = prepared(&pipeline(), index, 24);
        let mut rng = sample_rng(colored.seed, 0, index as u64, Purpose::Jitter);
        jitter.apply(&mut expected, &mut rng).unwrap();
        if rand::RngExt::random_bool(&mut rng, 0.3) {
            grayscale(&mut expected);
            gray += 1;
        }
        assert!(prepared(&colored, index, 24) == expected, "{index}");
    }
    assert!((4..22).contains(&gray), "{gray}");
}

#[test]
fn a_filter_is_used_for_the_random_crop_and_random_draws_one_of_two() {
    for size in [48, 24] {
        let with = |interpolation| TrainPipeline { interpolation, ..plain() };
        let of = |interpolation: Interpolation, index| prepared(&with(interpolation), index, size);
        let mut bilinear = 0;
        for index in 0..30 {
            let all = [
                Interpolation::Bicubic,
                Interpolation::Bilinear,
                Interpolation::Lanczos,
                Interpolation::Nearest,
            ]
            .map(|filter| of(filter, index));
            for (i, image) in all.iter().enumerate() {
                assert!(all[..i].iter().all(|other| other != image), "{size} {index} {i}");
            }
            let random = of(Interpolation::Random, index);
            assert!(random == all[0] || random == all[1]);
            bilinear += usize::from(random == all[1]);
        }
        assert!((7..23).contains(&bilinear), "{bilinear}");
        assert!(of(Interpolation::Bicubic, 3) == prepared(&plain(), 3, size));
    }
}

/// Images of three classes: eight, two and two.
struct Uneven(Vec<String>);

impl Source for Uneven {
    fn len(&self) -> usize {
        12
    }
    fn classes(&self) -> &[String] {
        &self.0
    }
    fn label(&self, index: usize) -> u32 {
        [0, 0, 1, 0, 0, 2, 0, 0, 1, 0, 0, 2][index]
    }
    fn name(&self, index: usize) -> String {
        index.to_string()
    }
    fn load(&self, index: usize) -> Result<RgbImage, efficienttrain::DataError> {
        set().load(index)
    }
}

fn uneven() -> Arc<dyn Source> {
    Arc::new(Uneven(["a", "b", "c"].map(String::from).to_vec()))
}

#[test]
fn a_balanced_sampler_takes_each_class_equally_often() {
    let balanced = TrainPipeline { sampler: SamplerName::Balanced, ..plain() };
    // Three epochs of twelve images in batches of eight, which straddle them.
    let seen = batches(&balanced, uneven(), 9);
    let samples: Vec<usize> = seen.iter().flat_map(|batch| batch.samples.clone()).collect();
    let mut orders = Vec::new();
    for epoch in samples.chunks_exact(12) {
        let mut by_class = [0; 3];
        epoch.iter().for_each(|&i| by_class[uneven().label(i) as usize] += 1);
        assert_eq!(by_class, [4; 3]);
        let times = |index| epoch.iter().filter(|&&i| i == index).count();
        // The two images of a rare class twice each, those of the frequent one at most once.
        assert!([2, 8, 5, 11].into_iter().all(|i| times(i) == 2), "{epoch:?}");
        assert!([0, 1, 3, 4, 6, 7, 9, 10].into_iter().all(|i| times(i) <= 1), "{epoch:?}");
        orders.push(epoch.to_vec());
    }
    assert!(orders[0] != orders[1] && orders[1] != orders[2]);
    assert!(batches(&balanced, uneven(), 9) == seen);
}

#[test]
fn weights_of_classes_multiply_the_targets() {
    let weighted = TrainPipeline { class_weights: Some(Arc::new([0.5, 2.0, 3.0])), ..plain() };
    for (plain, weighted) in batches(&plain(), uneven(), 3).iter().zip(batches(&weighted, uneven(), 3)) {
        assert_eq!(plain.images, weighted.images);
        for (a, b) in plain.targets.chunks_exact(3).zip(weighted.targets.chunks_exact(3)) {
            assert_eq!([a[0] * 0.5, a[1] * 2.0, a[2] * 3.0], b);
        }
    }
}

#[test]
fn numbers_of_the_images_stay_with_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 8);
    let out = dir.path().join("run");
    let weights = dir.path().join("weights.csv");
    std::fs::write(&weights, "class0,1\nclass1,0.5\nclass2,2\n").unwrap();
    let mut given = TrainConfig {
        data: Some(data),
        mean: Some("0.5".parse().unwrap()),
        std: Some("0.5".parse().unwrap()),
        class_weights: Some(text(&weights).parse().unwrap()),
        sampler: SamplerName::Balanced,
        drop_rate: 0.1,
        ..config("resnet10")
    };
    let mut whole = run(&given, options(&out, 2));
    whole.train(&mut ()).unwrap();
    // Neither the run nor its repetition needs the file again.
    std::fs::remove_file(&weights).unwrap();
    let saved = Checkpoint::open(&out.join("last.safetensors")).unwrap();
    let record = saved.run().unwrap();
    assert_eq!(record.config.normalization(), HALF);
    assert!(matches!(record.config.class_weights, Some(ClassWeights::Table(_))));
    let repeated = dir.path().join("repeated");
    accepted(&["train", "--config", text(&out.join("config.toml")), "--out", text(&repeated)]);
    let weights_of = |path: &std::path::Path| {
        let all = Checkpoint::open(&path.join("model.safetensors")).unwrap().weights(false).unwrap();
        all["fc.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap()
    };
    assert!(weights_of(&out) == weights_of(&repeated));
    assert_eq!(Predictor::load(&saved, false).unwrap().normalization, HALF);
    // Fine-tuning goes on with them, unless it is given others.
    given.init = Some(out.join("model.safetensors"));
    (given.mean, given.std, given.class_weights, given.epochs) = (None, None, None, 0.5);
    let tuned = dir.path().join("tuned");
    run(&given, options(&tuned, 2)).train(&mut ()).unwrap();
    let tuned = Checkpoint::open(&tuned.join("model.safetensors")).unwrap();
    assert_eq!(tuned.run().unwrap().config.normalization(), HALF);
    let exported = dir.path().join("model.onnx");
    accepted(&["export", "--weights", text(&out.join("last.safetensors")), "--out", text(&exported)]);
    let file = std::fs::read(&exported).unwrap();
    assert!(memchr::memmem::find(&file, b"[0.5,0.5,0.5]").is_some());
}
