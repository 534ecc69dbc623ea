//! Linear interpolation of two by two pixels in f64; the result is truncated.

use super::{Point, View};

/// Interpolates at a point inside the picture.
#[inline(always)]
pub(super) fn sample(view: &View<'_>, p: Point) -> [u8; 3] {
    let height = view.height as isize;
    let upper = horizontal(view.row(p.y.clamp(0, height - 1) as usize), p);
    let below = p.y + 1;
    let lower = if below >= 0 && below < height { horizontal(view.row(below as usize), p) } else { upper };
    let mut out = [0; 3];
    for c in 0..3 {
        out[c] = (upper[c] + (lower[c] - upper[c]) * p.dy) as u8;
    }
    out
}

/// Along one row; columns outside the picture repeat its edge.
#[inline(always)]
fn horizontal(row: &[[u8; 3]], p: Point) -> [f64; 3] {
    let last = row.len() as isize - 1;
    let left = row[p.x.clamp(0, last) as usize];
    let right = row[(p.x + 1).clamp(0, last) as usize];
    let mut out = [0.0; 3];
    for c in 0..3 {
        let (a, b) = (i32::from(left[c]), i32::from(right[c]));
        out[c] = f64::from(a) + f64::from(b - a) * p.dx;
    }
    out
}
