//! Crops that keep the aspect ratio, against timm and torchvision.

mod common;

use common::{assert_same, cases, float, int, oracle, synth_image, text};
use image::{Rgb, RgbImage};
use randaug::{
    EvalTransform, Padding, Purpose, RandomCropOrPad, ResizeKeepRatio, Scratch, SimpleRandomCrop,
    crop_or_pad, sample_rng,
};

#[test]
fn cropping_and_padding_give_the_libraries_bytes() {
    let (file, tensors) = oracle();
    for case in cases(&file, "crop_or_pad") {
        let source = tensors.picture(&format!("input/{}", text(case, "input")));
        let corner = |key: &str| case[key].as_i64().unwrap();
        let padding = if case["mode"] == "reflect" { Padding::Reflect } else { Padding::Constant([7, 8, 9]) };
        let mut out = RgbImage::from_pixel(int(case, "width"), int(case, "height"), Rgb([1, 2, 3]));
        crop_or_pad(&source, corner("top"), corner("left"), padding, &mut out).unwrap();
        let key = text(case, "key");
        assert_same(&out, &tensors.picture(key), key);
    }
    // Padded by 4 on all sides, then cut: the corner lies 4 before.
    for case in cases(&file, "pad_then_crop") {
        let source = tensors.picture(&format!("input/{}", text(case, "input")));
        let corner = |key: &str| case[key].as_i64().unwrap() - case["padding"].as_i64().unwrap();
        let mut out = RgbImage::new(int(case, "size"), int(case, "size"));
        crop_or_pad(&source, corner("top"), corner("left"), Padding::Reflect, &mut out).unwrap();
        let key = text(case, "key");
        assert_same(&out, &tensors.picture(key), key);
    }
}

#[test]
fn drawn_numbers_give_timms_edges() {
    for case in cases(&oracle().0, "keep_ratio") {
        let resize = ResizeKeepRatio {
            longest: float(case, "longest"),
            scale_is_area: case["area"] == true,
            ..Default::default()
        };
        let got = resize.edges(
            (int(case, "width"), int(case, "height")),
            (int(case, "target_w"), int(case, "target_h")),
            case["scale"].as_f64(),
            case["log_aspect"].as_f64(),
        );
        assert_eq!(got.unwrap(), (int(case, "out_w"), int(case, "out_h")), "{case}");
    }
}

#[test]
fn corners_are_uniform() {
    let (crop, mut rng) = (RandomCropOrPad::default(), sample_rng(0, 0, 0, Purpose::Crop));
    let (mut tops, mut lefts) = ([0; 5], [0; 4]);
    for _ in 0..20_000 {
        let (top, left) = crop.sample((10, 14), (13, 10), &mut rng);
        tops[top as usize] += 1;
        lefts[-left as usize] += 1;
    }
    assert!(tops.iter().all(|&n| (f64::from(n) - 4000.0).abs() < 5.0 * 4000f64.sqrt()), "{tops:?}");
    assert!(lefts.iter().all(|&n| (f64::from(n) - 5000.0).abs() < 5.0 * 5000f64.sqrt()), "{lefts:?}");
}

#[test]
fn the_simple_crop_shows_the_resized_picture() {
    let (mut scratch, source) = (Scratch::new(), synth_image(11, 60, 90));
    let resized = randaug::resize(&source, 60, 40, randaug::Filter::Bicubic, &mut scratch).unwrap();
    let mut seen = std::collections::HashSet::new();
    for index in 0..400 {
        let mut out = RgbImage::new(40, 40);
        let mut rng = sample_rng(0, 0, index, Purpose::Crop);
        SimpleRandomCrop::default().apply_into(&source, &mut out, &mut rng, &mut scratch).unwrap();
        let found = (-4..=4).flat_map(|top| (-4..=24).map(move |left| (top, left))).find(|&(top, left)| {
            let mut want = RgbImage::new(40, 40);
            crop_or_pad(&resized, top, left, Padding::Reflect, &mut want).unwrap();
            want == out
        });
        seen.insert(found.expect("a box of the padded picture"));
    }
    // 9 x 29 places.
    assert!(seen.len() > 180, "{}", seen.len());
    let mut oblong = RgbImage::new(40, 41);
    let mut rng = sample_rng(0, 0, 0, Purpose::Crop);
    assert!(SimpleRandomCrop::default().apply_into(&source, &mut oblong, &mut rng, &mut scratch).is_err());
}

#[test]
fn degenerate_cuts_are_right_or_refused() {
    let (mut scratch, mut rng) = (Scratch::new(), sample_rng(0, 0, 0, Purpose::Crop));
    let (resize, crop) = (ResizeKeepRatio::training(), RandomCropOrPad::default());
    for (width, height) in [(1, 1), (1, 9), (700, 2)] {
        let source = RgbImage::from_pixel(width, height, Rgb([5, 6, 7]));
        let want = RgbImage::from_pixel(11, 11, Rgb([5, 6, 7]));
        for _ in 0..50 {
            let mut out = RgbImage::new(11, 11);
            resize.apply_into(&source, &crop, &mut out, &mut rng, &mut scratch).unwrap();
            assert_eq!(out, want);
            let mut out = RgbImage::new(11, 11);
            SimpleRandomCrop::default().apply_into(&source, &mut out, &mut rng, &mut scratch).unwrap();
            assert_eq!(out, want);
        }
    }
    let (empty, one) = (RgbImage::new(0, 4), RgbImage::new(1, 1));
    assert!(crop.apply_into(&empty, &mut RgbImage::new(2, 2), &mut rng).is_err());
    assert!(crop.apply_into(&one, &mut RgbImage::new(0, 2), &mut rng).is_err());
    assert!(
        crop_or_pad(&one, i64::MIN / 2, i64::MAX / 2, Padding::Reflect, &mut RgbImage::new(2, 2)).is_ok()
    );
    let line = RgbImage::new(4_000_000, 1);
    assert!(EvalTransform::new(224).apply(&line, &mut scratch).unwrap_err().to_string().contains("2^28"));
    for bad in [
        ResizeKeepRatio { longest: 1.5, ..resize },
        ResizeKeepRatio { scale_prob: -0.1, ..resize },
        ResizeKeepRatio { aspect: (0.0, 1.0), ..resize },
    ] {
        assert!(bad.sample((4, 4), (2, 2), &mut rng).is_err(), "{bad:?}");
    }
}
