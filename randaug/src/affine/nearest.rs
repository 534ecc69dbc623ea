//! Nearest-neighbor interpolation: fixed-point arithmetic in general, f64 steps for scaling and
//! translation.

use super::{Matrix, PaddedImage};

/// Fills `out`, except pixels whose source is outside the input.
pub(super) fn transform(
    view: &PaddedImage<'_>,
    matrix: &Matrix,
    columns: &mut Vec<Option<usize>>,
    out: &mut [[u8; 3]],
) {
    if matrix[1] == 0.0 && matrix[3] == 0.0 {
        scale(view, matrix, columns, out);
    } else {
        fixed(view, matrix, out);
    }
}

/// Scaling and translation: both coordinates step in f64, and their floor is the source pixel.
fn scale(
    view: &PaddedImage<'_>,
    &[a, _, c, _, e, f]: &Matrix,
    columns: &mut Vec<Option<usize>>,
    out: &mut [[u8; 3]],
) {
    columns.clear();
    let mut xo = c + a * 0.5;
    for _ in 0..view.width {
        columns.push(inside(xo, view.width));
        xo += a;
    }
    let mut yo = f + e * 0.5;
    for row in out.chunks_exact_mut(view.width) {
        if let Some(y) = inside(yo, view.height) {
            for (pixel, column) in row.iter_mut().zip(&*columns) {
                if let Some(x) = *column {
                    *pixel = view.pixel(x, y);
                }
            }
        }
        yo += e;
    }
}

/// Returns the pixel at a coordinate, if it is inside the image.
fn inside(coordinate: f64, edge: usize) -> Option<usize> {
    (coordinate >= 0.0 && coordinate < edge as f64).then_some(coordinate as usize)
}

/// Everything else: exact sums with 16 fractional bits.
fn fixed(view: &PaddedImage<'_>, &[a, b, c, d, e, f]: &Matrix, out: &mut [[u8; 3]]) {
    let fix = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (a0, a1, a3, a4) = (fix(a), fix(b), fix(d), fix(e));
    let (mut x_start, mut y_start) = (fix(c + a * 0.5 + b * 0.5), fix(f + d * 0.5 + e * 0.5));
    for row in out.chunks_exact_mut(view.width) {
        let (mut xx, mut yy) = (x_start, y_start);
        for pixel in row {
            let (x, y) = (usize::try_from(xx >> 16), usize::try_from(yy >> 16));
            if let (Ok(x), Ok(y)) = (x, y)
                && x < view.width
                && y < view.height
            {
                *pixel = view.pixel(x, y);
            }
            xx = xx.wrapping_add(a0);
            yy = yy.wrapping_add(a3);
        }
        x_start = x_start.wrapping_add(a1);
        y_start = y_start.wrapping_add(a4);
    }
}
