//! JPEGs decoded at a reduced size.

use crate::common::Rendered;
use efficienttrain::Run;
use efficienttrain::config::TrainConfig;
use efficienttrain::data::SampleId;
use efficienttrain::data::{
    Decoded, ImageFolder, TrainPipeline, ViewSpec, Workspace, decode, decode_reduced,
};
use efficienttrain_schedule::{Augmentation, Order, Recipe};
use image::{ExtendedColorType, ImageEncoder, RgbImage};

const LIMIT: u64 = 1 << 30;

fn photograph() -> RgbImage {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../freqcrop/tests/data/cat.png");
    image::open(path).unwrap().into_rgb8()
}

fn jpeg(image: &RgbImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 92);
    let (width, height) = image.dimensions();
    encoder.write_image(image, width, height, ExtendedColorType::Rgb8).unwrap();
    bytes
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/data/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// Returns the mean distance in levels from the means of blocks of `n` x `n` pixels of the full
/// image.
fn distance_from_blocks(small: &RgbImage, whole: &RgbImage, n: u32) -> f64 {
    let (width, height) = (whole.width() / n, whole.height() / n);
    let mut sum = 0.0;
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for c in 0..3 {
            let block = (0..n * n).map(|i| whole.get_pixel(x * n + i % n, y * n + i / n).0[c]);
            let mean = block.map(f64::from).sum::<f64>() / f64::from(n * n);
            sum += (mean - f64::from(small.get_pixel(x, y).0[c])).abs();
        }
    }
    sum / f64::from(3 * width * height)
}

#[test]
fn fractions_look_like_the_whole() {
    let bytes = jpeg(&photograph());
    let whole = decode(&bytes, "whole", LIMIT).unwrap();
    for n in [2, 4, 8] {
        let Decoded { pixels, full } = decode_reduced(&bytes, "part", LIMIT, &|_| n).unwrap();
        assert_eq!(full, whole.dimensions());
        assert_eq!(pixels.dimensions(), (full.0.div_ceil(n), full.1.div_ceil(n)));
        let distance = distance_from_blocks(&pixels, &whole, n);
        assert!(distance < 2.0, "1/{n}: {distance}");
    }
}

#[test]
fn every_kind_of_jpeg_keeps_its_colors_and_stands_upright() {
    let kinds = ["baseline", "progressive", "grey", "cmyk", "subsampled"].map(str::to_string);
    for name in kinds.into_iter().chain((2..=8).map(|n| format!("orientation{n}"))) {
        let bytes = fixture(&format!("{name}.jpg"));
        let whole = decode(&bytes, &name, LIMIT).unwrap();
        let asked = std::cell::Cell::new((0, 0));
        let half = decode_reduced(&bytes, &name, LIMIT, &|full| {
            asked.set(full);
            2
        });
        let half = half.unwrap();
        assert_eq!(half.full, whole.dimensions(), "{name}");
        assert_eq!(asked.get(), whole.dimensions(), "{name}");
        let (width, height) = whole.dimensions();
        assert_eq!(half.pixels.dimensions(), (width.div_ceil(2), height.div_ceil(2)), "{name}");
        let distance = distance_from_blocks(&half.pixels, &whole, 2);
        assert!(distance < 8.0, "{name}: {distance}");
    }
}

#[test]
fn what_is_no_whole_jpeg_is_decoded_as_ever() {
    let png = fixture("rgb.png");
    let decoded = decode_reduced(&png, "png", LIMIT, &|_| 8).unwrap();
    assert_eq!(decoded.pixels, decode(&png, "png", LIMIT).unwrap());
    let bytes = jpeg(&photograph());
    for length in [0, 2, 20, 300, bytes.len() / 2, bytes.len() - 2] {
        let message = decode_reduced(&bytes[..length], "cut.jpg", LIMIT, &|_| 2).unwrap_err().rendered();
        assert!(message.contains("cut.jpg"), "{message}");
    }
    assert!(decode_reduced(&bytes, "bomb.jpg", 1000, &|_| 8).is_err());
}

#[test]
fn damage_is_an_error_or_an_image_but_never_a_panic() {
    let whole = jpeg(&photograph());
    let mut state = 7u32;
    let mut draw = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    for _ in 0..300 {
        let mut bytes = whole.clone();
        for _ in 0..1 + draw(6) {
            let at = draw(bytes.len());
            bytes[at] = draw(256) as u8;
        }
        let _ = decode_reduced(&bytes, "damaged", 1 << 24, &|_| 2);
    }
}

/// Returns the mean distance in levels between training images from full and from reduced images,
/// over 40 epochs, and the number of reduced images.
fn apart(size: u32, min_crop_area: f64) -> (f64, usize) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("cat")).unwrap();
    std::fs::write(dir.path().join("cat/1.jpg"), jpeg(&photograph())).unwrap();
    let source = ImageFolder::open(dir.path()).unwrap();
    let augmentation =
        Augmentation { ops: 0, erasing: 0.0, ..Recipe::named("resnet18-etpp").unwrap().augmentation };
    let whole =
        TrainPipeline { seed: 1, base_size: 56, min_crop_area, augmentation, ..crate::common::pipeline() };
    let reduced = TrainPipeline { reduced_decode: true, ..whole.clone() };
    let view = ViewSpec { size, magnitude: 0.0, order: Order::CropThenAugment };
    let mut w = Workspace::default();
    let (mut sum, mut values, mut smaller) = (0.0, 0.0, 0);
    for epoch in 0..40 {
        let mut image = |pipeline: &TrainPipeline| {
            let image = pipeline.load(&source, SampleId { epoch, index: 0 }, view).unwrap();
            let mut out = RgbImage::default();
            pipeline.prepare(&image, view, SampleId { epoch, index: 0 }, &mut w, &mut out).unwrap();
            (out, image.pixels.dimensions())
        };
        let ((a, full), (b, part)) = (image(&whole), image(&reduced));
        smaller += usize::from(part != full);
        sum += a.iter().zip(b.iter()).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
        values += a.len() as f64;
    }
    println!(
        "size {size}, boxes from {min_crop_area}: {smaller} of 40 reduced, {:.2} levels apart",
        sum / values
    );
    (sum / values, smaller)
}

#[test]
fn with_twice_the_pixels_training_images_are_a_level_apart() {
    for size in [24, 40, 56] {
        // With the whole image as crop box, only decoding differs.
        let (levels, reduced) = apart(size, 1.0);
        assert!(reduced == 40 && levels > 0.0 && levels < 1.5, "{size}: {levels}, {reduced} of 40");
        // A box is rounded to pixels of the reduced image, so it moves by up to half of one.
        let (levels, reduced) = apart(size, 0.3);
        assert!(reduced > 20 && levels < 4.0, "{size}: {levels}, {reduced} of 40");
    }
}

#[test]
fn the_option_is_accepted() {
    assert!(Run::check(&TrainConfig { reduced_decode: true, ..TrainConfig::default() }).is_ok());
}
