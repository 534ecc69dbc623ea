//! Resize and crop as one operator, against both in sequence in f64.

use freqcrop::{Backend, Error, FrequencyCrop, Layout, Resampling, RgbWindow, Scratch};

/// Linear interpolation from `from` to `to` samples, and the same as a dense matrix.
fn linear(from: usize, to: usize) -> (Resampling, Vec<Vec<f64>>) {
    let (mut map, mut dense) = (Resampling::new(from), vec![vec![0.0; from]; to]);
    for (i, row) in dense.iter_mut().enumerate() {
        let at = i as f64 * (from - 1) as f64 / to as f64;
        let (start, part) = (at as usize, at.fract());
        map.push(start, &[1.0 - part, part]).unwrap();
        row[start] = 1.0 - part;
        row[start + 1] = part;
    }
    (map, dense)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// The resized window in f64, `[H, W, 3]`.
fn resized(pixels: &[u8], width: usize, (top, left): (usize, usize), maps: [&[Vec<f64>]; 2]) -> Vec<f64> {
    let [rows, columns] = maps;
    let mut out = Vec::new();
    for row in rows {
        for column in columns {
            for c in 0..3 {
                let line = |y: usize| {
                    let pixel = |x: usize| f64::from(pixels[((top + y) * width + left + x) * 3 + c]);
                    column.iter().enumerate().map(|(x, weight)| weight * pixel(x)).sum::<f64>()
                };
                out.push(row.iter().enumerate().map(|(y, weight)| weight * line(y)).sum());
            }
        }
    }
    out
}

#[test]
fn one_operator_equals_resize_then_crop_in_real_numbers() {
    let (width, height) = (61, 47);
    let pixels = noise(width * height * 3);
    let mut scratch = Scratch::new();
    for (base, band, window) in [
        ((32, 32), (14, 14), (20, 27)),
        ((33, 40), (17, 20), (47, 61)),
        ((48, 31), (21, 10), (5, 3)),
        ((40, 24), (20, 12), (41, 50)),
    ] {
        let (rows, dense_rows) = linear(window.0, base.0);
        for flip in [false, true] {
            let (mut columns, mut dense_columns) = linear(window.1, base.1);
            if flip {
                columns.mirror();
                dense_columns.reverse();
            }
            let (top, left) = (height - window.0, (width - window.1) / 2);
            let big = resized(&pixels, width, (top, left), [&dense_rows, &dense_columns]);
            let mut exact = vec![0.0; band.0 * band.1 * 3];
            FrequencyCrop::<f64>::new(base, band)
                .unwrap()
                .apply_slice(Layout::Hwc, 3, &big, &mut exact)
                .unwrap();
            let plan = FrequencyCrop::<f32>::with_backend(base, band, Backend::Separable).unwrap();
            let mut bytes = vec![0; exact.len()];
            let window = RgbWindow { pixels: &pixels, image_width: width, top, left };
            plan.apply_rgb8_resampled(window, (&rows, &columns), &mut bytes, &mut scratch).unwrap();
            for (i, (&byte, &exact)) in bytes.iter().zip(&exact).enumerate() {
                let off = (f64::from(byte) - exact.clamp(0.0, 255.0)).abs();
                assert!(off <= 0.5 + 1e-3, "{base:?} {band:?} value {i}: {byte}, exactly {exact}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let pixels = noise(10 * 10 * 3);
    let plan = FrequencyCrop::<f32>::with_backend((8, 8), (4, 4), Backend::Separable).unwrap();
    let (map, short) = (linear(6, 8).0, linear(6, 7).0);
    let mut out = vec![0; 4 * 4 * 3];
    let mut scratch = Scratch::new();
    let window = RgbWindow { pixels: &pixels, image_width: 10, top: 4, left: 4 };
    plan.apply_rgb8_resampled(window, (&map, &map), &mut out, &mut scratch).unwrap();
    for (top, left) in [(5, 4), (4, 5), (usize::MAX, 0), (0, usize::MAX)] {
        let outside = RgbWindow { top, left, ..window };
        let error = plan.apply_rgb8_resampled(outside, (&map, &map), &mut out, &mut scratch).unwrap_err();
        assert!(matches!(error, Error::WrongLength { what: "window", .. }), "{error}");
    }
    let error = plan.apply_rgb8_resampled(window, (&map, &short), &mut out, &mut scratch).unwrap_err();
    assert!(matches!(error, Error::WrongLength { what: "columns", found: 7, expected: 8, .. }), "{error}");
    let fft = FrequencyCrop::<f32>::with_backend((8, 8), (4, 4), Backend::Fft).unwrap();
    let refused = fft.apply_rgb8_resampled(window, (&map, &map), &mut out, &mut scratch);
    assert_eq!(refused, Err(Error::NotSeparable));
    assert_eq!(
        Resampling::new(6).push(5, &[0.5, 0.5]),
        Err(Error::TapsOutside { start: 5, taps: 2, input: 6 })
    );
}
