//! Resize, crop boxes, the evaluation transform and the whole training order against the reference.

use crate::common::{assert_close, assert_same, cases, float, for_each_golden, int, text};
use image::RgbImage;
use randaug::{
    CropBox, EvalTransform, Filter, Layout, Normalize, Op, RandomErasing, RandomResizedCrop, Scratch,
    flip_horizontal, resize, resize_crop,
};

fn filter(name: &str) -> Filter {
    match name {
        "bilinear" => Filter::Bilinear,
        "bicubic" => Filter::Bicubic,
        "lanczos" => Filter::Lanczos,
        other => panic!("filter {other}"),
    }
}

#[test]
fn resize_gives_pillows_bytes() {
    for_each_golden(|golden| {
        let (file, tensors) = (golden.json("pil_resize"), golden.tensors("pil_resize"));
        let mut scratch = Scratch::new();
        for case in cases(&file, "cases") {
            let source = golden.image(text(case, "source"));
            let edge = |i: usize| case["crop_left_top_right_bottom"][i].as_u64().unwrap() as u32;
            let crop =
                CropBox { left: edge(0), top: edge(1), width: edge(2) - edge(0), height: edge(3) - edge(1) };
            let (width, height) = (int(case, "out_width"), int(case, "out_height"));
            let filter = filter(text(case, "filter"));
            let key = text(case, "key");
            let got = resize_crop(&source, crop, width, height, filter, &mut scratch).unwrap();
            assert_same(&got, &tensors.image(key), key);
        }
    });
}

#[test]
fn drawn_numbers_give_the_reference_crop_boxes() {
    for_each_golden(|golden| {
        let file = golden.json("box_tables");
        for case in cases(&file, "random_resized_crop") {
            let (width, height) = (int(case, "width"), int(case, "height"));
            let (w, h) = RandomResizedCrop::edges(
                width,
                height,
                float(case, "area_fraction"),
                float(case, "log_ratio"),
            );
            assert_eq!((w, h), (int(case, "crop_w"), int(case, "crop_h")), "{case}");
            let fits = RandomResizedCrop::fits(width, height, (w, h));
            assert_eq!(fits, case["fits"] == true, "{case}");
            if fits {
                assert_eq!((height - h, width - w), (int(case, "max_top"), int(case, "max_left")), "{case}");
            }
        }
        for case in cases(&file, "random_resized_crop_fallback") {
            let got = RandomResizedCrop::default().fallback(int(case, "width"), int(case, "height"));
            let want = CropBox {
                top: int(case, "top"),
                left: int(case, "left"),
                height: int(case, "crop_h"),
                width: int(case, "crop_w"),
            };
            assert_eq!(got, want, "{case}");
        }
    });
}

#[test]
fn drawn_numbers_give_the_reference_erasing_boxes() {
    for_each_golden(|golden| {
        for case in cases(&golden.json("box_tables"), "random_erasing") {
            let (width, height) = (int(case, "width"), int(case, "height"));
            let (w, h) = RandomErasing::edges(
                width,
                height,
                float(case, "area_fraction"),
                float(case, "log_aspect"),
                1,
            );
            assert_eq!((w, h), (int(case, "erase_w"), int(case, "erase_h")), "{case}");
            let fits = RandomErasing::fits(width, height, (w, h));
            assert_eq!(fits, case["fits"] == true, "{case}");
            if fits {
                assert_eq!((height - h, width - w), (int(case, "max_top"), int(case, "max_left")), "{case}");
            }
        }
    });
}

fn normalized(image: &RgbImage, layout: Layout) -> Vec<f32> {
    let mut out = vec![f32::NAN; image.len()];
    Normalize::default().apply(image, layout, &mut out).unwrap();
    out
}

#[test]
fn evaluation_transform_is_the_reference() {
    for_each_golden(|golden| {
        let (file, tensors) = (golden.json("eval_transform"), golden.tensors("eval_transform"));
        let mut scratch = Scratch::new();
        for case in cases(&file, "cases") {
            let (source, key) = (golden.image(text(case, "source")), text(case, "key"));
            let transform = EvalTransform::new(int(case, "size"));
            let (width, height) = transform.resized_edges(source.width(), source.height()).unwrap();
            let resized = resize(&source, width, height, Filter::Bicubic, &mut scratch).unwrap();
            assert_same(&resized, &tensors.image(&format!("{key}/resized_uint8")), key);
            let got = normalized(&transform.apply(&source, &mut scratch).unwrap(), Layout::Chw);
            assert_close(&got, &tensors.floats(&format!("{key}/normalized")), 1e-6, key);
        }
        for case in cases(&file, "geometry") {
            let transform = EvalTransform::new(int(case, "size"));
            let (width, height) = transform.resized_edges(int(case, "width"), int(case, "height")).unwrap();
            assert_eq!((width, height), (int(case, "resized_width"), int(case, "resized_height")), "{case}");
            let crop = transform.crop_box(width, height);
            assert_eq!((crop.top, crop.left), (int(case, "crop_top"), int(case, "crop_left")), "{case}");
        }
    });
}

#[test]
fn training_order_is_the_reference_at_every_step() {
    for_each_golden(|golden| {
        let (file, tensors) = (golden.json("train_pipeline"), golden.tensors("train_pipeline"));
        let mut scratch = Scratch::new();
        for case in cases(&file, "cases") {
            let key = |step: &str| format!("case{}/{step}", case["case"]);
            let number = |i: usize| case["crop_top_left_h_w"][i].as_u64().unwrap() as u32;
            let crop = CropBox { top: number(0), left: number(1), height: number(2), width: number(3) };
            let source = golden.image(text(case, "source"));
            let mut image = resize_crop(&source, crop, 224, 224, Filter::Bicubic, &mut scratch).unwrap();
            // The image of the first step is stored before the flip.
            assert_same(&image, &tensors.image(&key("1_crop224")), &key("1_crop224"));
            if case["flip"] == true {
                flip_horizontal(&mut image);
            }
            for step in cases(case, "ops") {
                let op: Op = text(step, "op").parse().unwrap();
                op.apply(&mut image, float(step, "magnitude"), step["sign"] == -1, &mut scratch).unwrap();
            }
            assert_same(&image, &tensors.image(&key("2_after_ops")), &key("2_after_ops"));
            let size = int(case, "B");
            let small = resize(&image, size, size, Filter::Lanczos, &mut scratch).unwrap();
            assert_same(&small, &tensors.image(&key("3_lanczos")), &key("3_lanczos"));
            let got = normalized(&small, Layout::Chw);
            assert_close(&got, &tensors.floats(&key("4_normalized")), 1e-6, &key("4_normalized"));
        }
    });
}
