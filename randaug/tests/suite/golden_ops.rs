//! The operations against the bytes of the reference.

use crate::common::{assert_same, cases, float, for_each_golden, text};
use randaug::{Adjustment, Arg, Interpolation, LevelScale, Op, OpConfig, Scratch, flip_horizontal};
use serde_json::Value;

#[test]
fn operations_give_the_reference_bytes() {
    for_each_golden(|golden| {
        let (file, tensors) = (golden.json("randaug_ops"), golden.tensors("randaug_ops"));
        let mut scratch = Scratch::new();
        for case in cases(&file, "cases") {
            let op: Op = text(case, "op").parse().unwrap();
            let mut image = tensors.image(&format!("input/{}", text(case, "input")));
            let config = OpConfig { interpolation: interpolation(case), ..Default::default() };
            let magnitude = case["magnitude"].as_f64().unwrap_or(0.0);
            let negate = case["sign"] == -1;
            op.apply_with(&mut image, magnitude, negate, &config, &mut scratch).unwrap();
            let key = text(case, "key");
            assert_same(&image, &tensors.image(key), key);
        }
    });
}

fn interpolation(case: &Value) -> Interpolation {
    match case["resample"].as_str() {
        Some("nearest") => Interpolation::Nearest,
        Some("bilinear") => Interpolation::Bilinear,
        Some("bicubic") | None => Interpolation::Bicubic,
        Some(other) => panic!("resample {other}"),
    }
}

#[test]
fn operations_are_those_of_the_reference_in_its_order() {
    for_each_golden(|golden| {
        let file = golden.json("level_to_arg");
        let names = |ops: &[Op]| ops.iter().map(|op| Value::from(op.name())).collect::<Vec<_>>();
        assert_eq!(Value::from(names(&Op::INCREASING)), file["used_by_inc1"]);
        assert_eq!(Value::from(names(&Op::PLAIN)), file["used_by_inc0"]);
        assert_eq!(Value::from(names(&Op::INCREASING)), golden.json("randaug_ops")["order"]);
    });
}

#[test]
fn magnitudes_give_the_reference_arguments() {
    for_each_golden(|golden| {
        let file = golden.json("level_to_arg");
        let ops = file["ops"].as_object().unwrap();
        // The three that later versions of timm added are compared with those, in `color.rs`.
        assert_eq!(ops.len() + 3, Op::ALL.len(), "every operation is in a table");
        for (name, entry) in ops {
            let op: Op = name.parse().unwrap();
            let arg = |magnitude, negate| op.level_to_arg(magnitude, negate, &LevelScale::default()).unwrap();
            if entry["args"] == "none" {
                assert_eq!(arg(5.0, true), Arg::None, "{name}");
                continue;
            }
            for row in cases(entry, "rows") {
                let magnitude = float(row, "magnitude");
                same_arg(arg(magnitude, false), &row["arg"], name, magnitude);
                let negated = if entry["signed"] == true { &row["arg_negated"] } else { &row["arg"] };
                same_arg(arg(magnitude, true), negated, name, magnitude);
            }
        }
    });
}

fn same_arg(got: Arg, want: &Value, name: &str, magnitude: f64) {
    match got {
        Arg::Int(value) => assert_eq!(Some(i64::from(value)), want.as_i64(), "{name} at {magnitude}"),
        // Bit for bit, so that the sign of zero counts too.
        Arg::Float(value) => {
            let want = want.as_f64().unwrap();
            assert_eq!(value.to_bits(), want.to_bits(), "{name} at {magnitude}: {value}, expected {want}");
        }
        Arg::None => panic!("{name} has no argument"),
    }
}

#[test]
fn color_adjustments_and_flip_give_the_reference_bytes() {
    for_each_golden(|golden| {
        let (file, tensors) = (golden.json("color_jitter"), golden.tensors("color_jitter"));
        for case in cases(&file, "cases") {
            let mut image = tensors.image(&format!("input/{}", text(case, "input")));
            let adjustment = match text(case, "op") {
                "brightness" => Some(Adjustment::Brightness),
                "contrast" => Some(Adjustment::Contrast),
                "saturation" => Some(Adjustment::Saturation),
                "hflip" => None,
                other => panic!("op {other}"),
            };
            match adjustment {
                Some(adjustment) => adjustment.apply(&mut image, float(case, "factor")).unwrap(),
                None => flip_horizontal(&mut image),
            }
            let key = text(case, "key");
            assert_same(&image, &tensors.image(key), key);
        }
    });
}
