//! Distributions of draws, against large samples of the reference at five standard errors of both
//! samples, and against closed forms where they exist.

use crate::common::{cases, float, for_each_golden, int};
use rand::Rng;
use randaug::{
    ColorJitter, CropBox, Layout, Mix, Mixup, Op, Purpose, RandAugment, RandomErasing, RandomResizedCrop,
    sample_rng,
};
use serde_json::Value;

/// Mean and standard deviation of a sample.
struct Stats {
    n: f64,
    mean: f64,
    std: f64,
}

impl Stats {
    fn of(values: &[f64]) -> Self {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        Self { n, mean, std: variance.sqrt() }
    }

    /// The mean agrees with the reference's sample; the spread within five errors of a standard
    /// deviation (that of a normal distribution, doubled for distributions with heavier tails).
    fn agrees(&self, reference: &Value, what: &str) {
        let (mean, std, error) =
            (float(reference, "mean"), float(reference, "std"), float(reference, "stderr"));
        let allowed = 5.0 * (self.std.powi(2) / self.n + error.powi(2)).sqrt();
        let distance = (self.mean - mean).abs();
        assert!(distance <= allowed, "{what}: mean {} against {mean}, allowed {allowed}", self.mean);
        let n = float(reference, "n");
        let allowed = 5.0 * std * (1.0 / self.n + 1.0 / n).sqrt();
        assert!((self.std - std).abs() <= allowed, "{what}: std {} against {std}", self.std);
    }
}

/// A share of `n` draws agrees with a known probability at five standard errors; exactly so if that
/// is 0 or 1.
fn share_agrees(count: usize, n: usize, chance: f64, what: &str) {
    let share = count as f64 / n as f64;
    let error = (chance * (1.0 - chance) / n as f64).sqrt();
    // One draw in addition, for probabilities so small that the normal approximation does not hold.
    let allowed = 5.0 * error + 1.0 / n as f64;
    assert!((share - chance).abs() <= allowed, "{what}: {share} against {chance}, allowed {allowed}");
}

#[test]
fn magnitudes_follow_the_clipped_normal() {
    for_each_golden(|golden| {
        let policy = RandAugment { prob: 1.0, ..Default::default() };
        for row in cases(&golden.json("distribution_stats")["randaug_magnitude"], "rows") {
            let m = float(row, "m");
            let mut rng = sample_rng(1, 0, m as u64, Purpose::Augment);
            let values: Vec<f64> =
                (0..100_000).map(|_| policy.sample(m, &mut rng).unwrap().unwrap().magnitude).collect();
            let what = format!("magnitude {m}");
            Stats::of(&values).agrees(&row["empirical"], &what);
            let closed = &row["closed_form"];
            let count = |level| values.iter().filter(|&&v| v == level).count();
            share_agrees(count(0.0), values.len(), float(closed, "p_zero"), &format!("{what}: share of 0"));
            share_agrees(count(10.0), values.len(), float(closed, "p_ten"), &format!("{what}: share of 10"));
        }
    });
}

#[test]
fn operations_are_chosen_evenly_and_applied_half_the_time() {
    for_each_golden(|golden| {
        let reference = &golden.json("distribution_stats")["randaug_choice"];
        let draws = int(reference, "draws") as usize;
        let policy = RandAugment::default();
        let mut rng = sample_rng(2, 0, 0, Purpose::Augment);
        let (mut applied, mut negated) = ([0; 3], 0);
        let mut per_op = [0; 15];
        for _ in 0..draws {
            let mut count = 0;
            for _ in 0..policy.num_layers {
                if let Some(drawn) = policy.sample(5.0, &mut rng).unwrap() {
                    per_op[Op::INCREASING.iter().position(|&op| op == drawn.op).unwrap()] += 1;
                    negated += usize::from(drawn.negate);
                    count += 1;
                }
            }
            applied[count] += 1;
        }
        for (count, want) in applied.iter().zip(cases(reference, "expected_hist")) {
            share_agrees(*count, draws, want.as_f64().unwrap() / draws as f64, "operations of an image");
        }
        let want = float(reference, "expected_per_op") / (2 * draws) as f64;
        for (count, op) in per_op.iter().zip(Op::INCREASING) {
            share_agrees(*count, 2 * draws, want, op.name());
        }
        share_agrees(negated, per_op.iter().sum(), 0.5, "negated");
    });
}

/// Position of a box along an edge, in 0..1; `None` if it cannot move.
fn locate(start: u32, length: u32, edge: u32) -> Option<f64> {
    (edge > length).then(|| f64::from(start) / f64::from(edge - length))
}

#[test]
fn crop_boxes_follow_the_reference() {
    for_each_golden(|golden| {
        let crop = RandomResizedCrop::default();
        for row in cases(&golden.json("distribution_stats")["random_resized_crop"], "rows") {
            let (width, height) = (int(row, "width"), int(row, "height"));
            let mut rng = sample_rng(3, 0, u64::from(width), Purpose::Crop);
            let boxes: Vec<_> = (0..60_000).map(|_| crop.sample(width, height, &mut rng).unwrap()).collect();
            let stats = |f: &dyn Fn(&randaug::CropBox) -> Option<f64>| {
                Stats::of(&boxes.iter().filter_map(f).collect::<Vec<_>>())
            };
            let area = f64::from(width) * f64::from(height);
            let what = |name: &str| format!("{name} of {width}x{height}");
            stats(&|b| Some(f64::from(b.width) * f64::from(b.height) / area))
                .agrees(&row["area_fraction"], &what("area"));
            stats(&|b| Some((f64::from(b.width) / f64::from(b.height)).ln()))
                .agrees(&row["log_aspect_w_over_h"], &what("aspect"));
            stats(&|b| locate(b.top, b.height, height)).agrees(&row["top_fraction"], &what("top"));
            stats(&|b| locate(b.left, b.width, width)).agrees(&row["left_fraction"], &what("left"));
        }
    });
}

/// The box of an image that is erased once at most.
fn erased_box(erasing: &RandomErasing, size: (u32, u32), rng: &mut impl Rng) -> Option<CropBox> {
    let count = erasing.sample_count(rng).unwrap();
    (count > 0).then(|| erasing.sample_box(size, count, rng).unwrap()).flatten()
}

#[test]
fn erased_boxes_follow_the_reference() {
    for_each_golden(|golden| {
        let erasing = RandomErasing::default();
        for row in cases(&golden.json("distribution_stats")["random_erasing"], "rows") {
            let (width, height) = (int(row, "width"), int(row, "height"));
            let mut rng = sample_rng(4, 0, u64::from(width), Purpose::Erase);
            let n = 40_000;
            let boxes: Vec<_> =
                (0..n).filter_map(|_| erased_box(&erasing, (width, height), &mut rng)).collect();
            share_agrees(boxes.len(), n, erasing.probability, "share of erased images");
            let stats = |f: &dyn Fn(&randaug::CropBox) -> Option<f64>| {
                Stats::of(&boxes.iter().filter_map(f).collect::<Vec<_>>())
            };
            let area = f64::from(width) * f64::from(height);
            stats(&|b| Some(f64::from(b.width) * f64::from(b.height) / area))
                .agrees(&row["area_fraction"], "erased area");
            stats(&|b| Some((f64::from(b.height) / f64::from(b.width)).ln()))
                .agrees(&row["log_aspect_h_over_w"], "erased aspect");
            stats(&|b| locate(b.top, b.height, height)).agrees(&row["top_fraction"], "erased top");
            stats(&|b| locate(b.left, b.width, width)).agrees(&row["left_fraction"], "erased left");
        }
    });
}

#[test]
fn erased_pixels_are_standard_normal_and_the_rest_stays() {
    let erasing = RandomErasing { probability: 1.0, ..Default::default() };
    for (layout, seed) in [(Layout::Chw, 5), (Layout::Hwc, 6)] {
        let (mut noise, mut rng) = (Vec::new(), sample_rng(seed, 0, 0, Purpose::Erase));
        for _ in 0..40 {
            let mut image = vec![100.0; 3 * 48 * 64];
            // The box is what the same numbers give without the noise.
            let area = erased_box(&erasing, (64, 48), &mut rng.clone()).unwrap();
            assert_eq!(erasing.apply(&mut image, (3, 48, 64), layout, &mut rng).unwrap(), 1);
            for (i, &value) in image.iter().enumerate() {
                let (y, x) = match layout {
                    Layout::Chw => (i / 64 % 48, i % 64),
                    Layout::Hwc => (i / 3 / 64, i / 3 % 64),
                };
                let inside = (area.top..area.top + area.height).contains(&(y as u32))
                    && (area.left..area.left + area.width).contains(&(x as u32));
                assert_eq!(value != 100.0, inside, "{layout:?} x {x} y {y} of {area:?}");
                noise.extend(inside.then_some(f64::from(value)));
            }
        }
        let stats = Stats::of(&noise);
        assert!(stats.mean.abs() <= 5.0 / stats.n.sqrt(), "mean {}", stats.mean);
        assert!((stats.std - 1.0).abs() <= 5.0 / (2.0 * stats.n).sqrt(), "std {}", stats.std);
    }
}

#[test]
fn mixing_follows_the_reference() {
    for_each_golden(|golden| {
        let reference = &golden.json("distribution_stats")["mixup_cutmix"];
        let (mixup, mut rng) = (Mixup::default(), sample_rng(7, 0, 0, Purpose::Mix));
        let (mut sequential_blend, mut cut) = (Vec::new(), Vec::new());
        // Many more draws than the reference's, so that the closed form distinguishes an alpha of
        // 0.85 from 0.8.
        let draws = 400_000;
        for _ in 0..draws {
            match mixup.sample(224, 224, &mut rng).unwrap() {
                Mix::Mixup { lam } => sequential_blend.push(lam),
                Mix::Cutmix { lam, .. } => cut.push(lam),
                Mix::None => panic!("prob is 1"),
            }
        }
        share_agrees(cut.len(), draws, mixup.switch_prob, "share of cutmix");
        Stats::of(&sequential_blend).agrees(&reference["mixup_lam"], "lam of mixup");
        Stats::of(&cut).agrees(&reference["cutmix_lam_corrected_224"], "lam of cutmix");
        let variance = float(&reference["closed_form"], "mixup_var");
        let std = Stats::of(&sequential_blend).std;
        assert!(
            (std - variance.sqrt()).abs()
                < 5.0 * variance.sqrt() / (2.0 * sequential_blend.len() as f64).sqrt()
        );
    });
}

#[test]
fn defaults_are_the_settings_behind_the_reference_samples() {
    for_each_golden(|golden| {
        let file = golden.json("distribution_stats");
        let pair = |value: &Value| (value[0].as_f64().unwrap(), value[1].as_f64().unwrap());
        let (mixup, reference) = (Mixup::default(), &file["mixup_cutmix"]);
        assert_eq!(mixup.mixup_alpha, float(reference, "mixup_alpha"));
        assert_eq!(mixup.cutmix_alpha, float(reference, "cutmix_alpha"));
        assert_eq!(mixup.switch_prob, float(reference, "switch_prob"));
        let (erasing, reference) = (RandomErasing::default(), &file["random_erasing"]);
        assert_eq!(erasing.probability, float(reference, "probability"));
        assert_eq!(erasing.area, (float(reference, "min_area"), float(reference, "max_area")));
        assert_eq!(erasing.aspect, pair(&reference["aspect"]));
        let (jitter, reference) = (ColorJitter::symmetric(0.4).unwrap(), &file["color_jitter"]);
        assert_eq!(jitter.brightness, Some(pair(&reference["brightness"])));
        assert_eq!(jitter.contrast, Some(pair(&reference["contrast"])));
        assert_eq!(jitter.saturation, Some(pair(&reference["saturation"])));
        assert!(jitter.hue.is_none() && reference["hue"].is_null());
        let (crop, reference) = (RandomResizedCrop::default(), &file["random_resized_crop"]);
        assert_eq!(crop.scale, pair(&reference["scale"]));
        assert_eq!(crop.ratio, pair(&reference["ratio"]));
    });
}
