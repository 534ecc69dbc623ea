//! Gray images against Pillow's mode L; every other pixel format is an error that says what to do.

use crate::common::{cases, float, oracle, text};
use image::{DynamicImage, GenericImageView};
use randaug::{DrawnOp, Error, Op, OpConfig, Policy, Purpose, Scratch, sample_rng, to_rgb8};

#[test]
fn operations_on_gray_give_pillows_bytes() {
    let ((file, tensors), mut scratch) = (oracle(), Scratch::new());
    let config = OpConfig { fill: [117; 3], ..Default::default() };
    for case in cases(&file, "grey") {
        let op: Op = text(case, "op").parse().unwrap();
        let drawn = DrawnOp { op, magnitude: float(case, "magnitude"), negate: case["negate"] == true };
        let mut image = to_rgb8(&DynamicImage::ImageLuma8(tensors.gray("input/grey"))).unwrap();
        drawn.apply(&mut image, &config, &mut scratch).unwrap();
        let (key, want) = (text(case, "key"), tensors.gray(text(case, "key")));
        for (x, y, pixel) in image.enumerate_pixels() {
            assert_eq!(pixel.0, [want.get_pixel(x, y)[0]; 3], "{key} at {x}, {y}");
        }
    }
}

#[test]
fn policies_take_gray_images_in_place() {
    let (_, tensors) = oracle();
    let gray = tensors.gray("input/grey");
    let mut scratch = Scratch::new();
    for text in ["rand-m9-mstd0.5-inc1", "augmix", "v0", "3a", "ta_wide"] {
        let policy: Policy = text.parse().unwrap();
        // A gray fill color, so that the RGB image stays gray as well.
        let policy = policy.clone().with_config(OpConfig { fill: [90; 3], ..*policy.config() });
        for index in 0..30 {
            let mut one = DynamicImage::ImageLuma8(gray.clone());
            let mut three = to_rgb8(&one).unwrap();
            let rng = || sample_rng(1, 0, index, Purpose::Augment);
            policy.apply_dynamic(&mut one, None, &mut rng(), &mut scratch).unwrap();
            policy.apply(&mut three, None, &mut rng(), &mut scratch).unwrap();
            assert!(matches!(one, DynamicImage::ImageLuma8(_)));
            assert_eq!(to_rgb8(&one).unwrap(), three, "{text} {index}");
        }
    }
}

#[test]
fn other_kinds_are_converted_or_refused() {
    let policy: Policy = "rand-m9".parse().unwrap();
    let mut rng = sample_rng(0, 0, 0, Purpose::Augment);
    let mut apply =
        |image: &mut DynamicImage| policy.apply_dynamic(image, None, &mut rng, &mut Scratch::new());
    for (mut image, eight_bits) in [
        (DynamicImage::new_luma_a8(3, 2), true),
        (DynamicImage::new_rgba8(3, 2), true),
        (DynamicImage::new_luma16(3, 2), false),
        (DynamicImage::new_luma_a16(3, 2), false),
        (DynamicImage::new_rgb16(3, 2), false),
        (DynamicImage::new_rgba16(3, 2), false),
        (DynamicImage::new_rgb32f(3, 2), false),
        (DynamicImage::new_rgba32f(3, 2), false),
    ] {
        let error = apply(&mut image).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("to_rgb8"), "{error}");
        assert_eq!(to_rgb8(&image).is_ok(), eight_bits, "{:?}", image.color());
    }
    assert!(apply(&mut DynamicImage::new_luma8(0, 2)).is_err());
    let half = DynamicImage::ImageRgba8(image::RgbaImage::from_pixel(1, 1, image::Rgba([1, 2, 3, 4])));
    assert_eq!(to_rgb8(&half).unwrap().get_pixel(0, 0).0, [1, 2, 3]);
    assert_eq!(half.dimensions(), (1, 1));
}
