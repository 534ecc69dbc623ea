//! Linear interpolation of two by two pixels in f64.

use super::{Matrix, PaddedImage, Point, map};
use crate::simd::vectorized;

vectorized! {
/// Fills `out`, except pixels whose source is outside the input.
pub(super) fn transform<'a>(view: &'a PaddedImage<'a>, matrix: &'a Matrix, out: &'a mut [[u8; 3]]) {
    map(view, matrix, out, sample);
}
}

/// Interpolates at a point inside the image.
#[inline(always)]
fn sample(view: &PaddedImage<'_>, p: Point) -> [f64; 4] {
    let upper = along(view.taps(p.x, p.y), p.dx);
    let lower = along(view.taps(p.x, p.y + 1), p.dx);
    let mut out = [0.0; 4];
    for c in 0..4 {
        out[c] = upper[c] + (lower[c] - upper[c]) * p.dy;
    }
    out
}

#[inline(always)]
fn along([left, right]: &[[u8; 4]; 2], d: f64) -> [f64; 4] {
    let mut out = [0.0; 4];
    for c in 0..4 {
        let (a, b) = (i32::from(left[c]), i32::from(right[c]));
        out[c] = f64::from(a) + f64::from(b - a) * d;
    }
    out
}
