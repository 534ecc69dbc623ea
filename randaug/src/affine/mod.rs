//! Affine transforms in Pillow's arithmetic (`Geometry.c`): each output pixel reads its source
//! point in the input.

mod bicubic;
mod bilinear;
mod nearest;

use std::fmt::{self, Write};
use std::ops::Range;

use crate::apply::OpConfig;
use crate::scratch::Scratch;
use crate::simd::{byte_of_f64, floor};

/// Output to input: sx = m0 (x+.5) + m1 (y+.5) + m2, sy = m3 (x+.5) + m4 (y+.5) + m5.
pub(crate) type Matrix = [f64; 6];

/// Interpolation of the geometric operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interpolation {
    /// The pixel that contains the point.
    Nearest,
    /// Two by two pixels.
    Bilinear,
    /// Four by four pixels, the a = -1 kernel. Default.
    #[default]
    Bicubic,
}

/// Rotation by degrees about the center of a `width` x `height` image; `None` if it changes
/// nothing.
pub(crate) fn rotation(degrees: f64, width: f64, height: f64) -> Option<Matrix> {
    let degrees = degrees.rem_euclid(360.0);
    if degrees == 0.0 {
        return None;
    }
    let angle = -degrees.to_radians();
    let (sin, cos) = (round15(angle.sin()), round15(angle.cos()));
    let minus_sin = round15(-angle.sin());
    let (cx, cy) = (width / 2.0, height / 2.0);
    let c = (cos * -cx + sin * -cy + 0.0) + cx;
    let f = (minus_sin * -cx + cos * -cy + 0.0) + cy;
    Some([cos, sin, c, minus_sin, cos, f])
}

/// Rounds to 15 decimals exactly as Python's `round`: both print the nearest decimal and read it
/// back.
fn round15(value: f64) -> f64 {
    let mut text = Decimal { bytes: [0; 24], len: 0 };
    // A sine with 15 decimals has 18 characters.
    if write!(text, "{value:.15}").is_err() {
        return value;
    }
    std::str::from_utf8(&text.bytes[..text.len]).ok().and_then(|text| text.parse().ok()).unwrap_or(value)
}

/// A short text that needs no allocation.
struct Decimal {
    bytes: [u8; 24],
    len: usize,
}

impl fmt::Write for Decimal {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

/// Transforms `img` (`width` x `height`, interleaved RGB) in place.
pub(crate) fn transform(
    img: &mut [u8],
    width: usize,
    height: usize,
    matrix: &Matrix,
    config: &OpConfig,
    scratch: &mut Scratch,
) {
    if width == 0 || height == 0 {
        return;
    }
    scratch.with(|AffineScratch { padded, columns }, _| {
        let out = img.as_chunks_mut::<3>().0;
        pad(out, width, padded);
        out.fill(config.fill);
        let view = PaddedImage { pixels: padded, width, height };
        match config.interpolation {
            Interpolation::Nearest => nearest::transform(&view, matrix, columns, out),
            Interpolation::Bilinear => bilinear::transform(&view, matrix, out),
            Interpolation::Bicubic => bicubic::transform(&view, matrix, out),
        }
    });
}

/// Buffers of the affine transforms.
#[derive(Debug, Default)]
struct AffineScratch {
    /// A copy of the image with a border and four channels.
    padded: Vec<[u8; 4]>,
    /// Source column of each output column, for nearest-neighbor shifts.
    columns: Vec<Option<usize>>,
}

/// Columns added on either side: as far as a cubic around a point in the image reaches.
const BORDER: usize = 2;

/// Copies the image with its outermost columns repeated, and a fourth channel of 0: then no tap
/// leaves a row, and a pixel fills a whole vector register.
fn pad(pixels: &[[u8; 3]], width: usize, padded: &mut Vec<[u8; 4]>) {
    let widen = |[r, g, b]: [u8; 3]| [r, g, b, 0];
    padded.clear();
    padded.reserve((pixels.len() / width) * (width + 2 * BORDER));
    for row in pixels.chunks_exact(width) {
        padded.extend([widen(row[0]); BORDER]);
        padded.extend(row.iter().map(|&pixel| widen(pixel)));
        padded.extend([widen(row[width - 1]); BORDER]);
    }
}

/// The padded input.
struct PaddedImage<'a> {
    pixels: &'a [[u8; 4]],
    width: usize,
    height: usize,
}

impl<'a> PaddedImage<'a> {
    /// `N` pixels of row `y` from column `x`, -2 or more; a row outside the image is its nearest.
    ///
    /// If a row is outside, Pillow uses the value of the previous row. Above and below the image
    /// that is the value of the nearest row, so that both are the same.
    #[inline(always)]
    fn taps<const N: usize>(&self, x: isize, y: isize) -> &'a [[u8; 4]; N] {
        let y = y.clamp(0, self.height as isize - 1) as usize;
        let start = y * (self.width + 2 * BORDER) + (x + BORDER as isize) as usize;
        self.pixels[start..].first_chunk().expect("a point in the image has its taps in the padded one")
    }

    /// One pixel of the image.
    #[inline(always)]
    fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let [[r, g, b, _]] = *self.taps(x as isize, y as isize);
        [r, g, b]
    }
}

/// Calls `sample` for every output pixel whose source point is inside the input.
#[inline(always)]
fn map(
    view: &PaddedImage<'_>,
    matrix: &Matrix,
    out: &mut [[u8; 3]],
    sample: impl Fn(&PaddedImage<'_>, Point) -> [f64; 4] + Copy,
) {
    let (w, h) = (view.width as f64, view.height as f64);
    let [a, b, c, d, e, f] = *matrix;
    for (y, row) in out.chunks_exact_mut(view.width).enumerate() {
        let yin = y as f64 + 0.5;
        let (by, ey) = (b * yin, e * yin);
        for (x, pixel) in row.iter_mut().enumerate() {
            let xin = f64::from(x as u32) + 0.5;
            let (sx, sy) = (a * xin + by + c, d * xin + ey + f);
            if sx >= 0.0 && sx < w && sy >= 0.0 && sy < h {
                let [r, g, b, _] = sample(view, Point::new(sx, sy)).map(byte_of_f64);
                *pixel = [r, g, b];
            }
        }
    }
}

/// Returns the columns of row `y` whose source point is inside the input. The points are on a line,
/// so it is one range.
#[inline(always)]
fn inside_range(view: &PaddedImage<'_>, &[a, b, c, d, e, f]: &Matrix, y: usize) -> Range<usize> {
    let (w, h) = (view.width as f64, view.height as f64);
    let yin = y as f64 + 0.5;
    let (by, ey) = (b * yin, e * yin);
    let inside = |x: usize| {
        let xin = f64::from(x as u32) + 0.5;
        let (sx, sy) = (a * xin + by + c, d * xin + ey + f);
        sx >= 0.0 && sx < w && sy >= 0.0 && sy < h
    };
    let start = (0..view.width).find(|&x| inside(x)).unwrap_or(view.width);
    let end = (start..view.width).rev().find(|&x| inside(x)).map_or(start, |last| last + 1);
    start..end
}

/// A point in the input: the pixel above and to the left of it (-1 at the border) and the distance
/// from that pixel's center.
#[derive(Clone, Copy)]
struct Point {
    x: isize,
    y: isize,
    dx: f64,
    dy: f64,
}

impl Point {
    #[inline(always)]
    fn new(sx: f64, sy: f64) -> Self {
        let (sx, sy) = (sx - 0.5, sy - 0.5);
        let (x, y) = (floor(sx), floor(sy));
        Self { x: x as isize, y: y as isize, dx: sx - f64::from(x), dy: sy - f64::from(y) }
    }
}
