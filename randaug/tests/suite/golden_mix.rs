//! Mixup and cutmix against the reference, in both layouts.

use crate::common::{assert_close, cases, float, for_each_golden, int, text};
use randaug::{BatchShape, Layout, Mix, MixBox, soft_targets};
use serde_json::Value;

fn chw_to_hwc(x: &[f32], shape: &BatchShape) -> Vec<f32> {
    let plane = shape.height * shape.width;
    x.chunks_exact(plane * shape.channels)
        .flat_map(|image| (0..plane).flat_map(move |i| image[i..].iter().step_by(plane).copied()))
        .collect()
}

fn mix_of(case: &Value, shape: &BatchShape) -> Mix {
    let lam = float(case, "lam");
    if case["kind"] == "mixup" {
        return Mix::Mixup { lam };
    }
    let (cy, cx) = (int(case, "cy") as usize, int(case, "cx") as usize);
    let (area, lam) = MixBox::around(shape.height, shape.width, lam, cy, cx);
    let want: Vec<u64> = cases(case, "box_y0_y1_x0_x1").iter().map(|v| v.as_u64().unwrap()).collect();
    assert_eq!([area.y0, area.y1, area.x0, area.x1].map(|v| v as u64).to_vec(), want, "{case}");
    assert!((lam - float(case, "lam_corrected")).abs() < 1e-12, "{case}: {lam}");
    Mix::Cutmix { lam, area }
}

#[test]
fn batches_and_targets_are_the_reference() {
    for_each_golden(|golden| {
        let (file, tensors) = (golden.json("mixup_cutmix"), golden.tensors("mixup_cutmix"));
        let size = |key: &str| int(&file, key) as usize;
        let chw = BatchShape {
            batch: size("batch"),
            channels: 3,
            height: size("height"),
            width: size("width"),
            layout: Layout::Chw,
        };
        let hwc = BatchShape { layout: Layout::Hwc, ..chw };
        let labels: Vec<u32> = cases(&file, "labels").iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let input = tensors.floats("input");
        for case in cases(&file, "cases") {
            let (key, mix) = (text(case, "key"), mix_of(case, &chw));
            let want = tensors.floats(&format!("{key}/x"));
            let mut x = input.clone();
            mix.apply(&mut x, &chw).unwrap();
            assert_close(&x, &want, 3e-7, key);
            let mut x = chw_to_hwc(&input, &chw);
            mix.apply(&mut x, &hwc).unwrap();
            assert_close(&x, &chw_to_hwc(&want, &chw), 3e-7, key);
            let targets =
                soft_targets(&labels, size("num_classes"), mix.lam(), float(&file, "smoothing")).unwrap();
            assert_close(&targets, &tensors.floats(&format!("{key}/target")), 3e-7, key);
        }
    });
}

#[test]
fn drawn_numbers_give_the_reference_cutmix_boxes() {
    for_each_golden(|golden| {
        for case in cases(&golden.json("box_tables"), "cutmix_box") {
            let size = |key: &str| int(case, key) as usize;
            let (area, lam) =
                MixBox::around(size("height"), size("width"), float(case, "lam"), size("cy"), size("cx"));
            let want = MixBox { y0: size("y0"), y1: size("y1"), x0: size("x0"), x1: size("x1") };
            assert_eq!(area, want, "{case}");
            assert!((lam - float(case, "lam_corrected")).abs() < 1e-12, "{case}: {lam}");
        }
    });
}
