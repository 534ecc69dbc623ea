//! Preprocessing of images on every device.

mod common;

use candle_core::{Device, Tensor};
use common::{devices, max_difference, numbers};
use efficienttrain_models::ops::{self, Blend, DevicePreprocess, ErasedBox};

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
const BOXES: [ErasedBox; 2] = [
    ErasedBox { image: 0, top: 1, left: 2, height: 3, width: 2 },
    ErasedBox { image: 3, top: 0, left: 0, height: 1, width: 7 },
];

fn bytes(shape: [usize; 4]) -> Vec<u8> {
    (0..shape.iter().product()).map(|i| (i * i % 251) as u8).collect()
}

fn values(channels: usize) -> Vec<f32> {
    (0..(3 * 2 + 7) * channels).map(|i| i as f32 / 4.0 - 3.0).collect()
}

/// Pixel by pixel, in double precision.
fn by_hand([n, h, w, channels]: [usize; 4], blend: Blend) -> Vec<f64> {
    let (bytes, values) = (bytes([n, h, w, channels]), values(channels));
    let own = |image: usize, y: usize, x: usize, c: usize| {
        let mut first = 0;
        for b in BOXES {
            let inside = (b.top..b.top + b.height).contains(&y) && (b.left..b.left + b.width).contains(&x);
            if b.image == image && inside {
                return f64::from(values[first + ((y - b.top) * b.width + x - b.left) * channels + c]);
            }
            first += b.height * b.width * channels;
        }
        let byte = f64::from(bytes[((image * h + y) * w + x) * channels + c]);
        (byte / 255.0 - f64::from(MEAN[c])) / f64::from(STD[c])
    };
    let mut out = Vec::new();
    let places = (0..n * h * w * channels).map(|i| (i / channels, i % channels));
    for (i, y, x, c) in places.map(|(i, c)| (i / w / h, i / w % h, i % w, c)) {
        let (value, partner) = (own(i, y, x, c), own(n - 1 - i, y, x, c));
        out.push(match blend {
            Blend::None => value,
            Blend::Share { own } => f64::from(own) * value + (1.0 - f64::from(own)) * partner,
            Blend::Box { y0, y1, x0, x1 } if (y0..y1).contains(&y) && (x0..x1).contains(&x) => partner,
            Blend::Box { .. } => value,
        });
    }
    out
}

#[test]
fn images_are_normalized_erased_and_blended() {
    let blends = [
        Blend::None,
        Blend::Share { own: 0.3 },
        Blend::Share { own: 1.0 },
        Blend::Box { y0: 1, y1: 4, x0: 0, x1: 5 },
        Blend::Box { y0: 2, y1: 2, x0: 0, x1: 0 },
    ];
    let shapes = [[4, 5, 7, 3], [5, 4, 8, 3], [5, 4, 8, 1]];
    for (shape, blend) in shapes.into_iter().flat_map(|s| blends.map(|b| (s, b))) {
        let values = values(shape[3]);
        let preprocess = DevicePreprocess { mean: MEAN, std: STD, boxes: &BOXES, values: &values, blend };
        let want = by_hand(shape, blend);
        for device in devices() {
            let bytes = ops::upload(&bytes(shape), &shape, &device).unwrap();
            let got = ops::normalize_erase_mix(&bytes, &preprocess).unwrap();
            assert_eq!(got.dims(), shape);
            let difference = max_difference(&numbers(&got), &want);
            assert!(difference < 2e-6, "{blend:?} on {device:?}: off by {difference}");
        }
    }
}

/// Buffers for the way to a device are used again and again, for shorter and longer batches.
#[test]
fn what_is_uploaded_arrives() {
    for device in devices() {
        let sent: Vec<(Vec<f32>, Tensor)> = (0..40usize)
            .map(|i| {
                // Now and then more than one thread copies.
                let more = if i % 13 == 5 { 700_000 } else { 0 };
                let values: Vec<f32> =
                    (0..1 + more + i * 37 % 5000).map(|j| (i * 10_000 + j) as f32).collect();
                let there = ops::upload(&values, &[values.len()], &device).unwrap();
                (values, there)
            })
            .collect();
        for (values, there) in sent {
            assert_eq!(there.to_vec1::<f32>().unwrap(), values);
        }
        assert_eq!(ops::upload::<u8>(&[], &[0, 3], &device).unwrap().dims(), [0, 3]);
        assert!(ops::upload(&[1u32, 2], &[3], &device).is_err());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let bytes = Tensor::from_vec(bytes([4, 5, 7, 3]), (4, 5, 7, 3), &Device::Cpu).unwrap();
    let values = values(3);
    let good = DevicePreprocess { mean: MEAN, std: STD, boxes: &BOXES, values: &values, blend: Blend::None };
    let twice = [BOXES[0]; 2];
    let outside = [ErasedBox { left: 6, ..BOXES[0] }];
    let nowhere = [ErasedBox { image: 4, ..BOXES[0] }];
    for bad in [
        DevicePreprocess { boxes: &twice, values: &[0.0; 36], ..good },
        DevicePreprocess { boxes: &outside, values: &[0.0; 18], ..good },
        DevicePreprocess { boxes: &nowhere, values: &[0.0; 18], ..good },
        DevicePreprocess { values: &values[1..], ..good },
        DevicePreprocess { blend: Blend::Box { y0: 0, y1: 6, x0: 0, x1: 1 }, ..good },
    ] {
        assert!(ops::normalize_erase_mix(&bytes, &bad).is_err(), "{bad:?}");
    }
    assert!(ops::normalize_erase_mix(&bytes.to_dtype(candle_core::DType::F32).unwrap(), &good).is_err());
    let gray = ops::normalize_erase_mix(&bytes.reshape((4, 5, 21, 1)).unwrap(), &good);
    assert!(gray.unwrap_err().to_string().contains("13 values"));
    assert!(ops::normalize_erase_mix(&bytes.reshape((2, 5, 7, 6)).unwrap(), &good).is_err());
}
