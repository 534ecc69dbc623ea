//! Histograms of oriented gradients: cases worked out by hand, and a plain version by the
//! definition.

use crate::common::{hash_uniform, max_difference, numbers};
use candle_core::{DType, Device, Tensor};
use efficienttrain_models::hog::Hog;

/// Images `[n, h, w, c]` from a function of place and channel.
fn images(shape: [usize; 4], f: impl Fn(usize, usize, usize, usize) -> f64) -> Tensor {
    let [n, h, w, c] = shape;
    let mut values = Vec::new();
    for i in 0..n * h * w * c {
        values.push(f(i / (h * w * c), i / (w * c) % h, i / c % w, i % c));
    }
    Tensor::from_vec(values, &shape, &Device::Cpu).unwrap()
}

const PLAIN: Hog = Hog { bins: 9, cell: 8, window: 0 };

#[test]
fn ramps_fill_one_bin() {
    // Brighter to the right: gx = -8 everywhere but at the reflected border, gy = 0. Angle from the
    // vertical -90 degrees: bin floor(-4.5) = -5, which is 4 of 9. Darker to the right is 90
    // degrees: floor(4.5) = 4 too.
    let right = |sign: f64| images([1, 8, 8, 1], move |_, _, x, _| sign * x as f64);
    for sign in [1.0, -1.0, 1000.0] {
        let mut expected = [0.0; 9];
        expected[4] = 1.0;
        assert!(max_difference(&numbers(&PLAIN.cells(&right(sign)).unwrap()), &expected) < 1e-15);
    }
    // Brighter or darker downwards: 180 or 0 degrees, bin 9 = 0 of 9, and 0.
    for sign in [1.0, -1.0] {
        let down = images([1, 8, 8, 1], |_, y, _, _| sign * y as f64);
        let mut expected = [0.0; 9];
        expected[0] = 1.0;
        assert!(max_difference(&numbers(&PLAIN.cells(&down).unwrap()), &expected) < 1e-15);
    }
}

#[test]
fn two_orientations_weigh_by_length() {
    // Left half: a ramp to the right of slope 3; right half: a ramp downwards of slope 4, far
    // enough apart. Cells of 8: in the first, 8 rows of the 7 columns that are no border have |g| =
    // 24 in bin 4; in the last, 8 columns of the 6 rows that are no border have |g| = 32 in bin 0,
    // but for the last column whose neighbors are reflected: it has the same.
    let image = images([1, 8, 24, 1], |_, y, x, _| if x < 12 { 3.0 * x as f64 } else { 4.0 * y as f64 });
    let whole = numbers(&PLAIN.cells(&image).unwrap());
    let mut first = [0.0; 9];
    first[4] = 1.0;
    let mut last = [0.0; 9];
    last[0] = 1.0;
    assert!(max_difference(&whole[..9], &first) < 1e-15);
    assert!(max_difference(&whole[18..], &last) < 1e-15);
    // One cell of both: a corner of two ramps. x + y rises at 45 degrees everywhere inside: gx = gy
    // = -8, angle atan2(-8, -8) = -135 degrees, bin floor(-6.75) = -7, 2 of 9. Of 8x8 pixels 36 are
    // inside, with length 8 sqrt(2); on the left and right borders gx = 0: 6 each of length 8 in
    // bin 9 = 0; on the upper and lower gy = 0: 6 each in bin 4; the corners have neither.
    let corner = images([1, 8, 8, 1], |_, y, x, _| (x + y) as f64);
    let (inside, edge) = (36.0 * 8.0 * 2f64.sqrt(), 12.0 * 8.0);
    let length = (inside * inside + 2.0 * edge * edge).sqrt();
    let mut expected = [0.0; 9];
    (expected[0], expected[2], expected[4]) = (edge / length, inside / length, edge / length);
    assert!(max_difference(&numbers(&PLAIN.cells(&corner).unwrap()), &expected) < 1e-14);
}

#[test]
fn flat_images_have_none_and_brightness_and_contrast_do_not_matter() {
    let flat = images([2, 16, 16, 3], |_, _, _, c| c as f64);
    assert!(numbers(&Hog::default().cells(&flat).unwrap()).iter().all(|&v| v == 0.0));
    let random = |scale: f64, shift: f64| {
        images([1, 32, 16, 3], move |_, y, x, c| {
            shift + scale * hash_uniform(5, ((y * 16 + x) * 3 + c) as u64)
        })
    };
    let hog = |t: &Tensor| numbers(&Hog::default().cells(t).unwrap());
    assert!(max_difference(&hog(&random(1.0, 0.0)), &hog(&random(40.0, 7.0))) < 1e-9);
}

/// Histogram by the definition: a padded image, two filters, a histogram, a length.
fn plain(image: &Tensor, hog: &Hog) -> Vec<f64> {
    const FILTER: [[f64; 3]; 3] = [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]];
    let &[n, h, w, c] = image.dims() else { unreachable!() };
    let x = numbers(image);
    let reflect = |i: i64, len: usize| {
        let last = len as i64 - 1;
        (if i < 0 {
            -i
        } else if i > last {
            2 * last - i
        } else {
            i
        }) as usize
    };
    let gauss = |i: usize| {
        let d = (i as f64 - (hog.window as f64 - 1.0) / 2.0) / (hog.window / 2) as f64;
        (-d * d / 2.0).exp()
    };
    let mut out = Vec::new();
    for (image, row) in (0..n * (h / hog.cell)).map(|i| (i / (h / hog.cell), i % (h / hog.cell))) {
        for (col, channel) in (0..w / hog.cell * c).map(|i| (i / c, i % c)) {
            let mut histogram = vec![0.0; hog.bins];
            for y in row * hog.cell..(row + 1) * hog.cell {
                for x0 in col * hog.cell..(col + 1) * hog.cell {
                    let (mut gx, mut gy) = (0.0, 0.0);
                    for (i, j) in (0..9).map(|k| (k / 3, k % 3)) {
                        let (py, px) = (reflect((y + i) as i64 - 1, h), reflect((x0 + j) as i64 - 1, w));
                        let value = x[((image * h + py) * w + px) * c + channel];
                        gx += FILTER[i][j] * value;
                        gy += FILTER[j][i] * value;
                    }
                    // Unsigned orientation: opposite gradients are one, in 0..pi.
                    let angle = gx.atan2(gy).rem_euclid(std::f64::consts::PI);
                    let bin = (angle / std::f64::consts::PI * hog.bins as f64) as usize % hog.bins;
                    let weight =
                        if hog.window == 0 { 1.0 } else { gauss(y % hog.window) * gauss(x0 % hog.window) };
                    histogram[bin] += weight * (gx * gx + gy * gy).sqrt();
                }
            }
            let length = histogram.iter().map(|v| v * v).sum::<f64>().sqrt();
            out.extend(histogram.iter().map(|v| v / length));
        }
    }
    out
}

#[test]
fn agrees_with_the_definition() {
    // Odd numbers of bins: with even ones the gradients of the border, along the edge to a last
    // bit, lie between two bins.
    let settings =
        [Hog::default(), PLAIN, Hog { bins: 7, cell: 4, window: 8 }, Hog { bins: 15, cell: 16, window: 0 }];
    for (shape, hog) in
        [[1, 16, 16, 1], [2, 32, 48, 3], [1, 80, 16, 2]].iter().flat_map(|s| settings.map(|h| (*s, h)))
    {
        let image = images(shape, |n, y, x, c| {
            hash_uniform(77 + n as u64, ((y * 64 + x) * 4 + c) as u64) + (x as f64 * 0.3).sin()
        });
        let got = hog.cells(&image).unwrap();
        assert_eq!(got.dims(), [shape[0], shape[1] / hog.cell, shape[2] / hog.cell, shape[3] * hog.bins]);
        assert!(max_difference(&numbers(&got), &plain(&image, &hog)) < 1e-12, "{shape:?} {hog:?}");
        // Single precision loses what single precision is.
        let single = hog.cells(&image.to_dtype(DType::F32).unwrap()).unwrap();
        assert_eq!(single.dtype(), DType::F32);
    }
}

#[test]
fn patches_hold_channels_bins_and_cells_in_this_order() {
    let image = images([2, 32, 48, 3], |n, y, x, c| hash_uniform(n as u64, ((y * 48 + x) * 3 + c) as u64));
    let hog = Hog::default();
    let (cells, patches) = (hog.cells(&image).unwrap(), hog.patches(&image, 16).unwrap());
    assert_eq!((patches.dims(), hog.width(16, 3)), ([2, 6, 108].as_slice(), 108));
    let (cells, patches) = (numbers(&cells), numbers(&patches));
    for (n, patch, feature) in (0..2 * 6 * 108).map(|i| (i / 648, i / 108 % 6, i % 108)) {
        let (channel_and_bin, cell) = (feature / 4, feature % 4);
        let (row, col) = (patch / 3 * 2 + cell / 2, patch % 3 * 2 + cell % 2);
        let expected = cells[((n * 4 + row) * 6 + col) * 27 + channel_and_bin];
        assert_eq!(patches[(n * 6 + patch) * 108 + feature], expected);
    }
}

#[test]
fn misfits_are_refused() {
    let image = images([1, 24, 32, 3], |_, _, _, _| 0.0);
    let fails = |hog: Hog| {
        let error = hog.cells(&image).unwrap_err().to_string();
        assert!(error.starts_with("hog: expected "), "{error}");
    };
    fails(Hog::default());
    fails(Hog { bins: 0, ..PLAIN });
    fails(Hog { cell: 0, ..PLAIN });
    fails(Hog { cell: 16, ..PLAIN });
    assert!(PLAIN.cells(&image.squeeze(0).unwrap()).is_err());
    assert!(PLAIN.patches(&image, 16).is_err(), "24 rows are no patches of 16");
    assert!(PLAIN.patches(&image, 12).is_err(), "cells of 8 do not tile 12");
    assert!(PLAIN.patches(&image, 4).is_err());
}
