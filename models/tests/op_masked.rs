//! Ops on sequences of which only some tokens are seen: value against a plain loop, gradients
//! against central differences.

mod common;

use candle_core::Tensor;
use common::gradients::{check, filled};
use common::{beside, max_difference, numbers};
use efficienttrain_models::ops::{self, Traced};

/// Places of three sequences of five tokens.
const PLACES: [u32; 6] = [4, 0, 1, 2, 3, 1];

#[test]
fn gather_tokens() {
    let x = filled("tokens", &[3, 5, 4]);
    let (values, got) = (numbers(&x), ops::gather_tokens(&x, &PLACES).unwrap().value);
    assert_eq!(got.dims(), [3, 2, 4]);
    let mut expected = Vec::new();
    for (i, place) in PLACES.iter().enumerate() {
        for c in 0..4 {
            expected.push(values[(i / 2 * 5 + *place as usize) * 4 + c]);
        }
    }
    assert_eq!(numbers(&got), expected);
    check("gather_tokens", &[x], |t| ops::gather_tokens(&t[0], &PLACES));
}

#[test]
fn restore_tokens() {
    let (x, filler) = (filled("seen", &[3, 2, 4]), filled("filler", &[1, 1, 4]));
    let got = ops::restore_tokens(&x, &filler, &PLACES, 5).unwrap().value;
    assert_eq!(got.dims(), [3, 5, 4]);
    let (seen, filler_values) = (numbers(&x), numbers(&filler));
    let mut expected = filler_values.repeat(15);
    for (i, place) in PLACES.iter().enumerate() {
        expected[(i / 2 * 5 + *place as usize) * 4..][..4].copy_from_slice(&seen[i * 4..][..4]);
    }
    assert_eq!(numbers(&got), expected);
    check("restore_tokens", &[x.clone(), filler.clone()], |t| ops::restore_tokens(&t[0], &t[1], &PLACES, 5));
    // What was taken out comes back if it was.
    let back = ops::gather_tokens(&got, &PLACES).unwrap().value;
    assert_eq!(numbers(&back), seen);
    // With every token there, the filler is not used and its gradient is zero.
    let whole = ops::restore_tokens(&x, &filler, &[1, 0, 0, 1, 1, 0], 2).unwrap();
    let grads = (whole.pullback)(&whole.value, &[true, true]).unwrap();
    assert_eq!(numbers(grads[1].as_ref().unwrap()), [0.0; 4]);
}

#[test]
fn masked_squared_error() {
    let (x, target) = (filled("predicted", &[2, 3, 5]), filled("target", &[2, 3, 5]));
    let removed = [true, false, true, false, false, true];
    let (xs, ts) = (numbers(&x), numbers(&target));
    let patch = |i: usize| (0..5).map(|d| (xs[i * 5 + d] - ts[i * 5 + d]).powi(2)).sum::<f64>() / 5.0;
    let expected = (patch(0) + patch(2) + patch(5)) / 3.0;
    let got = numbers(&ops::masked_squared_error(&x, &target, &removed).unwrap().value);
    assert!(max_difference(&got, &[expected]) < 1e-15);
    // The target is an input without gradient: only the first is checked.
    check("masked_squared_error", &[x], |t| {
        let Traced { value, pullback, .. } =
            ops::masked_squared_error(&t[0], &beside(&t[0], &target), &removed)?;
        let first =
            move |dy: &Tensor, needs: &[bool]| Ok(vec![pullback(dy, &[needs[0], false])?.swap_remove(0)]);
        Ok(Traced::new(value, first))
    });
}

#[test]
fn what_is_not_removed_may_be_anything() {
    let mut values = numbers(&filled("predicted", &[1, 2, 3]));
    values[0] = f64::NAN;
    let x = Tensor::from_vec(values, (1, 2, 3), &candle_core::Device::Cpu).unwrap();
    let traced = ops::masked_squared_error(&x, &filled("t", &[1, 2, 3]), &[false, true]).unwrap();
    assert!(numbers(&traced.value)[0].is_finite());
    let one = Tensor::new(1f64, &candle_core::Device::Cpu).unwrap();
    let grads = (traced.pullback)(&one, &[true, false]).unwrap();
    assert_eq!(numbers(grads[0].as_ref().unwrap())[..3], [0.0; 3]);
}

#[test]
fn misfits_are_refused() {
    let x = filled("tokens", &[2, 4, 3]);
    let fails = |places: &[u32]| assert!(ops::gather_tokens(&x, places).is_err(), "{places:?}");
    fails(&[]);
    fails(&[0, 1, 2]);
    fails(&[0, 4]);
    let filler = filled("filler", &[1, 1, 3]);
    assert!(ops::restore_tokens(&x, &filler, &[0, 1], 4).is_err(), "one place for four tokens");
    assert!(ops::restore_tokens(&x, &filled("f", &[3]), &[0, 1, 2, 3, 0, 1, 2, 3], 4).is_err());
    assert!(ops::masked_squared_error(&x, &x, &[false; 8]).is_err(), "nothing removed");
    assert!(ops::masked_squared_error(&x, &x, &[true; 7]).is_err());
}
