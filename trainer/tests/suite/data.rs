//! Loader and sources: the same batches for any number of workers, bad images reported, no hangs.

use crate::common::Rendered;
use efficienttrain::data::BatchImages;
use std::sync::Arc;

use crate::common::{image_folder, pipeline};
use candle_core::Device;
use efficienttrain::DataError;
use efficienttrain::data::{
    Batch, BatchRequest, EvalPipeline, ImageFolder, Loader, Source, Split, Synthetic, TrainPipeline, ViewSpec,
};
use efficienttrain_models::ops::Blend;
use efficienttrain_schedule::{Augmentation, Order, Replay};
use image::RgbImage;

/// Twelve batches over two and a half epochs of 40 images, with changes of size and magnitude.
fn requests() -> impl Iterator<Item = BatchRequest> + Send {
    (0..12u64).map(|i| {
        let view = ViewSpec {
            size: if i < 6 { 24 } else { 48 },
            magnitude: i as f64 / 2.0,
            order: if i % 2 == 0 { Order::CropThenAugment } else { Order::AugmentThenCrop },
        };
        BatchRequest::fresh_images(i * 8, 8, view)
    })
}

fn batches(source: Arc<dyn Source>, workers: usize) -> Vec<Batch> {
    Loader::train(source, pipeline(), requests(), workers).unwrap().map(Result::unwrap).collect()
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let source: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap());
    let one = batches(source.clone(), 1);
    assert_eq!(one.len(), 12);
    assert!(one.iter().all(|b| b.labels.len() == 8 && b.targets.len() == 80));
    assert!(one.iter().all(|b| b.normalized().unwrap().iter().all(|p| p.is_finite())));
    assert_eq!(one[0].normalized().unwrap().len(), 8 * 24 * 24 * 3);
    assert_eq!(one[11].normalized().unwrap().len(), 8 * 48 * 48 * 3);
    for workers in [2, 7] {
        assert!(batches(source.clone(), workers) == one, "{workers} workers make other batches");
    }
}

/// A named policy equals the recipe's RandAugment at every magnitude if it has the same settings,
/// and only then.
#[test]
fn policies_by_name_take_the_place_of_the_recipes() {
    let source: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap());
    let of = |policy: Option<&str>, change: fn(&mut Augmentation)| -> Vec<Vec<f32>> {
        let mut augmentation = pipeline().augmentation;
        change(&mut augmentation);
        let policy = policy.map(|text| text.parse().unwrap());
        let pipeline = TrainPipeline { policy, augmentation, ..pipeline() };
        Loader::train(source.clone(), pipeline, requests(), 2)
            .unwrap()
            .map(|b| b.unwrap().normalized().unwrap().to_vec())
            .collect()
    };
    let own = of(None, |_| ());
    let (none, plain) = (of(None, |a| a.ops = 0), of(None, |a| a.increasing = false));
    assert!(own != none && own != plain && none != plain);
    assert!(of(Some("rand-m9-mstd0.5-inc1"), |_| ()) == own);
    assert!(of(Some("rand-m9-mstd0.5-inc0"), |_| ()) == plain);
    assert!(of(Some("none"), |_| ()) == none);
    assert!(![own, none, plain].contains(&of(Some("v0"), |_| ())));
}

/// Images that the device normalizes, erases and mixes equal those of the workers bitwise,
/// including replayed ones.
#[test]
fn what_a_device_finishes_is_what_workers_would_have_finished() {
    let source: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap());
    let mut seen = [0; 3];
    for replay in [Replay::OFF, Replay { times: 2, buffer_batches: 3 }] {
        let augmentation = Augmentation { mixup: 0.8, cutmix: 1.0, erasing: 0.5, ..pipeline().augmentation };
        let batches = |raw_batches: bool| -> Vec<Batch> {
            let requests = requests().map(move |r| BatchRequest { replay, count: 8, ..r });
            let pipeline = TrainPipeline { raw_batches, augmentation: augmentation.clone(), ..pipeline() };
            Loader::train(source.clone(), pipeline, requests, 2).unwrap().map(Result::unwrap).collect()
        };
        let bits = |batch: &Batch| -> Vec<u32> {
            let images = batch.tensor(&Device::Cpu).unwrap();
            assert_eq!(images.dims(), [8, batch.size, batch.size, 3]);
            images.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        for (late, early) in batches(true).iter().zip(&batches(false)) {
            assert!(bits(late) == bits(early));
            assert_eq!(
                (&late.targets, &late.labels, &late.samples),
                (&early.targets, &early.labels, &early.samples)
            );
            let BatchImages::Raw(raw) = &late.images else { panic!("no bytes") };
            assert!(early.normalized().is_some());
            seen[0] += raw.boxes.len();
            seen[1] += usize::from(matches!(raw.blend, Blend::Share { .. }));
            seen[2] += usize::from(matches!(raw.blend, Blend::Box { .. }));
        }
    }
    assert!(seen[0] > 50 && seen[1] > 3 && seen[2] > 3, "{seen:?}");
}

#[test]
fn every_image_is_seen_once_an_epoch() {
    let source: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap());
    let mut seen = [0; 10];
    for batch in &batches(source, 2)[..5] {
        batch.labels.iter().for_each(|&l| seen[l as usize] += 1);
    }
    assert_eq!(seen, [4; 10]);
}

/// Source that fails on some images, and panics for image 1000.
struct Faulty {
    inner: Synthetic,
    bad: Vec<usize>,
    panics: bool,
}

impl Source for Faulty {
    fn len(&self) -> usize {
        self.inner.len()
    }
    fn classes(&self) -> &[String] {
        self.inner.classes()
    }
    fn label(&self, index: usize) -> u32 {
        self.inner.label(index)
    }
    fn name(&self, index: usize) -> String {
        format!("image {index}")
    }
    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        assert!(!self.panics || !self.bad.contains(&index), "a bug on purpose");
        if self.bad.contains(&index) {
            return Err(DataError::Image { name: self.name(index), reason: "broken".into() });
        }
        self.inner.load(index)
    }
}

fn faulty(bad: Vec<usize>, panics: bool) -> Arc<dyn Source> {
    Arc::new(Faulty { inner: Synthetic::new(1, Split::Train, 40, 72).unwrap(), bad, panics })
}

#[test]
fn a_bad_image_is_named_and_replaced_by_the_next() {
    let all = batches(faulty(vec![3, 4], false), 3);
    let named: std::collections::BTreeSet<_> =
        all.iter().flat_map(|b| b.bad.iter().map(|b| b.name.clone())).collect();
    assert_eq!(named.into_iter().collect::<Vec<_>>(), ["image 3", "image 4"]);
    assert!(all.iter().all(|b| b.labels.len() == 8));
    let eval = EvalPipeline::new(32);
    let eval: Vec<Batch> =
        Loader::eval(faulty(vec![3, 4], false), eval, 16, 2).unwrap().map(Result::unwrap).collect();
    assert_eq!(eval.iter().map(|b| b.labels.len()).sum::<usize>(), 38);
    assert_eq!(eval.iter().map(|b| b.bad.len()).sum::<usize>(), 2);
}

#[test]
fn nothing_but_bad_images_ends_with_an_error() {
    let mut loader = Loader::train(faulty((0..40).collect(), false), pipeline(), requests(), 2).unwrap();
    let error = loader.next().unwrap().unwrap_err().rendered();
    assert!(error.contains("broken"), "{error}");
    assert!(loader.next().is_none());
}

#[test]
fn a_panicking_worker_ends_the_run_with_a_message() {
    let loader = Loader::train(faulty((0..40).collect(), true), pipeline(), requests(), 2).unwrap();
    let error = loader.last().unwrap().unwrap_err().rendered();
    assert!(error.contains("a bug on purpose"), "{error}");
}

#[test]
fn dropping_the_loader_early_stops_its_workers() {
    let source: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap());
    let held = Arc::downgrade(&source);
    let mut loader = Loader::train(source, pipeline(), requests(), 3).unwrap();
    assert!(loader.next().is_some());
    drop(loader);
    assert!(held.upgrade().is_none(), "a worker still holds the source");
}

#[test]
fn folders_that_cannot_be_trained_on_say_why() {
    let dir = tempfile::tempdir().unwrap();
    let message = |path: &std::path::Path| ImageFolder::open(path).unwrap_err().rendered();
    assert!(message(&dir.path().join("none")).contains("no such folder"));
    assert!(message(dir.path()).contains("no class folder"));
    std::fs::create_dir(dir.path().join("cat")).unwrap();
    std::fs::write(dir.path().join("cat/notes.txt"), "no image").unwrap();
    assert!(message(dir.path()).contains("class folder `cat` has no image"));
}

#[test]
fn splits_must_have_the_same_classes() {
    let dir = tempfile::tempdir().unwrap();
    image_folder(dir.path(), 2, 1);
    let train = ImageFolder::open(&dir.path().join("train")).unwrap();
    let val = dir.path().join("val");
    assert_eq!(ImageFolder::open_like(&val, train.classes()).unwrap().len(), 2);
    std::fs::rename(val.join("class1"), val.join("class9")).unwrap();
    let message = ImageFolder::open_like(&val, train.classes()).unwrap_err().rendered();
    assert!(message.contains("class9"), "{message}");
    // A class may have no evaluation images: the others keep their labels.
    std::fs::rename(val.join("class9"), val.join("class1")).unwrap();
    std::fs::remove_dir_all(val.join("class0")).unwrap();
    let part = ImageFolder::open_like(&val, train.classes()).unwrap();
    assert_eq!((part.len(), part.label(0), part.classes()), (1, 1, train.classes()));
    assert_eq!(efficienttrain::data::empty_classes(&part), ["class0"]);
    std::fs::remove_dir_all(val.join("class1")).unwrap();
    assert!(ImageFolder::open_like(&val, train.classes()).is_err());
}

#[test]
fn damaged_files_are_errors_and_odd_ones_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let folder = image_folder(dir.path(), 1, 1).join("train/class0");
    let whole = std::fs::read(folder.join("000.jpg")).unwrap();
    for (name, bytes) in
        [("empty.jpg", vec![]), ("short.jpg", whole[..20].to_vec()), ("text.png", b"not an image".to_vec())]
    {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        let message = efficienttrain::data::read_image(&path).unwrap_err().rendered();
        assert!(message.contains(name), "{message}");
    }
    // The content counts, not the file extension; gray and transparent images become RGB.
    std::fs::write(folder.join("jpeg.png"), &whole).unwrap();
    assert_eq!(efficienttrain::data::read_image(&folder.join("jpeg.png")).unwrap().dimensions(), (40, 36));
    image::GrayImage::from_pixel(5, 4, image::Luma([9])).save(folder.join("gray.png")).unwrap();
    let gray = efficienttrain::data::read_image(&folder.join("gray.png")).unwrap();
    assert_eq!(gray.get_pixel(2, 2).0, [9, 9, 9]);
}

#[test]
fn kept_images_are_those_that_are_decoded_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 8);
    let weights = |name: &str, cache_mib: u32, reduced_decode: bool| {
        let config = efficienttrain::config::TrainConfig {
            data: Some(data.clone()),
            reduced_decode,
            epochs: 2.0,
            batch: 8.into(),
            ..crate::common::config("resnet10")
        };
        let options = efficienttrain::config::RunOptions {
            cache_mib,
            ..crate::common::options(&dir.path().join(name), 2)
        };
        let mut run = crate::common::run(&config, options);
        run.train(&mut ()).unwrap();
        crate::common::bits(&run)
    };
    let plain = weights("plain", 0, false);
    assert!(plain == weights("cached", 16, false), "a cache changes the weights");
    assert!(plain == weights("reduced", 16, true), "a cache changes images at a reduced size");
}
