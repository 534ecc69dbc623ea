//! Blur, hue, gray, jitter and the later operations against Pillow, torchvision and timm 1.0.

use crate::common::{assert_same, cases, float, mix, oracle, text};
use image::{Rgb, RgbImage};
use randaug::{
    Adjustment, Arg, ColorJitter, LevelScale, Op, OpConfig, Purpose, Scratch, flip_vertical, grayscale,
    sample_rng,
};

#[test]
fn color_operations_give_the_libraries_bytes() {
    let ((file, tensors), mut scratch) = (oracle(), Scratch::new());
    for case in cases(&file, "colour") {
        let mut image = tensors.image(&format!("input/{}", text(case, "input")));
        let (arg, config) = (float(case, "arg"), OpConfig::default());
        match text(case, "op") {
            "blur" => {
                Op::GaussianBlur.apply_arg(&mut image, Arg::Float(arg), &config, &mut scratch).unwrap();
            }
            "hue" => Adjustment::Hue.apply(&mut image, arg).unwrap(),
            "grayscale" => grayscale(&mut image),
            "vflip" => flip_vertical(&mut image),
            "desaturate" => Op::Desaturate.apply(&mut image, arg, false, &mut scratch).unwrap(),
            other => panic!("op {other}"),
        }
        let key = text(case, "key");
        assert_same(&image, &tensors.image(key), key);
    }
}

#[test]
fn every_color_turns_as_in_pillow() {
    let color = |i: u32| Rgb([i as u8, (i >> 8) as u8, (i >> 16) as u8]);
    let all = RgbImage::from_fn(4096, 4096, |x, y| color(y * 4096 + x));
    for case in cases(&oracle().0, "all_colours") {
        let mut image = all.clone();
        Adjustment::Hue.apply(&mut image, float(case, "factor")).unwrap();
        // The weight of a byte depends on its position, so that a permutation does not pass.
        let weigh = |(i, &v): (u64, &u8)| (u64::from(v) + 1).wrapping_mul(mix(1, i));
        let digest = (0..).zip(image.iter()).map(weigh).fold(0u64, u64::wrapping_add);
        assert_eq!(digest.to_string(), text(case, "digest"), "{case}");
    }
}

#[test]
fn jitter_in_a_given_order_gives_torchvisions_bytes() {
    use Adjustment::{Brightness, Contrast, Hue, Saturation};
    let (file, tensors) = oracle();
    for case in cases(&file, "jitter") {
        let mut image = tensors.image(&format!("input/{}", text(case, "input")));
        for step in cases(case, "order") {
            let i = step.as_u64().unwrap() as usize;
            let factor = case["factors"][i].as_f64().unwrap();
            [Brightness, Contrast, Saturation, Hue][i].apply(&mut image, factor).unwrap();
        }
        let key = text(case, "key");
        assert_same(&image, &tensors.image(key), key);
    }
}

#[test]
fn jitter_draws_uniform_factors_in_every_order() {
    let jitter = ColorJitter { hue: Some((-0.1, 0.3)), ..ColorJitter::symmetric(0.4).unwrap() };
    let mut rng = sample_rng(0, 0, 0, Purpose::Jitter);
    let n = 48_000;
    let mut orders = std::collections::HashMap::new();
    let mut sums = [(0.0, 0.0); 4];
    for _ in 0..n {
        let drawn = jitter.sample(&mut rng).unwrap().map(Option::unwrap);
        *orders.entry(drawn.map(|(adjustment, _)| adjustment)).or_insert(0) += 1;
        for (adjustment, factor) in drawn {
            let sum = &mut sums[adjustment as usize];
            *sum = (sum.0 + factor, sum.1 + factor * factor);
        }
    }
    assert_eq!(orders.len(), 24);
    let expected = f64::from(n) / 24.0;
    assert!(orders.values().all(|&count| (f64::from(count) - expected).abs() < 5.0 * expected.sqrt()));
    for (i, (low, high)) in [(0.6, 1.4), (0.6, 1.4), (0.6, 1.4), (-0.1, 0.3)].into_iter().enumerate() {
        let (mean, std) = ((low + high) / 2.0, (high - low) / 12f64.sqrt());
        let got = sums[i].0 / f64::from(n);
        assert!((got - mean).abs() < 5.0 * std / f64::from(n).sqrt(), "{i}: mean {got}");
        let got = (sums[i].1 / f64::from(n) - got * got).sqrt();
        assert!((got - std).abs() < 0.02 * std, "{i}: std {got}");
    }
    let only = ColorJitter { contrast: Some((2.0, 2.0)), ..Default::default() };
    let drawn: Vec<_> = only.sample(&mut rng).unwrap().into_iter().flatten().collect();
    assert_eq!(drawn, [(Adjustment::Contrast, 2.0)]);
}

#[test]
fn jitter_refuses_bad_ranges() {
    let mut image = RgbImage::new(2, 2);
    let mut rng = sample_rng(0, 0, 0, Purpose::Jitter);
    for jitter in [
        ColorJitter { hue: Some((-0.6, 0.0)), ..Default::default() },
        ColorJitter { contrast: Some((-0.1, 1.0)), ..Default::default() },
        ColorJitter { brightness: Some((1.0, 0.5)), ..Default::default() },
        ColorJitter { saturation: Some((f64::NAN, 0.5)), ..Default::default() },
    ] {
        assert!(jitter.apply(&mut image, &mut rng).is_err(), "{jitter:?}");
    }
    assert!(ColorJitter::symmetric(-1.0).is_err());
    assert!(Adjustment::Hue.apply(&mut image, 0.51).is_err());
    for radius in [-1.0, 1e9] {
        let arg = Arg::Float(radius);
        let config = OpConfig::default();
        assert!(Op::GaussianBlur.apply_arg(&mut image, arg, &config, &mut Scratch::new()).is_err());
    }
}

fn number(arg: Arg) -> f64 {
    match arg {
        Arg::Int(value) => f64::from(value),
        Arg::Float(value) => value,
        Arg::None => panic!("no argument"),
    }
}

#[test]
fn later_operations_and_higher_levels_have_timms_arguments() {
    let (file, _) = oracle();
    for case in cases(&file, "levels_new") {
        let op: Op = text(case, "op").parse().unwrap();
        let got = op.level_to_arg(float(case, "level"), false, &LevelScale::default()).unwrap();
        assert_eq!(number(got), float(case, "arg"), "{case}");
    }
    let scale = LevelScale { max_level: 30.0, ..Default::default() };
    for case in cases(&file, "levels_above_10") {
        let op: Op = text(case, "op").parse().unwrap();
        let arg = |negate| number(op.level_to_arg(float(case, "level"), negate, &scale).unwrap());
        assert_eq!(arg(false), float(case, "arg"), "{case}");
        assert_eq!(arg(true), float(case, "negated"), "{case}");
    }
}
