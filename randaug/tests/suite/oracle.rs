//! The fast paths against plain transcriptions of Pillow's C, over many sizes and strengths.

use crate::common::{assert_same, mix};
use image::{Rgb, RgbImage};
use randaug::{Arg, CropBox, Filter, Interpolation, Op, OpConfig, Scratch, resize_crop};

const FILL: [u8; 3] = [124, 116, 104];

/// Noise, half of it at the extremes, where clipping shows.
fn noise(seed: u64, width: u32, height: u32) -> RgbImage {
    let value = |i: u64| {
        let hash = mix(seed, i);
        if hash & 1 == 0 { (hash >> 8) as u8 } else { 255 * (hash >> 1 & 1) as u8 }
    };
    RgbImage::from_fn(width, height, |x, y| {
        let i = 3 * (u64::from(y) * u64::from(width) + u64::from(x));
        Rgb([value(i), value(i + 1), value(i + 2)])
    })
}

/// `BICUBIC` of Geometry.c.
fn cubic(v: [f64; 4], d: f64) -> f64 {
    let p2 = -v[0] + v[2];
    let p3 = 2.0 * (v[0] - v[1]) + v[2] - v[3];
    let p4 = -v[0] + v[1] - v[2] + v[3];
    v[1] + d * (p2 + d * (p3 + d * p4))
}

/// `BICUBIC_BODY` or `BILINEAR_BODY` of Geometry.c for one channel, with its rule for rows outside
/// the image.
fn look_up(img: &RgbImage, sx: f64, sy: f64, c: usize, bicubic: bool) -> u8 {
    let (w, h) = (i64::from(img.width()), i64::from(img.height()));
    let (sx, sy) = (sx - 0.5, sy - 0.5);
    let (x, y) = (sx.floor() as i64, sy.floor() as i64);
    let (dx, dy) = (sx - x as f64, sy - y as f64);
    let at = |x: i64, y: i64| f64::from(img.get_pixel(x.clamp(0, w - 1) as u32, y as u32)[c]);
    let row = |y: i64| {
        if bicubic {
            cubic([at(x - 1, y), at(x, y), at(x + 1, y), at(x + 2, y)], dx)
        } else {
            at(x, y) + (at(x + 1, y) - at(x, y)) * dx
        }
    };
    let first = if bicubic { y - 1 } else { y };
    let mut v = [row(first.clamp(0, h - 1)); 4];
    for i in 1..4 {
        let y = first + i as i64;
        v[i] = if (0..h).contains(&y) { row(y) } else { v[i - 1] };
    }
    let value = if bicubic { cubic(v, dy) } else { v[0] + (v[1] - v[0]) * dy };
    if value <= 0.0 {
        0
    } else if value >= 255.0 {
        255
    } else {
        value as u8
    }
}

fn transform(img: &RgbImage, m: [f64; 6], bicubic: bool) -> RgbImage {
    RgbImage::from_fn(img.width(), img.height(), |x, y| {
        let (xin, yin) = (f64::from(x) + 0.5, f64::from(y) + 0.5);
        let sx = m[0] * xin + m[1] * yin + m[2];
        let sy = m[3] * xin + m[4] * yin + m[5];
        let inside = sx >= 0.0 && sx < f64::from(img.width()) && sy >= 0.0 && sy < f64::from(img.height());
        Rgb(if inside { [0, 1, 2].map(|c| look_up(img, sx, sy, c, bicubic)) } else { FILL })
    })
}

fn matrix(op: Op, v: f64) -> [f64; 6] {
    match op {
        Op::ShearX => [1.0, v, 0.0, 0.0, 1.0, 0.0],
        Op::ShearY => [1.0, 0.0, 0.0, v, 1.0, 0.0],
        Op::TranslateX => [1.0, 0.0, v, 0.0, 1.0, 0.0],
        _ => [1.0, 0.0, 0.0, 0.0, 1.0, v],
    }
}

#[test]
fn shears_and_shifts_are_the_plain_transform() {
    let mut scratch = Scratch::new();
    let ops = [Op::ShearX, Op::ShearY, Op::TranslateX, Op::TranslateY];
    for i in 0..400 {
        let edge = |k: u64| 1 + (mix(k, i) % 23) as u32;
        let img = noise(i, edge(1), edge(2));
        let op = ops[i as usize % 4];
        // Every fifth value is whole, which is the case without any interpolation.
        let v = (mix(3, i) % 2001) as f64 / 200.0 - 5.0;
        let v = if i % 5 == 0 { v.round() } else { v };
        for (interpolation, bicubic) in [(Interpolation::Bicubic, true), (Interpolation::Bilinear, false)] {
            let config = OpConfig { interpolation, ..Default::default() };
            let mut got = img.clone();
            op.apply_arg(&mut got, Arg::Float(v), &config, &mut scratch).unwrap();
            assert_same(
                &got,
                &transform(&img, matrix(op, v), bicubic),
                &format!("{op} {v} {interpolation:?}"),
            );
        }
    }
}

fn weight(filter: Filter, x: f64) -> f64 {
    let sinc =
        |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    let a = x.abs();
    match filter {
        Filter::Bilinear if a < 1.0 => 1.0 - a,
        Filter::Bicubic if a < 1.0 => (1.5 * a - 2.5) * a * a + 1.0,
        Filter::Bicubic if a < 2.0 => (((a - 5.0) * a + 8.0) * a - 4.0) * -0.5,
        Filter::Lanczos if a < 3.0 => sinc(x) * sinc(x / 3.0),
        _ => 0.0,
    }
}

/// One pass along x in 64-bit sums.
fn pass(img: &RgbImage, to: u32, filter: Filter) -> RgbImage {
    let from = img.width();
    if from == to {
        return img.clone();
    }
    let scale = f64::from(from) / f64::from(to);
    let widening = scale.max(1.0);
    let support = widening * [1.0, 2.0, 3.0][filter as usize];
    RgbImage::from_fn(to, img.height(), |x, y| {
        let center = (f64::from(x) + 0.5) * scale;
        let first = ((center - support + 0.5).trunc()).max(0.0) as u32;
        let end = (((center + support + 0.5).trunc()) as u32).min(from);
        let weights: Vec<f64> =
            (first..end).map(|t| weight(filter, (f64::from(t) - center + 0.5) * (1.0 / widening))).collect();
        let sum: f64 = weights.iter().sum();
        Rgb([0, 1, 2].map(|c| {
            let mut total = 1i64 << 21;
            for (t, w) in (first..end).zip(&weights) {
                let fixed = (w / sum * f64::from(1 << 22)).round() as i64;
                total += i64::from(img.get_pixel(t, y)[c]) * fixed;
            }
            (total >> 22).clamp(0, 255) as u8
        }))
    })
}

fn transpose(img: &RgbImage) -> RgbImage {
    RgbImage::from_fn(img.height(), img.width(), |x, y| *img.get_pixel(y, x))
}

#[test]
fn resize_is_two_plain_passes() {
    let mut scratch = Scratch::new();
    let filters = [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos];
    for i in 0..300 {
        let number = |k: u64, n: u32| (mix(k, i) % u64::from(n)) as u32;
        let img = noise(i, 1 + number(1, 60), 1 + number(2, 60));
        let (left, top) = (number(3, img.width()), number(4, img.height()));
        let width = 1 + number(5, img.width() - left);
        let height = 1 + number(6, img.height() - top);
        let crop = CropBox { top, left, height, width };
        let to_w = if i % 4 == 0 { width } else { 1 + number(7, 80) };
        let to_h = if i % 6 == 0 { height } else { 1 + number(8, 80) };
        let filter = filters[i as usize % 3];
        let cut = image::imageops::crop_imm(&img, left, top, width, height).to_image();
        let want = transpose(&pass(&transpose(&pass(&cut, to_w, filter)), to_h, filter));
        let got = resize_crop(&img, crop, to_w, to_h, filter, &mut scratch).unwrap();
        assert_same(&got, &want, &format!("{crop:?} to {to_w}x{to_h}, {filter:?}"));
    }
}
