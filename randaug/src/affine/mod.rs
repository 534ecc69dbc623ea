//! Affine transforms in Pillow's arithmetic (`Geometry.c`): an output pixel looks up its place in the input.

mod bicubic;
mod bilinear;
mod nearest;

/// Output to input: sx = m0 (x+.5) + m1 (y+.5) + m2, sy = m3 (x+.5) + m4 (y+.5) + m5.
pub(crate) type Matrix = [f64; 6];

/// How a geometric operation reads between pixels.
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

/// Rotation by degrees about the centre of a `width` x `height` picture; `None` if it changes nothing.
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

/// Rounds to 15 decimals exactly as Python's `round`: both print the nearest decimal and read it back.
fn round15(value: f64) -> f64 {
    format!("{value:.15}").parse().unwrap_or(value)
}

/// Transforms `source` (`width` x `height`, interleaved RGB) into `out` of the same size.
pub(crate) fn transform(
    source: &[u8],
    width: usize,
    height: usize,
    matrix: &Matrix,
    interpolation: Interpolation,
    fill: [u8; 3],
    out: &mut [u8],
) {
    for pixel in out.as_chunks_mut::<3>().0 {
        *pixel = fill;
    }
    if width == 0 || height == 0 {
        return;
    }
    let view = View { pixels: source.as_chunks::<3>().0, width, height };
    let out = out.as_chunks_mut::<3>().0;
    match interpolation {
        Interpolation::Nearest => nearest::transform(&view, matrix, out),
        Interpolation::Bilinear => map(&view, matrix, out, bilinear::sample),
        Interpolation::Bicubic => map(&view, matrix, out, bicubic::sample),
    }
}

/// The input picture.
struct View<'a> {
    pixels: &'a [[u8; 3]],
    width: usize,
    height: usize,
}

impl<'a> View<'a> {
    fn row(&self, y: usize) -> &'a [[u8; 3]] {
        &self.pixels[y * self.width..][..self.width]
    }
}

/// Calls `sample` for every output pixel whose place lies inside the input.
#[inline(always)]
fn map(
    view: &View<'_>,
    matrix: &Matrix,
    out: &mut [[u8; 3]],
    sample: impl Fn(&View<'_>, Point) -> [u8; 3] + Copy,
) {
    let (w, h) = (view.width as f64, view.height as f64);
    let [a, b, c, d, e, f] = *matrix;
    for (y, row) in out.chunks_exact_mut(view.width).enumerate() {
        let yin = y as f64 + 0.5;
        let (by, ey) = (b * yin, e * yin);
        for (x, pixel) in row.iter_mut().enumerate() {
            let xin = x as f64 + 0.5;
            let (sx, sy) = (a * xin + by + c, d * xin + ey + f);
            if sx >= 0.0 && sx < w && sy >= 0.0 && sy < h {
                *pixel = sample(view, Point::new(sx, sy));
            }
        }
    }
}

/// A place in the input: the pixel up and left of it (-1 at the border) and the distance from that pixel's centre.
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
        Self { x, y, dx: sx - x as f64, dy: sy - y as f64 }
    }
}

/// Floor of a value of -0.5 or more, without a call.
#[inline(always)]
fn floor(value: f64) -> isize {
    if value < 0.0 { -1 } else { value as isize }
}
