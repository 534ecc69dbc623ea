//! Mixing per pair and per sample, minmax boxes and erasing modes against timm 1.0.

use crate::common::{assert_close, cases, float, int, oracle, text};
use randaug::{
    BatchShape, EraseMode, Layout, Mix, MixBox, MixMode, Mixup, Purpose, RandomErasing, mix_batch,
    sample_rng, soft_targets_each,
};
use serde_json::Value;

fn mix_of(draw: &Value) -> Mix {
    let number = |i: usize| draw["box"][i].as_u64().unwrap() as usize;
    match draw["kind"].as_str() {
        None => Mix::None,
        Some("mixup") => Mix::Mixup { lam: float(draw, "lam") },
        Some(_) => {
            let area = MixBox { y0: number(0), y1: number(1), x0: number(2), x1: number(3) };
            Mix::Cutmix { lam: float(draw, "lam"), area }
        }
    }
}

fn to_hwc(x: &[f32], s: &BatchShape) -> Vec<f32> {
    let plane = s.height * s.width;
    x.chunks_exact(plane * s.channels)
        .flat_map(|sample| (0..plane).flat_map(move |i| sample[i..].iter().step_by(plane).copied()))
        .collect()
}

#[test]
fn samples_and_targets_are_timms() {
    let (file, tensors) = oracle();
    for case in cases(&file, "mix") {
        let (mode, key, batch) = (text(case, "mode"), text(case, "key"), int(case, "batch") as usize);
        let size = |name| int(case, name) as usize;
        let chw = BatchShape {
            batch,
            channels: size("channels"),
            height: size("height"),
            width: size("width"),
            layout: Layout::Chw,
        };
        let mut mixes: Vec<Mix> = cases(case, "draws").iter().map(mix_of).collect();
        if mode == "pair" {
            let mirrored: Vec<Mix> = mixes.iter().rev().copied().collect();
            mixes.extend(mirrored);
        }
        let labels: Vec<u32> = cases(case, "labels").iter().map(|v| v.as_u64().unwrap() as u32).collect();
        let input = tensors.floats(&format!("{key}/input"));
        let want = tensors.floats(&format!("{key}/x"));
        for layout in [Layout::Chw, Layout::Hwc] {
            let order = |x: &[f32]| if layout == Layout::Chw { x.to_vec() } else { to_hwc(x, &chw) };
            let (mut x, shape) = (order(&input), BatchShape { layout, ..chw });
            mix_batch(&mut x, &shape, &mixes, &mut Vec::new()).unwrap();
            x.truncate(want.len());
            if mode == "half" {
                // timm mixes bytes there, and rounds.
                x.iter_mut().for_each(|value| *value = value.round_ties_even());
            }
            assert_close(&x, &order(&want), 3e-7, key);
        }
        let targets = soft_targets_each(&labels, size("classes"), &mixes, float(case, "smoothing")).unwrap();
        assert_close(&targets, &tensors.floats(&format!("{key}/target")), 3e-7, key);
    }
}

struct Stats {
    n: f64,
    mean: f64,
    std: f64,
}

fn stats(values: &[f64]) -> Stats {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    Stats { n, mean, std: (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt() }
}

fn agrees(values: &[f64], reference: &Value, what: &str) {
    let (got, mean, std) = (stats(values), float(reference, "mean"), float(reference, "std"));
    let errors = 5.0 * (1.0 / got.n + 1.0 / float(reference, "n")).sqrt() * std.max(1e-12);
    assert!((got.mean - mean).abs() <= errors, "{what}: mean {} against {mean}", got.mean);
    assert!((got.std - std).abs() <= errors, "{what}: std {} against {std}", got.std);
}

#[test]
fn minmax_boxes_follow_timm() {
    let reference = &oracle().0["minmax"];
    let (height, width) = (int(reference, "height") as usize, int(reference, "width") as usize);
    let mixup = Mixup { mixup_alpha: 0.0, cutmix_minmax: Some((0.2, 0.8)), ..Default::default() };
    let mut rng = sample_rng(1, 0, 0, Purpose::Mix);
    let drawn: Vec<(f64, MixBox)> = (0..60_000)
        .map(|_| match mixup.sample(height, width, &mut rng).unwrap() {
            Mix::Cutmix { lam, area } => (lam, area),
            other => panic!("{other:?}"),
        })
        .collect();
    let list = |f: &dyn Fn(&(f64, MixBox)) -> f64| drawn.iter().map(f).collect::<Vec<_>>();
    agrees(&list(&|d| d.0), &reference["lam"], "lam");
    agrees(&list(&|d| (d.1.y1 - d.1.y0) as f64), &reference["cut_h"], "height");
    agrees(&list(&|d| (d.1.x1 - d.1.x0) as f64), &reference["cut_w"], "width");
    agrees(&list(&|d| d.1.y0 as f64), &reference["top"], "top");
    agrees(&list(&|d| d.1.x0 as f64), &reference["left"], "left");
    assert!(mixup.sample(1, 9, &mut rng).unwrap_err().to_string().contains("cutmix_minmax"));
    for minmax in [(0.5, 0.5), (-0.1, 0.5), (0.2, 1.1), (f64::NAN, 0.5)] {
        assert!(Mixup { cutmix_minmax: Some(minmax), ..mixup }.sample(9, 9, &mut rng).is_err(), "{minmax:?}");
    }
}

#[test]
fn modes_share_draws_as_they_say() {
    let shape = BatchShape { batch: 8, channels: 1, height: 6, width: 6, layout: Layout::Chw };
    let mut rng = sample_rng(2, 0, 0, Purpose::Mix);
    let mut draw = |mode| Mixup { mode, ..Default::default() }.sample_batch(&shape, &mut rng).unwrap();
    let batch = draw(MixMode::Batch);
    assert!(batch.len() == 8 && batch.iter().all(|mix| *mix == batch[0]));
    let pair = draw(MixMode::Pair);
    assert!((0..4).all(|i| pair[i] == pair[7 - i]) && pair[0] != pair[1]);
    let elem = draw(MixMode::Elem);
    assert!(elem.len() == 8 && (1..8).all(|i| elem[i] != elem[i - 1]));
    assert_eq!(draw(MixMode::Half).len(), 4);
    let odd = BatchShape { batch: 3, ..shape };
    let half = Mixup { mode: MixMode::Half, ..Default::default() };
    assert!(half.sample_batch(&odd, &mut rng).is_err());
    let pair = Mixup { mode: MixMode::Pair, ..half }.sample_batch(&odd, &mut rng).unwrap();
    assert_eq!(pair[1], Mix::None);
    let (targets, mixes) = half.apply(&mut [1.0; 288], &shape, &[0; 8], 3, &mut rng).unwrap();
    assert_eq!((targets.len(), mixes.len()), (12, 4));
    assert!(mix_batch(&mut [0.0; 108], &odd, &[Mix::None; 4], &mut Vec::new()).is_err());
}

#[test]
fn uncorrected_lam_is_the_drawn_one() {
    let mixup = Mixup { mixup_alpha: 0.0, correct_lam: false, ..Default::default() };
    let mut rng = sample_rng(3, 0, 0, Purpose::Mix);
    let lams: Vec<f64> = (0..40_000).map(|_| mixup.sample(9, 9, &mut rng).unwrap().lam()).collect();
    let got = stats(&lams);
    // Beta(1, 1) is uniform; the corrected lam has mean 0.68.
    assert!((got.mean - 0.5).abs() < 5.0 * (1.0 / (12.0 * got.n)).sqrt(), "{}", got.mean);
}

#[test]
fn chances_hold_for_each_sample() {
    let shape = BatchShape { batch: 40_000, channels: 1, height: 9, width: 9, layout: Layout::Chw };
    let mixup = Mixup { mode: MixMode::Elem, prob: 0.7, switch_prob: 0.3, ..Default::default() };
    let mixes = mixup.sample_batch(&shape, &mut sample_rng(4, 0, 0, Purpose::Mix)).unwrap();
    let share = |f: fn(&Mix) -> bool| mixes.iter().filter(|mix| f(mix)).count() as f64 / 40_000.0;
    let near =
        |share: f64, chance: f64| (share - chance).abs() < 5.0 * (chance * (1.0 - chance) / 4e4).sqrt();
    assert!(near(share(|mix| *mix == Mix::None), 0.3));
    assert!(near(share(|mix| matches!(mix, Mix::Cutmix { .. })), 0.7 * 0.3));
}

#[test]
fn erased_boxes_of_a_count_have_timms_edges() {
    for case in cases(&oracle().0, "erase_boxes") {
        let got = RandomErasing::edges(
            int(case, "width"),
            int(case, "height"),
            float(case, "area"),
            float(case, "log_aspect"),
            int(case, "count"),
        );
        assert_eq!(got, (int(case, "w"), int(case, "h")), "{case}");
    }
}

#[test]
fn erasing_modes_follow_timm() {
    for case in cases(&oracle().0, "erase_stats") {
        let mode = match text(case, "mode") {
            "const" => EraseMode::Const,
            "rand" => EraseMode::Rand,
            _ => EraseMode::Pixel,
        };
        let count = (int(case, "min"), int(case, "max"));
        let erasing =
            RandomErasing { probability: float(case, "probability"), mode, count, ..Default::default() };
        for layout in [Layout::Chw, Layout::Hwc] {
            erasing_follows(&erasing, layout, case);
        }
    }
}

fn erasing_follows(erasing: &RandomErasing, layout: Layout, case: &Value) {
    let (mut shares, mut means, mut distinct) = (Vec::new(), Vec::new(), Vec::new());
    let mut rng = sample_rng(5, 0, u64::from(erasing.count.1), Purpose::Erase);
    for _ in 0..8000 {
        let mut x = vec![99.0f32; 3 * 40 * 32];
        let boxes = erasing.apply(&mut x, (3, 40, 32), layout, &mut rng).unwrap();
        let changed: Vec<f64> = x.iter().filter(|v| **v != 99.0).map(|&v| f64::from(v)).collect();
        assert_eq!(boxes > 0, !changed.is_empty());
        shares.push(changed.len() as f64 / x.len() as f64);
        if boxes > 0 {
            means.push(changed.iter().sum::<f64>() / changed.len() as f64);
            let first = (0..40 * 32).map(|i| if layout == Layout::Chw { x[i] } else { x[3 * i] });
            let mut bits: Vec<u32> = first.filter(|v| *v != 99.0).map(f32::to_bits).collect();
            bits.sort_unstable();
            bits.dedup();
            distinct.push(if erasing.mode == EraseMode::Pixel { 0.0 } else { bits.len() as f64 });
        }
    }
    let what = |name: &str| format!("{name}, {layout:?}, {case}");
    agrees(&shares, &case["share"], &what("share"));
    agrees(&means, &case["value"], &what("value"));
    agrees(&distinct, &case["distinct"], &what("values of a channel"));
}

/// A draw without an image gives the same boxes and bits as a draw on an image.
#[test]
fn erasures_drawn_apart_are_those_of_a_image() {
    let mut boxes = 0;
    for mode in [EraseMode::Const, EraseMode::Rand, EraseMode::Pixel] {
        let erasing = RandomErasing { mode, count: (1, 3), probability: 0.7, ..RandomErasing::default() };
        for seed in 0..50 {
            let rng = || sample_rng(seed, 0, 0, Purpose::Erase);
            let mut want = vec![99.0f32; 3 * 40 * 32];
            erasing.apply(&mut want, (3, 40, 32), Layout::Hwc, &mut rng()).unwrap();
            let mut got = vec![99.0f32; 3 * 40 * 32];
            for erasure in erasing.sample((32, 40), 3, &mut rng()).unwrap() {
                let row = 3 * erasure.area.width as usize;
                for (y, values) in erasure.values.chunks_exact(row).enumerate() {
                    let start = 3 * ((erasure.area.top as usize + y) * 32 + erasure.area.left as usize);
                    got[start..start + row].copy_from_slice(values);
                }
                boxes += 1;
            }
            assert_eq!(got, want, "{mode:?}, seed {seed}");
        }
    }
    assert!(boxes > 100);
}

#[test]
fn counts_are_checked() {
    for count in [(0, 1), (2, 1)] {
        assert!(RandomErasing { count, ..Default::default() }.validate().is_err(), "{count:?}");
    }
}
