//! Degenerate input: the right image, or an error that says what to change. Never a panic.

use image::{Rgb, RgbImage};
use randaug::{
    Adjustment, Arg, BatchShape, CropBox, Error, EvalTransform, Filter, Interpolation, Layout, Mix, MixBox,
    Mixup, Normalize, Op, OpConfig, Purpose, RandAugment, RandomErasing, RandomResizedCrop, Scratch,
    flip_horizontal, resize, resize_crop, sample_rng, soft_targets,
};

fn flat(width: u32, height: u32, value: u8) -> RgbImage {
    RgbImage::from_pixel(width, height, Rgb([value; 3]))
}

#[test]
fn every_operation_takes_every_shape() {
    let mut scratch = Scratch::new();
    for (width, height) in [(0, 0), (0, 5), (5, 0), (1, 1), (1, 9), (9, 1), (2, 2), (3, 3), (64, 2)] {
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear, Interpolation::Bicubic] {
            let config = OpConfig { interpolation, ..Default::default() };
            for &op in Op::ALL {
                for (magnitude, negate) in
                    [(0.0, false), (10.0, true), (f64::INFINITY, false), (-1e300, true)]
                {
                    for value in [0, 77, 255] {
                        let mut image = flat(width, height, value);
                        op.apply_with(&mut image, magnitude, negate, &config, &mut scratch).unwrap();
                        assert_eq!(image.dimensions(), (width, height), "{op}");
                    }
                }
            }
        }
    }
}

#[test]
fn one_color_survives_what_only_looks_at_differences() {
    let mut scratch = Scratch::new();
    for value in [0, 1, 128, 254, 255] {
        for op in [Op::AutoContrast, Op::Equalize, Op::ColorIncreasing, Op::ContrastIncreasing, Op::Sharpness]
        {
            let mut image = flat(12, 7, value);
            op.apply(&mut image, 9.0, true, &mut scratch).unwrap();
            assert_eq!(image, flat(12, 7, value), "{op}");
        }
    }
    for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
        assert_eq!(resize(&flat(1, 1, 200), 5, 9, filter, &mut scratch).unwrap(), flat(5, 9, 200));
        assert_eq!(resize(&flat(300, 2, 255), 7, 1, filter, &mut scratch).unwrap(), flat(7, 1, 255));
    }
}

#[test]
fn extreme_arguments_are_right_or_refused() {
    let (config, mut scratch) = (OpConfig::default(), Scratch::new());
    let mut apply = |op: Op, arg| {
        let mut image = flat(6, 5, 90);
        op.apply_arg(&mut image, arg, &config, &mut scratch).map(|()| image)
    };
    let fill = RgbImage::from_pixel(6, 5, Rgb([124, 116, 104]));
    assert_eq!(apply(Op::TranslateX, Arg::Float(1e300)).unwrap(), fill);
    assert_eq!(apply(Op::TranslateYRel, Arg::Float(-1.0)).unwrap(), fill);
    assert_eq!(apply(Op::Posterize, Arg::Int(-3)).unwrap(), flat(6, 5, 0));
    assert_eq!(apply(Op::Posterize, Arg::Int(99)).unwrap(), flat(6, 5, 90));
    assert_eq!(apply(Op::SolarizeAdd, Arg::Int(i32::MAX)).unwrap(), flat(6, 5, 255));
    assert_eq!(apply(Op::Brightness, Arg::Float(1e30)).unwrap(), flat(6, 5, 255));
    for (op, arg) in [
        (Op::Rotate, Arg::Float(f64::NAN)),
        (Op::ShearX, Arg::Float(f64::INFINITY)),
        (Op::Rotate, Arg::Int(3)),
        (Op::Solarize, Arg::Float(3.0)),
        (Op::Color, Arg::None),
    ] {
        assert!(matches!(apply(op, arg), Err(Error::Argument { .. })), "{op} {arg:?}");
    }
    let mut image = flat(6, 5, 90);
    assert!(Op::Invert.apply(&mut image, f64::NAN, false, &mut Scratch::new()).is_err());
    assert!(Adjustment::Contrast.apply(&mut image, f64::NAN).is_err());
    assert!(Adjustment::Contrast.apply(&mut image, -0.1).is_err());
}

#[test]
fn operation_names_are_read_and_errors_help() {
    for &op in Op::ALL {
        assert_eq!(op.name().parse::<Op>().unwrap(), op);
    }
    let error = "autocontrast".parse::<Op>().unwrap_err().to_string();
    assert!(error.contains("\"autocontrast\"") && error.contains("did you mean \"AutoContrast\""), "{error}");
    assert!("Cutout".parse::<Op>().is_err());
}

#[test]
fn resizing_refuses_what_has_no_pixels() {
    let (image, mut scratch) = (flat(10, 8, 3), Scratch::new());
    let mut crop = |left, top, width, height| {
        let area = CropBox { top, left, height, width };
        resize_crop(&image, area, 4, 4, Filter::Bicubic, &mut scratch)
    };
    assert!(crop(0, 0, 10, 8).is_ok());
    for (left, top, width, height) in
        [(0, 0, 11, 8), (1, 0, 10, 8), (0, 1, 10, 8), (0, 0, 0, 8), (0, 0, 10, 0), (u32::MAX, 0, 2, 8)]
    {
        assert!(matches!(crop(left, top, width, height), Err(Error::CropOutside { .. })), "{left} {top}");
    }
    let mut scratch = Scratch::new();
    let empty = Err(Error::EmptyImage { width: 0, height: 3 });
    assert_eq!(resize(&flat(0, 3, 0), 4, 4, Filter::Lanczos, &mut scratch), empty);
    let nothing = Err(Error::EmptyOutput { width: 4, height: 0 });
    assert_eq!(resize(&image, 4, 0, Filter::Lanczos, &mut scratch), nothing);
    flip_horizontal(&mut flat(0, 3, 0));
    for (size, crop_pct) in [(0, 0.875), (8, 0.0), (8, 1.5), (8, f64::NAN)] {
        let transform = EvalTransform { size, crop_pct, interpolation: Filter::Bicubic };
        assert!(transform.apply(&image, &mut scratch).is_err(), "{size} {crop_pct}");
    }
    assert_eq!(EvalTransform::new(32).apply(&flat(1, 1, 9), &mut scratch).unwrap(), flat(32, 32, 9));
}

#[test]
fn crops_of_tiny_images_lie_inside() {
    let (crop, mut rng) = (RandomResizedCrop::default(), sample_rng(0, 0, 0, Purpose::Crop));
    for (width, height) in [(1, 1), (1, 40), (40, 1), (2, 3)] {
        for _ in 0..500 {
            let b = crop.sample(width, height, &mut rng).unwrap();
            assert!(b.width >= 1 && b.height >= 1, "{b:?}");
            assert!(b.left + b.width <= width && b.top + b.height <= height, "{b:?}");
        }
    }
    assert!(crop.sample(0, 4, &mut rng).is_err());
    for (scale, ratio) in [((0.0, 1.0), (1.0, 1.0)), ((0.5, 0.1), (1.0, 1.0)), ((0.1, 1.0), (f64::NAN, 1.0))]
    {
        assert!(RandomResizedCrop { scale, ratio, ..crop }.sample(9, 9, &mut rng).is_err());
    }
}

#[test]
fn policies_refuse_bad_settings() {
    let (mut image, mut scratch) = (flat(8, 8, 1), Scratch::new());
    let mut rng = sample_rng(0, 0, 0, Purpose::Augment);
    let good = RandAugment::default();
    let mut apply = |policy: &RandAugment, m: f64| policy.apply(&mut image, m, &mut rng, &mut scratch);
    assert!(apply(&good, 5.0).is_ok());
    assert!(apply(&good, f64::NAN).is_err());
    assert!(apply(&RandAugment { ops: vec![].into(), ..good.clone() }, 5.0).is_err());
    assert!(apply(&RandAugment { prob: 1.5, ..good.clone() }, 5.0).is_err());
    assert!(apply(&RandAugment { magnitude_std: -1.0, ..good.clone() }, 5.0).is_err());
    assert!(apply(&RandAugment { magnitude_std: f64::INFINITY, ..good.clone() }, 5.0).is_ok());
    assert!(good.apply(&mut flat(0, 0, 0), 5.0, &mut rng, &mut scratch).is_err());
}

#[test]
fn erasing_and_normalizing_check_lengths_and_settings() {
    let (erasing, mut rng) = (RandomErasing::default(), sample_rng(0, 0, 0, Purpose::Erase));
    let always = RandomErasing { probability: 1.0, ..erasing };
    for (height, width) in [(0, 0), (1, 1), (1, 7), (2, 2)] {
        let mut image = vec![0.5; (3 * height * width) as usize];
        always.apply(&mut image, (3, height, width), Layout::Hwc, &mut rng).unwrap();
    }
    assert!(erasing.apply(&mut [0.0; 5], (3, 1, 1), Layout::Chw, &mut rng).is_err());
    let huge = (u32::MAX, u32::MAX, u32::MAX);
    assert!(erasing.apply(&mut [0.0; 5], huge, Layout::Chw, &mut rng).is_err());
    assert!(RandomErasing { probability: f64::NAN, ..erasing }.sample_count(&mut rng).is_err());
    assert!(Normalize::default().apply(&flat(2, 2, 0), Layout::Chw, &mut [0.0; 11]).is_err());
    assert!(Normalize::new([0.0; 3], [1.0, 0.0, 1.0]).is_err());
    assert!(Normalize::new([f32::NAN; 3], [1.0; 3]).is_err());
}

#[test]
fn mixing_checks_shapes_labels_and_settings() {
    let shape = BatchShape { batch: 3, channels: 1, height: 2, width: 2, layout: Layout::Chw };
    let (mixup, mut rng) = (Mixup::default(), sample_rng(0, 0, 0, Purpose::Mix));
    let mut x: Vec<f32> = (0..12).map(|v| v as f32).collect();
    let (targets, mix) = mixup.apply(&mut x, &shape, &[0, 1, 2], 3, &mut rng).unwrap();
    assert!((targets.iter().sum::<f32>() - 3.0).abs() < 1e-6);
    // The middle sample of an odd batch is its own partner.
    assert_eq!(x[4..8], [4.0, 5.0, 6.0, 7.0], "{mix:?}");
    assert!(mixup.apply(&mut x, &shape, &[0, 1], 3, &mut rng).is_err());
    assert!(matches!(
        mixup.apply(&mut x, &shape, &[0, 1, 3], 3, &mut rng),
        Err(Error::Label { sample: 2, .. })
    ));
    assert!(mixup.apply(&mut x[1..], &shape, &[0, 1, 2], 3, &mut rng).is_err());
    assert!(Mix::Mixup { lam: f64::NAN }.apply(&mut x, &shape).is_err());
    let area = MixBox { y0: 0, y1: 3, x0: 0, x1: 1 };
    assert!(Mix::Cutmix { lam: 0.5, area }.apply(&mut x, &shape).is_err());
    let empty = BatchShape { batch: 0, ..shape };
    assert!(mixup.apply(&mut [], &empty, &[], 3, &mut rng).unwrap().0.is_empty());
    assert!(Mixup { mixup_alpha: -1.0, ..mixup }.sample(4, 4, &mut rng).is_err());
    assert!(Mixup { prob: 2.0, ..mixup }.sample(4, 4, &mut rng).is_err());
    let off = Mixup { mixup_alpha: 0.0, cutmix_alpha: 0.0, ..mixup };
    assert_eq!(off.sample(4, 4, &mut rng).unwrap(), Mix::None);
    let tiny = Mixup { mixup_alpha: 1e-300, cutmix_alpha: 0.0, ..mixup };
    for _ in 0..100 {
        assert!((0.0..=1.0).contains(&tiny.sample(4, 4, &mut rng).unwrap().lam()));
    }
    assert!(soft_targets(&[0], 0, 1.0, 0.1).is_err());
    assert!(soft_targets(&[0], 2, 1.5, 0.1).is_err());
}
