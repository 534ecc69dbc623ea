//! Crops that keep the aspect ratio, against timm and torchvision.

use crate::common::{assert_same, cases, float, int, oracle, synth_image, text};
use image::{Rgb, RgbImage};
use rand::RngExt;
use randaug::{
    EvalTransform, Filter, Padding, Purpose, RandomCropOrPad, ResizeKeepRatio, Scratch, SimpleRandomCrop,
    crop_or_pad, resize, sample_rng,
};

#[test]
fn cropping_and_padding_give_the_libraries_bytes() {
    let (file, tensors) = oracle();
    for case in cases(&file, "crop_or_pad") {
        let source = tensors.image(&format!("input/{}", text(case, "input")));
        let corner = |key: &str| case[key].as_i64().unwrap();
        let padding = if case["mode"] == "reflect" { Padding::Reflect } else { Padding::Constant([7, 8, 9]) };
        let mut out = RgbImage::from_pixel(int(case, "width"), int(case, "height"), Rgb([1, 2, 3]));
        crop_or_pad(&source, corner("top"), corner("left"), padding, &mut out).unwrap();
        let key = text(case, "key");
        assert_same(&out, &tensors.image(key), key);
    }
    // Padded by 4 on all sides, then cut: the corner is 4 pixels before.
    for case in cases(&file, "pad_then_crop") {
        let source = tensors.image(&format!("input/{}", text(case, "input")));
        let corner = |key: &str| case[key].as_i64().unwrap() - case["padding"].as_i64().unwrap();
        let mut out = RgbImage::new(int(case, "size"), int(case, "size"));
        crop_or_pad(&source, corner("top"), corner("left"), Padding::Reflect, &mut out).unwrap();
        let key = text(case, "key");
        assert_same(&out, &tensors.image(key), key);
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
fn the_simple_crop_shows_the_resized_image() {
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
        seen.insert(found.expect("a box of the padded image"));
    }
    // 9 x 29 positions.
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
    for bad in [
        ResizeKeepRatio { longest: 1.5, ..resize },
        ResizeKeepRatio { scale_prob: -0.1, ..resize },
        ResizeKeepRatio { aspect: (0.0, 1.0), ..resize },
    ] {
        assert!(bad.sample((4, 4), (2, 2), &mut rng).is_err(), "{bad:?}");
    }
}

/// The values are Pillow's: `Image.resize` to 18 x 3240 (3240 x 18), then the center 16 x 16.
#[test]
fn a_thin_image_is_evaluated_as_pillow_does() {
    let color = |x: u32, y: u32| Rgb([(x * 50 + y) as u8, (y * 7) as u8, (x * y) as u8]);
    let (high, wide) = (RgbImage::from_fn(5, 900, color), RgbImage::from_fn(900, 5, |x, y| color(y, x)));
    let corners =
        |image: &RgbImage| [(0, 0), (15, 0), (8, 7), (0, 15), (15, 15)].map(|(x, y)| image.get_pixel(x, y).0);
    let sum = |image: &RgbImage| image.iter().map(|&v| u32::from(v)).sum::<u32>();
    let mut scratch = Scratch::new();
    let out = EvalTransform::new(16).apply(&high, &mut scratch).unwrap();
    let want = [[189, 60, 0], [137, 60, 154], [31, 74, 122], [194, 89, 0], [142, 89, 12]];
    assert_eq!((corners(&out), sum(&out)), (want, 77_903));
    let out = EvalTransform::new(16).apply(&wide, &mut scratch).unwrap();
    let want = [[189, 60, 0], [194, 89, 0], [56, 75, 142], [137, 60, 155], [142, 89, 12]];
    assert_eq!((corners(&out), sum(&out)), (want, 77_935));
}

/// The result equals a resize of the whole image followed by the crop, also if the
/// box is padded.
#[test]
fn only_what_the_crop_keeps_is_resized() {
    let mut scratch = Scratch::new();
    let mut rng = sample_rng(5, 0, 0, Purpose::Crop);
    for (i, (width, height)) in
        [(7u32, 60u32), (60, 7), (31, 31), (40, 33), (3, 200), (16, 16)].into_iter().enumerate()
    {
        let source = synth_image(i as u64, height.into(), width.into());
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            let eval = EvalTransform { interpolation: filter, ..EvalTransform::new(14) };
            let (w, h) = eval.resized_edges(width, height).unwrap();
            let whole = resize(&source, w, h, filter, &mut scratch).unwrap();
            let crop = eval.crop_box(w, h);
            let mut want = RgbImage::new(14, 14);
            crop_or_pad(&whole, crop.top.into(), crop.left.into(), Padding::Reflect, &mut want).unwrap();
            assert_same(&eval.apply(&source, &mut scratch).unwrap(), &want, "evaluation");

            let simple = SimpleRandomCrop { interpolation: filter, ..SimpleRandomCrop::default() };
            let (mut out, mut same_rng) = (RgbImage::new(14, 14), rng.clone());
            simple.apply_into(&source, &mut out, &mut rng, &mut scratch).unwrap();
            let short = width.min(height);
            let edge = |edge: u32| 14 * edge / short;
            let whole = resize(&source, edge(width), edge(height), filter, &mut scratch).unwrap();
            let padded = |edge: u32| i64::from(edge) + 8 - 14;
            let mut start = |edge: u32| same_rng.random_range(0..=padded(edge) as u64) as i64 - 4;
            let (top, left) = (start(whole.height()), start(whole.width()));
            crop_or_pad(&whole, top, left, Padding::Reflect, &mut want).unwrap();
            assert_same(&out, &want, "random crop with padding");
        }
    }
}

#[test]
fn a_very_thin_image_needs_no_more_memory_than_its_crop() {
    for (width, height) in [(4_000_000, 1), (1, 4_000_000), (1, 4_200)] {
        let line = RgbImage::from_pixel(width, height, Rgb([9, 8, 7]));
        let out = EvalTransform::new(224).apply(&line, &mut Scratch::new()).unwrap();
        assert_eq!(out, RgbImage::from_pixel(224, 224, Rgb([9, 8, 7])));
        let crop = RandomCropOrPad::default();
        let mut out = RgbImage::new(96, 96);
        let mut rng = sample_rng(1, 2, 3, Purpose::Crop);
        let resize = ResizeKeepRatio { longest: 0.0, ..ResizeKeepRatio::default() };
        resize.apply_into(&line, &crop, &mut out, &mut rng, &mut Scratch::new()).unwrap();
        assert_eq!(out, RgbImage::from_pixel(96, 96, Rgb([9, 8, 7])));
    }
}
