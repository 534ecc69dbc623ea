//! The a = -1 cubic of Pillow's `Geometry.c`, in f64.

use super::{Point, View};

/// Interpolates at a point inside the picture.
#[inline(always)]
pub(super) fn sample(view: &View<'_>, p: Point) -> [f64; 4] {
    // At distance 0 the cubic is its second value exactly, so that shears and shifts need one direction only.
    if p.dy == 0.0 {
        return along(view.taps(p.x - 1, p.y), p.dx);
    }
    if p.dx == 0.0 {
        let pixel = |i| wide(view.taps::<1>(p.x, p.y + i)[0]);
        return cubic(pixel(-1), pixel(0), pixel(1), pixel(2), p.dy);
    }
    let row = |i| along(view.taps(p.x - 1, p.y + i), p.dx);
    cubic(row(-1), row(0), row(1), row(2), p.dy)
}

#[inline(always)]
fn along(taps: &[[u8; 4]; 4], d: f64) -> [f64; 4] {
    cubic(wide(taps[0]), wide(taps[1]), wide(taps[2]), wide(taps[3]), d)
}

#[inline(always)]
fn wide(pixel: [u8; 4]) -> [f64; 4] {
    pixel.map(f64::from)
}

/// The cubic through four values of each channel; the order of the sums is Pillow's.
#[inline(always)]
fn cubic(v0: [f64; 4], v1: [f64; 4], v2: [f64; 4], v3: [f64; 4], d: f64) -> [f64; 4] {
    let mut out = [0.0; 4];
    for c in 0..4 {
        let p1 = -v0[c] + v2[c];
        let p2 = 2.0 * (v0[c] - v1[c]) + v2[c] - v3[c];
        let p3 = -v0[c] + v1[c] - v2[c] + v3[c];
        out[c] = v1[c] + d * (p1 + d * (p2 + d * p3));
    }
    out
}
