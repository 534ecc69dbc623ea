//! Draws of the policies, and their dependence on the magnitude of each call.

use std::collections::HashMap;

use crate::common::synth_image;
use image::RgbImage;
use randaug::{
    AugMix, AutoAugment, AutoPolicy, Op, Policy, Purpose, Scheme, Scratch, TrivialAugmentWide, sample_rng,
};

#[test]
fn sub_policies_are_drawn_with_their_chances() {
    let policy = AutoPolicy::V0;
    let auto = AutoAugment::new(policy);
    let mut rng = sample_rng(5, 0, 0, Purpose::Augment);
    let (n, mut counts) = (200_000, HashMap::new());
    for _ in 0..n {
        for drawn in auto.sample_image(10.0, &mut rng).unwrap() {
            *counts.entry((drawn.op, drawn.magnitude as u32)).or_insert(0usize) += 1;
        }
    }
    let mut expected: HashMap<(Op, u32), f64> = HashMap::new();
    for sub in policy.sub_policies().iter().copied().flatten() {
        *expected.entry((sub.op, sub.magnitude as u32)).or_default() += sub.prob / 25.0;
    }
    for (key, chance) in expected {
        let share = *counts.get(&key).unwrap_or(&0) as f64 / f64::from(n);
        // At most one of each pair of equal operations, so that this is nearly a binomial.
        let error = (2.0 * chance / f64::from(n)).sqrt();
        assert!((share - chance).abs() <= 5.0 * error, "{key:?}: {share} against {chance}");
    }
}

#[test]
fn magnitude_scales_policies_towards_their_weakest() {
    assert_eq!(AutoAugment::scaled(Op::Rotate, 8.0, 5.0), 4.0);
    assert_eq!(AutoAugment::scaled(Op::Posterize, 4.0, 5.0), 7.0);
    assert_eq!(AutoAugment::scaled(Op::Color, 9.0, 0.0), 5.0);
    // At 0 only the operations of v0 without a magnitude remain, and PosterizeIncreasing has
    // none in it.
    let (policy, mut scratch): (Policy, _) = ("v0".parse().unwrap(), Scratch::new());
    let source = synth_image(11, 24, 30);
    let differs = |magnitude, i| {
        let mut rng = sample_rng(0, 0, i, Purpose::Augment);
        let Scheme::Auto(auto) = policy.scheme() else { panic!() };
        let mut image = source.clone();
        for drawn in auto.sample_image(magnitude, &mut rng).unwrap() {
            if !matches!(drawn.op, Op::AutoContrast | Op::Equalize | Op::Invert | Op::Posterize) {
                drawn.apply(&mut image, &auto.config, &mut Scratch::new()).unwrap();
            }
        }
        image != source
    };
    let changed = |magnitude| (0..300).filter(|&i| differs(magnitude, i)).count();
    assert_eq!(changed(0.0), 0);
    assert!(changed(10.0) > 150);
    let mut image = source.clone();
    policy.apply(&mut image, Some(0.0), &mut sample_rng(0, 0, 0, Purpose::Augment), &mut scratch).unwrap();
}

#[test]
fn weighted_operations_come_by_weight_and_never_twice() {
    let policy: Policy = "rand-n2-p1-tweights".parse().unwrap();
    let Scheme::Rand(rand) = policy.scheme() else { panic!() };
    let (n, mut rng) = (60_000, sample_rng(6, 0, 0, Purpose::Augment));
    let mut pairs: HashMap<(Op, Op), usize> = HashMap::new();
    for _ in 0..n {
        let drawn = rand.sample_image(5.0, &mut rng).unwrap();
        assert_ne!(drawn[0].op, drawn[1].op);
        *pairs.entry((drawn[0].op, drawn[1].op)).or_default() += 1;
    }
    let sum: f64 = rand.weights.iter().sum();
    let chance = |i: usize| rand.weights[i] / sum;
    for (i, &first) in rand.ops.iter().enumerate() {
        for (j, &second) in rand.ops.iter().enumerate().filter(|&(j, _)| j != i) {
            let expected = chance(i) * chance(j) / (1.0 - chance(i)) * f64::from(n);
            let got = *pairs.get(&(first, second)).unwrap_or(&0) as f64;
            assert!(
                (got - expected).abs() <= 5.0 * expected.sqrt() + 2.0,
                "{first} {second}: {got} {expected}"
            );
        }
    }
}

#[test]
fn uniform_noise_and_random_blur_fill_their_ranges() {
    let policy: Policy = "rand-m8-mstd101-p1".parse().unwrap();
    let Scheme::Rand(rand) = policy.scheme() else { panic!() };
    let mut rng = sample_rng(7, 0, 0, Purpose::Augment);
    let mean_and_max = |values: &[f64]| {
        (values.iter().sum::<f64>() / values.len() as f64, values.iter().copied().fold(0.0, f64::max))
    };
    let levels: Vec<f64> =
        (0..20_000).map(|_| rand.sample(8.0, &mut rng).unwrap().unwrap().magnitude).collect();
    let (mean, max) = mean_and_max(&levels);
    assert!((mean - 4.0).abs() < 5.0 * 8.0 / (12.0 * 20_000f64).sqrt() && (7.9..=8.0).contains(&max));
    let three = AutoAugment::new(AutoPolicy::ThreeAugment);
    let blurs = (0..30_000).flat_map(|_| three.sample_image(10.0, &mut rng).unwrap());
    let radii: Vec<f64> =
        blurs.filter(|d| d.op == Op::GaussianBlurRand).map(|d| 2.0 * d.magnitude / 10.0).collect();
    let (mean, max) = mean_and_max(&radii);
    assert!((radii.len() as f64 - 10_000.0).abs() < 5.0 * (30_000.0 * 2.0 / 9.0f64).sqrt());
    assert!((mean - 1.05).abs() < 5.0 * 1.9 / (12.0 * radii.len() as f64).sqrt() && max <= 2.0, "{mean}");
    assert!(radii.iter().all(|&radius| radius >= 0.1));
}

#[test]
fn augmix_draws_a_dirichlet_and_a_beta() {
    let mix = AugMix { alpha: 0.7, ..Default::default() };
    let (n, mut rng) = (40_000, sample_rng(8, 0, 0, Purpose::Augment));
    let (mut weights, mut shares, mut depths) = (Vec::new(), Vec::new(), [0usize; 4]);
    for _ in 0..n {
        let drawn = mix.sample(3.0, &mut rng).unwrap();
        assert!((drawn.weights.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(drawn.ops.iter().all(|op| (0.0..=3.0).contains(&op.magnitude)));
        weights.push(f64::from(drawn.weights[1]));
        shares.push(f64::from(drawn.mix_weight));
        drawn.depths.iter().for_each(|&depth| depths[depth] += 1);
    }
    // Means and variances in closed form: Dirichlet(a, a, a) and Beta(a, a).
    let check = |values: &[f64], mean: f64, variance: f64| {
        let n = values.len() as f64;
        let got = values.iter().sum::<f64>() / n;
        assert!((got - mean).abs() < 5.0 * (variance / n).sqrt(), "mean {got}, expected {mean}");
        let spread = values.iter().map(|v| (v - got).powi(2)).sum::<f64>() / n;
        assert!((spread / variance - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "variance {spread} for {variance}");
    };
    check(&weights, 1.0 / 3.0, (1.0 / 3.0) * (2.0 / 3.0) / (3.0 * 0.7 + 1.0));
    check(&shares, 0.5, 0.25 / (2.0 * 0.7 + 1.0));
    let each = f64::from(n);
    assert_eq!(depths[0], 0);
    assert!(depths[1..].iter().all(|&count| (count as f64 - each).abs() < 5.0 * each.sqrt()), "{depths:?}");
}

#[test]
fn trivial_augment_draws_evenly_up_to_the_magnitude() {
    let (trivial, mut rng) = (TrivialAugmentWide::default(), sample_rng(9, 0, 0, Purpose::Augment));
    let (n, mut counts) = (70_000, HashMap::new());
    let mut largest: f64 = 0.0;
    for _ in 0..n {
        let drawn = trivial.sample(5.0, &mut rng).unwrap();
        *counts.entry(drawn.map(|(op, _)| op)).or_insert(0) += 1;
        if let Some((Op::Rotate, randaug::Arg::Float(degrees))) = drawn {
            largest = largest.max(degrees.abs());
        }
    }
    assert_eq!(counts.len(), 14);
    assert!(counts.values().all(|&count| (f64::from(count) - 5000.0).abs() < 5.0 * 5000f64.sqrt()));
    assert_eq!(largest, 67.5);
    assert!(trivial.sample(10.1, &mut rng).is_err());
}

/// A draw depends on the magnitude of the call, not on earlier draws.
#[test]
fn every_policy_takes_a_magnitude_at_each_call() {
    let mut scratch = Scratch::new();
    for policy in [
        "rand-m9-mstd0.5-inc1",
        "rand-t3aw-p1",
        "augmix",
        "augmix-b1",
        "original",
        "v0r-mstd0.5",
        "3a",
        "ta_wide",
    ] {
        let policy: Policy = policy.parse().unwrap();
        let mut run = |magnitude, index| {
            let mut image = synth_image(11, 24, 30);
            let mut rng = sample_rng(3, 0, index, Purpose::Augment);
            policy.apply(&mut image, magnitude, &mut rng, &mut scratch).unwrap();
            image
        };
        let own = policy.magnitude();
        let all = |run: &mut dyn FnMut(Option<f64>, u64) -> RgbImage, m| -> Vec<RgbImage> {
            (0..40).map(|i| run(m, i)).collect()
        };
        let base = all(&mut run, None);
        assert_eq!(base, all(&mut run, Some(own)), "{policy}");
        assert_ne!(base, all(&mut run, Some(own / 4.0)), "{policy}");
        assert_eq!(base, all(&mut run, None), "{policy}");
        let mut empty = RgbImage::new(0, 3);
        let mut rng = sample_rng(3, 0, 0, Purpose::Augment);
        assert!(policy.apply(&mut empty, None, &mut rng, &mut scratch).is_err());
        let mut tiny = RgbImage::new(1, 1);
        assert!(policy.apply(&mut tiny, Some(f64::NAN), &mut rng, &mut scratch).is_err());
        for (width, height) in [(1, 1), (1, 40), (40, 1), (2, 2), (3, 3)] {
            for value in [0, 255] {
                let mut flat = RgbImage::from_pixel(width, height, image::Rgb([value; 3]));
                for _ in 0..40 {
                    policy.apply(&mut flat, None, &mut rng, &mut scratch).unwrap();
                }
                assert_eq!(flat.dimensions(), (width, height));
            }
        }
    }
}
