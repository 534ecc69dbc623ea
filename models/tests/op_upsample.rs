//! Repeating pixels: value against a plain loop, gradients against central differences.

mod common;

use common::gradients::{check, filled};
use common::numbers;
use efficienttrain_models::ops;

#[test]
fn upsample_nearest() {
    for (shape, factor) in [([2, 3, 2, 4], 2), ([1, 2, 3, 1], 3), ([1, 2, 2, 2], 1)] {
        let x = filled("map", &shape);
        let got = ops::upsample_nearest(&x, factor).unwrap().value;
        let [n, h, w, c] = shape;
        assert_eq!(got.dims(), [n, h * factor, w * factor, c]);
        let values = numbers(&x);
        for (i, &got) in numbers(&got).iter().enumerate() {
            let (channel, col) = (i % c, i / c % (w * factor));
            let (row, image) = (i / c / (w * factor) % (h * factor), i / c / (w * factor) / (h * factor));
            let source = ((image * h + row / factor) * w + col / factor) * c + channel;
            assert_eq!(got, values[source]);
        }
        check(&format!("upsample_nearest by {factor}"), &[x], |t| ops::upsample_nearest(&t[0], factor));
    }
    assert!(ops::upsample_nearest(&filled("map", &[1, 2, 2, 1]), 0).is_err());
    assert!(ops::upsample_nearest(&filled("tokens", &[1, 2, 2]), 2).is_err());
}
