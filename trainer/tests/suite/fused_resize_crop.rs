//! Fused resize and low-frequency crop: exactly the linear map of the two steps without their
//! roundings to 8 bits, and as close to the two steps as those roundings permit.

use efficienttrain::data::SampleId;
use std::f64::consts::PI;

use efficienttrain::data::{TrainPipeline, ViewSpec, Workspace};
use efficienttrain_schedule::{Augmentation, Order, Recipe};
use image::RgbImage;
use randaug::{CropBox, Filter, Purpose, RandomResizedCrop, sample_rng};

const BASE: usize = 224;
const BOXES: usize = 24;

/// Crop, flip and low-frequency crop only.
fn pipeline(fused: bool) -> TrainPipeline {
    let whole = Recipe::named("resnet18-etpp").unwrap().augmentation;
    TrainPipeline {
        base_size: BASE as u32,
        fused,
        min_crop_area: 0.08,
        augmentation: Augmentation { ops: 0, erasing: 0.0, flip: 0.0, ..whole },
        ..crate::common::pipeline()
    }
}

fn prepared(image: &RgbImage, size: u32, index: usize, fused: bool) -> RgbImage {
    let view = ViewSpec { size, magnitude: 0.0, order: Order::CropThenAugment };
    let (image, mut out) = (image.clone().into(), RgbImage::default());
    pipeline(fused)
        .prepare(&image, view, SampleId { epoch: 0, index }, &mut Workspace::default(), &mut out)
        .unwrap();
    out
}

/// Returns the crop box that the pipeline draws.
fn area(image: &RgbImage, index: usize) -> CropBox {
    let crop = RandomResizedCrop { scale: (0.08, 1.0), ..RandomResizedCrop::default() };
    let mut rng = sample_rng(5, 0, index as u64, Purpose::Crop);
    crop.sample(image.width(), image.height(), &mut rng).unwrap()
}

/// A dense matrix, row by row.
type Matrix = Vec<Vec<f64>>;

fn bicubic(from: usize, to: usize) -> Matrix {
    let mut rows = Vec::new();
    Filter::Bicubic.taps(from, to, &mut Vec::new(), |start, weights| {
        let mut row = vec![0.0; from];
        row[start..start + weights.len()].copy_from_slice(weights);
        rows.push(row);
    });
    rows
}

/// The paper's crop of one axis: see `freqcrop`'s documentation.
fn low_frequencies(from: usize, to: usize) -> Matrix {
    let waves = -((to / 2) as i64)..(to - to / 2) as i64;
    let entry = |p: usize, n: usize| {
        let angle = 2.0 * PI * (p as f64 / to as f64 - n as f64 / from as f64);
        waves.clone().map(|k| (k as f64 * angle).cos()).sum::<f64>() / from as f64
    };
    (0..to).map(|p| (0..from).map(|n| entry(p, n)).collect()).collect()
}

fn product(a: &Matrix, b: &Matrix) -> Matrix {
    let column = |r: &Vec<f64>, c: usize| r.iter().zip(b).map(|(x, row)| x * row[c]).sum();
    a.iter().map(|r| (0..b[0].len()).map(|c| column(r, c)).collect()).collect()
}

fn transposed(a: &Matrix) -> Matrix {
    (0..a[0].len()).map(|c| a.iter().map(|row| row[c]).collect()).collect()
}

/// Largest absolute row sum: the largest output for inputs of absolute value 1.
fn norm(a: &Matrix) -> f64 {
    a.iter().map(|row| row.iter().map(|x| x.abs()).sum()).fold(0.0, f64::max)
}

/// The low-frequency crop of a square channel, with the correction for even sizes.
fn crop(x: &Matrix, to: usize) -> Matrix {
    let from = x.len();
    let a = low_frequencies(from, to);
    let mut y = product(&product(&a, x), &transposed(&a));
    if to % 2 == 1 {
        return y;
    }
    let wave = |n: usize| (PI * to as f64 * n as f64 / from as f64).sin();
    let terms = x
        .iter()
        .enumerate()
        .flat_map(|(n, row)| row.iter().enumerate().map(move |(m, value)| wave(n) * value * wave(m)));
    let s = terms.sum::<f64>() / (from * from) as f64;
    for (p, row) in y.iter_mut().enumerate() {
        for (q, value) in row.iter_mut().enumerate() {
            *value -= if (p + q) % 2 == 0 { s } else { -s };
        }
    }
    y
}

fn channel(image: &RgbImage, area: CropBox, c: usize) -> Matrix {
    let value = |y, x| f64::from(image.get_pixel(area.left + x, area.top + y).0[c]);
    (0..area.height).map(|y| (0..area.width).map(|x| value(y, x)).collect()).collect()
}

/// The exact result for a box, in real numbers.
fn exact(x: &Matrix, size: usize) -> Matrix {
    let (rows, columns) = (bicubic(x.len(), BASE), bicubic(x[0].len(), BASE));
    crop(&product(&product(&rows, x), &transposed(&columns)), size)
}

fn photograph() -> RgbImage {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../freqcrop/tests/data/cat.png");
    image::open(path).unwrap().into_rgb8()
}

/// All pixels in 64..=191: the bicubic filter, whose absolute weights sum to at most 1.25, cannot
/// leave 0..=255.
fn subdued(mut image: RgbImage) -> RgbImage {
    image.iter_mut().for_each(|value| *value = 64 + *value / 2);
    image
}

/// Twice the contrast: large parts are black or white, and the filter overshoots at their edges.
fn harsh(mut image: RgbImage) -> RgbImage {
    image.iter_mut().for_each(|value| *value = (2 * i32::from(*value) - 128).clamp(0, 255) as u8);
    image
}

#[test]
fn it_is_the_exact_operator_rounded_once() {
    for image in [photograph(), harsh(photograph())] {
        for (size, index) in [(96, 0), (160, 1), (97, 2)] {
            let got = prepared(&image, size, index, true);
            let area = area(&image, index);
            assert!(area.width < 280 && area.height < 280, "index {index} does not take the operator's way");
            let want = exact(&channel(&image, area, 1), size as usize);
            for (x, y, pixel) in got.enumerate_pixels() {
                let value = want[y as usize][x as usize].clamp(0.0, 255.0);
                // Half a level, and single precision over sums of some hundred terms.
                assert!((f64::from(pixel.0[1]) - value).abs() < 0.502, "{size}: {} for {value}", pixel.0[1]);
            }
        }
    }
}

/// Each rounding error is at most half a level. The first rounding passes through the other half of
/// the resize and both pass through the crop, so the two ways differ before the last rounding by at
/// most `|C| (|V| / 2 + 1 / 2)`, with |.| the largest absolute row sum and |C| = |A|^2 + 1, where
/// the 1 is for the correction of even sizes.
#[test]
fn without_clipping_it_is_within_the_roundings_of_the_stepwise_way() {
    let mut rng = 12345u32;
    // Noise: the roundings have no structure that could cancel.
    let noise = RgbImage::from_fn(150, 130, |_, _| {
        image::Rgb([0; 3].map(|_: u8| {
            rng = rng.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            64 + (rng >> 25) as u8
        }))
    });
    for size in [96, 160] {
        let a = norm(&low_frequencies(BASE, size as usize));
        let mut largest = 0;
        for image in [&noise, &subdued(photograph())] {
            for index in 0..4 {
                let area = area(image, index);
                let v = norm(&bicubic(area.height as usize, BASE));
                let bound = (a * a + 1.0) * (v / 2.0 + 0.5) + 1.0;
                let (one, two) = (prepared(image, size, index, true), prepared(image, size, index, false));
                for (a, b) in one.iter().zip(two.iter()) {
                    largest = largest.max(a.abs_diff(*b));
                    assert!(f64::from(a.abs_diff(*b)) <= bound, "{a} and {b}, bound {bound}");
                }
                println!("{size}: bound {bound:.1}");
            }
        }
        println!("{size}: largest difference {largest}");
    }
}

/// Differences in levels between the two ways, over many crop boxes of an image.
fn differences(image: &RgbImage, size: u32) -> Vec<u8> {
    let pairs = (0..BOXES).map(|i| (prepared(image, size, i, true), prepared(image, size, i, false)));
    pairs.flat_map(|(a, b)| a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).collect::<Vec<_>>()).collect()
}

fn share(levels: &[u8], more_than: u8) -> f64 {
    levels.iter().filter(|&&level| level > more_than).count() as f64 / levels.len() as f64
}

#[test]
fn on_a_photograph_roundings_hardly_ever_meet() {
    for size in [96, 160] {
        let levels = differences(&subdued(photograph()), size);
        println!("{size}: {:.4} differ, {:.6} by more than 1", share(&levels, 0), share(&levels, 1));
        assert!(share(&levels, 0) > 0.0, "the two ways are the same code");
        assert!(share(&levels, 0) < 0.25, "{size}: {}", share(&levels, 0));
        assert!(share(&levels, 1) < 1e-4, "{size}: {}", share(&levels, 1));
        assert_eq!(share(&levels, 2), 0.0, "{size}");
    }
}

/// Where the stepwise way clips overshoot at base size, the one operator keeps it: more may differ,
/// but little does.
#[test]
fn where_the_stepwise_way_clips_little_differs() {
    for size in [96, 160] {
        let levels = differences(&harsh(photograph()), size);
        println!("{size}: {:.4} by more than 1, at most {:?}", share(&levels, 1), levels.iter().max());
        assert!(share(&levels, 1) < 0.05, "{size}: {}", share(&levels, 1));
    }
}
