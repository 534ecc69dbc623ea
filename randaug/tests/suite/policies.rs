//! Policies: texts, tables and bytes against timm and torchvision, and draws.

use crate::common::{assert_same, cases, float, for_each_golden, int, oracle, text};
use randaug::{
    AugMix, AutoAugment, AutoPolicy, DrawnAugMix, DrawnOp, Interpolation, Op, OpConfig, Policy, RandAugment,
    Scheme, Scratch, SubPolicy, TrivialAugmentWide,
};
use serde_json::Value;

fn std_of(op: &Value) -> f64 {
    if op["std"] == "inf" { f64::INFINITY } else { float(op, "std") }
}

fn names(ops: &[Op]) -> Vec<Value> {
    ops.iter().map(|op| op.name().into()).collect()
}

fn listed(ops: &[Value]) -> Vec<Value> {
    ops.iter().map(|op| op["op"].clone()).collect()
}

fn same_rand(rand: &RandAugment, case: &Value) {
    let ops = cases(case, "ops");
    assert_eq!(names(&rand.ops), listed(ops), "{case}");
    assert_eq!(rand.num_layers as u32, int(case, "layers"), "{case}");
    assert_eq!(rand.prob, float(&ops[0], "prob"), "{case}");
    assert_eq!(rand.magnitude_std, std_of(&ops[0]), "{case}");
    assert_eq!(rand.config.levels.max_level, float(&ops[0], "max"), "{case}");
    match case["weights"].as_array() {
        None => assert!(rand.weights.is_empty(), "{case}"),
        Some(weights) => {
            let sum: f64 = rand.weights.iter().sum();
            assert_eq!(weights.len(), rand.weights.len(), "{case}");
            for (got, want) in rand.weights.iter().zip(weights) {
                assert!((got / sum - want.as_f64().unwrap()).abs() < 1e-12, "{case}: {got}");
            }
        }
    }
}

fn same_augmix(mix: &AugMix, case: &Value) {
    let ops = cases(case, "ops");
    assert_eq!(names(&mix.ops), listed(ops), "{case}");
    assert_eq!(mix.width as u32, int(case, "width"), "{case}");
    assert_eq!(mix.depth.map_or(-1, |d| d as i64), case["depth"].as_i64().unwrap(), "{case}");
    assert_eq!(mix.alpha, float(case, "alpha"), "{case}");
    assert_eq!(mix.sequential_blend, case["blended"] == true, "{case}");
    assert_eq!(mix.magnitude_std, std_of(&ops[0]), "{case}");
}

fn same_auto(auto: &AutoAugment, case: &Value) {
    let want = cases(case, "sub");
    let got = auto.policy.sub_policies();
    assert_eq!(got.len(), want.len(), "{case}");
    for (got, want) in got.iter().zip(want) {
        let rows = want.as_array().unwrap();
        assert_eq!(got.len(), rows.len());
        for (sub, row) in got.iter().zip(rows) {
            assert_eq!(sub.op.name(), text(row, "op"));
            assert_eq!((sub.prob, sub.magnitude), (float(row, "prob"), float(row, "magnitude")), "{row}");
            assert_eq!(auto.magnitude_std, std_of(row), "{row}");
        }
    }
}

#[test]
fn texts_mean_what_they_mean_to_timm() {
    for case in cases(&oracle().0, "policies") {
        let policy: Policy = text(case, "text").parse().unwrap();
        match policy.scheme() {
            Scheme::Rand(rand) => same_rand(rand, case),
            Scheme::AugMix(mix) => same_augmix(mix, case),
            Scheme::Auto(auto) => same_auto(auto, case),
            Scheme::Trivial(_) => panic!("{case}"),
        }
        if !matches!(policy.scheme(), Scheme::Auto(_)) {
            assert_eq!(policy.magnitude(), float(&cases(case, "ops")[0], "magnitude"), "{case}");
        }
        assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
    }
}

#[test]
fn options_may_stand_in_any_order() {
    let policy: Policy = "rand-inc1-mstd0.5-n2-m9".parse().unwrap();
    assert_eq!(policy.to_string(), "rand-m9-n2-mstd0.5-inc1");
    assert_eq!(policy, "rand-m9-n2-mstd0.5-inc1".parse().unwrap());
    assert_eq!(format!("{:>9}|", "ta_wide".parse::<Policy>().unwrap()), "  ta_wide|");
}

#[test]
fn unreadable_texts_say_what_is_near() {
    for (wrong, hint) in [
        ("rnad-m9", "did you mean \"rand\""),
        ("", "there is no policy"),
        ("rand-mst0.5", "did you mean \"mstd\""),
        ("rand-x5", "there is no option \"x\""),
        ("rand-m9-m8", "given twice"),
        ("rand-mfive", "there is no option \"mfive\""),
        ("rand-m", "has no value"),
        ("rand-m9x", "takes a number, found \"9x\""),
        ("rand-p1.5", "prob is 1.5"),
        ("rand-n0", "at least 1"),
        ("rand-n101", "num_layers is 101"),
        ("rand-n18446744073709551615", "at most 100"),
        ("rand-inc2", "takes 0 or 1"),
        ("rand-w1", "takes 0"),
        ("rand-twights", "did you mean \"weights\""),
        ("rand-w0-t3a", "exclude each other"),
        ("rand-n14-w0", "num_layers is 14"),
        ("rand-mmax0", "above 0"),
        ("rand-m1e400", "finite"),
        ("augmix-n3", "there is no option \"n\""),
        ("augmix-w0", "width is 0"),
        ("augmix-w18446744073709551615", "1..=100"),
        ("augmix-d101", "depth is 101"),
        ("augmix-a0", "alpha is 0"),
        ("original-m9", "did you mean \"mstd\""),
        ("ta_wide-m9", "takes no options"),
        ("v1", "did you mean \"v0\""),
    ] {
        let error = wrong.parse::<Policy>().expect_err(wrong).to_string();
        assert!(error.contains(hint) && error.contains(&format!("{wrong:?}")), "{error}");
    }
}

#[test]
fn sub_policies_are_the_golden_ones() {
    for_each_golden(|golden| {
        let file = golden.json("autoaugment_policies");
        let policies = file["policies"].as_object().unwrap();
        assert_eq!(policies.len(), 4);
        for (name, want) in policies {
            let policy = AutoPolicy::ALL.into_iter().find(|policy| policy.name() == name).unwrap();
            let row = |sub: &SubPolicy| -> Value {
                sub.iter().map(|s| serde_json::json!([s.op.name(), s.prob, s.magnitude])).collect()
            };
            let got: Vec<Value> = policy.sub_policies().iter().map(row).collect();
            assert_eq!(numbers_as_floats(want), numbers_as_floats(&Value::from(got)), "{name}");
        }
    });
}

/// JSON distinguishes 8 from 8.0.
fn numbers_as_floats(value: &Value) -> Value {
    match value {
        Value::Array(list) => list.iter().map(numbers_as_floats).collect(),
        Value::Number(number) => number.as_f64().into(),
        other => other.clone(),
    }
}

#[test]
fn augmix_of_given_draws_gives_timms_bytes() {
    let ((file, tensors), mut scratch) = (oracle(), Scratch::new());
    for case in cases(&file, "augmix") {
        let op = |op: &Value| DrawnOp {
            op: text(op, "op").parse().unwrap(),
            magnitude: float(op, "magnitude"),
            negate: op["negate"] == true,
        };
        let chains: Vec<_> = cases(case, "chains").iter().map(|chain| chain.as_array().unwrap()).collect();
        let drawn = DrawnAugMix {
            mix_weight: float(case, "m") as f32,
            weights: cases(case, "weights").iter().map(|w| w.as_f64().unwrap() as f32).collect(),
            depths: chains.iter().map(|chain| chain.len()).collect(),
            ops: chains.iter().copied().flatten().map(op).collect(),
        };
        let mix = AugMix { sequential_blend: case["blended"] == true, ..Default::default() };
        let mut image = tensors.image(&format!("input/{}", text(case, "input")));
        mix.apply_drawn(&mut image, &drawn, &mut scratch).unwrap();
        let key = text(case, "key");
        assert_same(&image, &tensors.image(key), key);
    }
}

#[test]
fn trivial_augment_has_torchvisions_space() {
    let file = oracle().0;
    for (list, bins) in [("trivial_space", 31), ("trivial_space_7", 7)] {
        let trivial = TrivialAugmentWide { bins, ..Default::default() };
        let rows = cases(&file, list);
        assert_eq!(rows.len(), TrivialAugmentWide::SPACE.len());
        for (row, op) in rows.iter().zip(TrivialAugmentWide::SPACE) {
            assert_eq!(text(row, "op"), op.map_or("Identity", Op::name));
            for (bin, want) in cases(row, "magnitudes").iter().enumerate() {
                let got = op.map_or(0.0, |op| trivial.magnitude(op, bin as u32).unwrap());
                assert_eq!(got, want.as_f64().unwrap(), "{op:?} in bin {bin} of {bins}");
            }
        }
    }
    let trivial = TrivialAugmentWide::default();
    assert!(trivial.magnitude(Op::Rotate, 31).is_err());
    assert!(TrivialAugmentWide { bins: 1, ..trivial }.magnitude(Op::Rotate, 0).is_err());
}

#[test]
fn trivial_augment_gives_torchvisions_bytes() {
    let ((file, tensors), mut scratch) = (oracle(), Scratch::new());
    let trivial = TrivialAugmentWide::default();
    let bilinear = OpConfig { interpolation: Interpolation::Bilinear, fill: [10, 20, 30], ..trivial.config };
    for case in cases(&file, "trivial") {
        let mut image = tensors.image(&format!("input/{}", text(case, "input")));
        let config = if case["mode"] == "bilinear" { bilinear } else { trivial.config };
        if let Ok(op) = text(case, "op").parse::<Op>() {
            let arg = trivial.arg(op, int(case, "bin"), case["negate"] == true).unwrap();
            op.apply_arg(&mut image, arg, &config, &mut scratch).unwrap();
        } else {
            assert_eq!(text(case, "op"), "Identity");
        }
        let key = text(case, "key");
        assert_same(&image, &tensors.image(key), key);
    }
}
