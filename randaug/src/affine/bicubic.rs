//! The a = -1 cubic of Pillow's `Geometry.c`, in f64; the result is clipped and truncated.

use super::{Point, View};

/// Interpolates at a point inside the picture.
#[inline(always)]
pub(super) fn sample(view: &View<'_>, p: Point) -> [u8; 3] {
    let values = if p.dy == 0.0 {
        // At distance 0 the vertical cubic is its second row exactly, and that row is inside.
        horizontal(view.row(p.y as usize), p)
    } else {
        vertical(view, p)
    };
    // A cast from float to u8 truncates and saturates.
    values.map(|v| v as u8)
}

/// Four rows above one another, then the cubic through them.
#[inline(always)]
fn vertical(view: &View<'_>, p: Point) -> [f64; 3] {
    let height = view.height as isize;
    let first = (p.y - 1).clamp(0, height - 1) as usize;
    let mut rows = [horizontal(view.row(first), p); 4];
    for i in 1..4 {
        let y = p.y - 1 + i as isize;
        // A row outside the picture repeats the value of the row before.
        rows[i] = if y >= 0 && y < height { horizontal(view.row(y as usize), p) } else { rows[i - 1] };
    }
    let mut out = [0.0; 3];
    for c in 0..3 {
        let (v0, v1, v2, v3) = (rows[0][c], rows[1][c], rows[2][c], rows[3][c]);
        let p1 = -v0 + v2;
        let p2 = 2.0 * (v0 - v1) + v2 - v3;
        let p3 = -v0 + v1 - v2 + v3;
        out[c] = v1 + p.dy * (p1 + p.dy * (p2 + p.dy * p3));
    }
    out
}

/// The cubic along one row; columns outside the picture repeat its edge.
#[inline(always)]
fn horizontal(row: &[[u8; 3]], p: Point) -> [f64; 3] {
    if p.dx == 0.0 {
        return row[p.x as usize].map(f64::from);
    }
    let start = p.x - 1;
    let taps: [[u8; 3]; 4] = match usize::try_from(start).ok().and_then(|s| row.get(s..s + 4)) {
        Some(inside) => [inside[0], inside[1], inside[2], inside[3]],
        None => {
            let last = row.len() as isize - 1;
            [0, 1, 2, 3].map(|i| row[(start + i).clamp(0, last) as usize])
        }
    };
    let mut out = [0.0; 3];
    for c in 0..3 {
        // Differences of bytes are exact as integers.
        let [v0, v1, v2, v3] = [0, 1, 2, 3].map(|i: usize| i32::from(taps[i][c]));
        let p1 = f64::from(v2 - v0);
        let p2 = f64::from(2 * (v0 - v1) + v2 - v3);
        let p3 = f64::from(v1 - v0 - v2 + v3);
        out[c] = f64::from(v1) + p.dx * (p1 + p.dx * (p2 + p.dx * p3));
    }
    out
}
