//! The a = -1 cubic of Pillow's `Geometry.c`, in f64.
//!
//! Pixels are worked on in blocks, with a plain array for each step, which compilers turn into
//! vector instructions.

use super::{Matrix, PaddedImage, inside_range};
use crate::simd::{byte_of_f64, floor, vectorized};

/// Output pixels in a block.
const PIXELS: usize = 16;
/// Values in a block: four channels, the last of them unused.
const LANES: usize = 4 * PIXELS;

/// Four values of every lane, in the order of the cubic.
type BoxKernel = [[u8; LANES]; 4];

/// Buffers of one block.
struct Block {
    taps: BoxKernel,
    /// Pixel above and to the left of each point, and the distance from its center.
    x: [i32; PIXELS],
    y: [i32; PIXELS],
    dx: [f64; LANES],
    dy: [f64; LANES],
    /// Values of four rows.
    rows: [[f64; LANES]; 4],
}

/// Axes along which points fall between pixels.
#[derive(Clone, Copy, PartialEq)]
enum Axes {
    X,
    Y,
    Both,
}

impl Axes {
    /// At distance 0 the cubic is its second value exactly, so that shears and shifts need one
    /// direction only.
    fn of(&[a, b, c, d, e, f]: &Matrix) -> Self {
        if (d, e, f) == (0.0, 1.0, 0.0) {
            Axes::X
        } else if (a, b, c) == (1.0, 0.0, 0.0) {
            Axes::Y
        } else {
            Axes::Both
        }
    }
}

vectorized! {
/// Fills `out`, except pixels whose source is outside the input.
pub(super) fn transform<'a>(view: &'a PaddedImage<'a>, matrix: &'a Matrix, out: &'a mut [[u8; 3]]) {
    let axes = Axes::of(matrix);
    let mut block = Block {
        taps: [[0; LANES]; 4],
        x: [0; PIXELS],
        y: [0; PIXELS],
        dx: [0.0; LANES],
        dy: [0.0; LANES],
        rows: [[0.0; LANES]; 4],
    };
    for (y, row) in out.chunks_exact_mut(view.width).enumerate() {
        let inside = inside_range(view, matrix, y);
        let mut x = inside.start;
        for pixels in row[inside].chunks_mut(PIXELS) {
            block.locate(matrix, x, y, pixels.len());
            match axes {
                Axes::X => block.along_x(view),
                Axes::Y => block.along_y(view),
                Axes::Both => block.along_both(view),
            }
            block.write(pixels);
            x += PIXELS;
        }
    }
}
}

impl Block {
    /// Computes the source points of the pixels from column `x` of row `y` on. Those after the
    /// first `count` repeat the last one, so that none is outside the image.
    #[inline(always)]
    fn locate(&mut self, &[a, b, c, d, e, f]: &Matrix, x: usize, y: usize, count: usize) {
        let yin = y as f64 + 0.5;
        let (by, ey) = (b * yin, e * yin);
        let (mut dx, mut dy) = ([0.0; PIXELS], [0.0; PIXELS]);
        for p in 0..PIXELS {
            let xin = f64::from((x + p.min(count - 1)) as u32) + 0.5;
            let (sx, sy) = (a * xin + by + c - 0.5, d * xin + ey + f - 0.5);
            (self.x[p], self.y[p]) = (floor(sx), floor(sy));
            (dx[p], dy[p]) = (sx - f64::from(self.x[p]), sy - f64::from(self.y[p]));
        }
        for p in 0..PIXELS {
            self.dx[4 * p..4 * p + 4].fill(dx[p]);
            self.dy[4 * p..4 * p + 4].fill(dy[p]);
        }
    }

    /// Four pixels of the row at distance `down` from each place.
    #[inline(always)]
    fn gather_row(&mut self, view: &PaddedImage<'_>, down: isize) {
        for p in 0..PIXELS {
            let taps: &[[u8; 4]; 4] = view.taps(self.x[p] as isize - 1, self.y[p] as isize + down);
            for (lanes, pixel) in self.taps.iter_mut().zip(taps) {
                lanes[4 * p..4 * p + 4].copy_from_slice(pixel);
            }
        }
    }

    #[inline(always)]
    fn along_x(&mut self, view: &PaddedImage<'_>) {
        self.gather_row(view, 0);
        let Self { taps, dx, rows: [out, ..], .. } = self;
        cubic_of_bytes(taps, dx, out);
    }

    #[inline(always)]
    fn along_y(&mut self, view: &PaddedImage<'_>) {
        for p in 0..PIXELS {
            for (down, lanes) in (-1..).zip(&mut self.taps) {
                let [pixel] = view.taps(self.x[p] as isize, self.y[p] as isize + down);
                lanes[4 * p..4 * p + 4].copy_from_slice(pixel);
            }
        }
        let Self { taps, dy, rows: [out, ..], .. } = self;
        cubic_of_bytes(taps, dy, out);
    }

    #[inline(always)]
    fn along_both(&mut self, view: &PaddedImage<'_>) {
        for r in 0..4 {
            self.gather_row(view, r as isize - 1);
            cubic_of_bytes(&self.taps, &self.dx, &mut self.rows[r]);
        }
        let [first, second, third, fourth] = &mut self.rows;
        for i in 0..LANES {
            first[i] = cubic([first[i], second[i], third[i], fourth[i]], self.dy[i]);
        }
    }

    /// The values of the first row of buffers, truncated.
    #[inline(always)]
    fn write(&self, pixels: &mut [[u8; 3]]) {
        let mut bytes = [0; LANES];
        for (byte, &value) in bytes.iter_mut().zip(&self.rows[0]) {
            *byte = byte_of_f64(value);
        }
        for (pixel, &[r, g, b, _]) in pixels.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *pixel = [r, g, b];
        }
    }
}

/// The cubic through four bytes: the coefficients are whole numbers, exact in any order.
#[inline(always)]
fn cubic_of_bytes(taps: &BoxKernel, d: &[f64; LANES], out: &mut [f64; LANES]) {
    let [t0, t1, t2, t3] = taps;
    for i in 0..LANES {
        let [v0, v1, v2, v3] = [t0[i], t1[i], t2[i], t3[i]].map(i32::from);
        let (rise, fall) = (v0 - v1, v2 - v3);
        let [p0, p1, p2, p3] = [v1, v2 - v0, 2 * rise + fall, -rise - fall].map(f64::from);
        out[i] = p0 + d[i] * (p1 + d[i] * (p2 + d[i] * p3));
    }
}

/// The cubic through four values; the order of the sums is Pillow's.
#[inline(always)]
fn cubic([v0, v1, v2, v3]: [f64; 4], d: f64) -> f64 {
    let p1 = -v0 + v2;
    let p2 = 2.0 * (v0 - v1) + v2 - v3;
    let p3 = -v0 + v1 - v2 + v3;
    v1 + d * (p1 + d * (p2 + d * p3))
}
