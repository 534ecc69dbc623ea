//! Pillow's `GaussianBlur`: three box blurs along each axis, in fixed point (`BoxBlur.c`).

use crate::error::{Result, check};
use crate::scratch::Scratch;
use crate::simd::vectorized;

/// Box blurs that approximate one Gaussian.
const PASSES: usize = 3;
/// Fractional bits of the weights.
const BITS: u32 = 24;

/// A box of whole and fractional radius, with Pillow's weights.
#[derive(Clone, Copy)]
struct BoxKernel {
    /// Whole pixels on either side of the center.
    reach: usize,
    /// Weight of a pixel in the box.
    inner: u32,
    /// Weight of the two pixels next to the box.
    outer: u32,
}

impl BoxKernel {
    fn new(radius: f32) -> Self {
        let reach = radius as u32;
        let one = 1u32 << BITS;
        // As in C, the division is one of f32.
        let inner = (one as f32 / (radius * 2.0 + 1.0)) as u32;
        let outer = one.saturating_sub((reach * 2 + 1).saturating_mul(inner)) / 2;
        Self { reach: reach as usize, inner, outer }
    }

    #[inline(always)]
    fn weigh(self, inside: u32, beside: u32) -> u8 {
        let sum = inside.wrapping_mul(self.inner).wrapping_add(beside.wrapping_mul(self.outer));
        (sum.wrapping_add(1 << (BITS - 1)) >> BITS) as u8
    }
}

/// Radius of the box whose `PASSES`-fold repetition has this standard deviation (Gwosdek et al.
/// 2011, equations 7, 11 and 14).
fn box_radius(sigma: f32) -> f32 {
    let variance = sigma * sigma / PASSES as f32;
    // The mix of f32 and f64 is that of the C expressions.
    let length = (12.0 * f64::from(variance) + 1.0).sqrt() as f32;
    let whole = ((f64::from(length) - 1.0) / 2.0).floor() as f32;
    let above = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance);
    let below = 6.0 * (variance - (whole + 1.0) * (whole + 1.0));
    whole + above / below
}

/// Largest radius: beyond it the sums of Pillow would no longer fit.
const MAX_RADIUS: f64 = 1000.0;

/// Blurs in place; radius 0 changes nothing.
///
/// # Errors
/// Returns an error if the radius is not in 0..=1000.
pub(crate) fn gaussian(
    pixels: &mut [u8],
    width: usize,
    height: usize,
    radius: f64,
    scratch: &mut Scratch,
) -> Result<()> {
    check((0.0..=MAX_RADIUS).contains(&radius), "radius", radius, "in 0..=1000")?;
    let radius = box_radius(radius as f32);
    if pixels.is_empty() || radius == 0.0 {
        return Ok(());
    }
    let kernel = BoxKernel::new(radius);
    scratch.with(|BlurScratch { copy, sums }, _| blur(pixels, width * 3, height, kernel, copy, sums));
    Ok(())
}

/// Buffers of the blur.
#[derive(Debug, Default)]
struct BlurScratch {
    /// A padded row, or the whole image.
    copy: Vec<u8>,
    /// Column sums.
    sums: Vec<u32>,
}

vectorized! {
/// All box blurs along both axes.
fn blur<'a>(
    pixels: &'a mut [u8],
    stride: usize,
    height: usize,
    kernel: BoxKernel,
    copy: &'a mut Vec<u8>,
    sums: &'a mut Vec<u32>,
) {
    for row in pixels.chunks_exact_mut(stride) {
        for _ in 0..PASSES {
            along_row(row, kernel, copy);
        }
    }
    for _ in 0..PASSES {
        down_columns(pixels, stride, height, kernel, copy, sums);
    }
}
}

/// Blurs a row by one box; pixels outside repeat those at its ends.
#[inline(always)]
fn along_row(row: &mut [u8], kernel: BoxKernel, padded: &mut Vec<u8>) {
    let border = kernel.reach + 1;
    let [.., end] = *row.as_chunks::<3>().0 else { return };
    let [start, ..] = *row.as_chunks::<3>().0 else { return };
    padded.clear();
    padded.extend((0..border).flat_map(|_| start));
    padded.extend_from_slice(row);
    padded.extend((0..border).flat_map(|_| end));
    let n = row.len();
    if kernel.reach == 0 {
        let (left, center, right) = (&padded[..n], &padded[3..n + 3], &padded[6..n + 6]);
        for i in 0..n {
            row[i] = kernel.weigh(u32::from(center[i]), u32::from(left[i]) + u32::from(right[i]));
        }
    } else if kernel.reach == 1 {
        let taps: [&[u8]; 5] = [0, 1, 2, 3, 4].map(|k| &padded[3 * k..][..n]);
        for i in 0..n {
            let at = |k: usize| u32::from(taps[k][i]);
            row[i] = kernel.weigh(at(1) + at(2) + at(3), at(0) + at(4));
        }
    } else {
        slide(row, kernel, padded);
    }
}

/// The general case of [`along_row`]: a running sum for each channel.
#[inline(always)]
fn slide(row: &mut [u8], kernel: BoxKernel, padded: &[u8]) {
    let taps = padded.as_chunks::<3>().0;
    let wide = 2 * kernel.reach + 1;
    for c in 0..3 {
        let mut sum: u32 = taps[..wide].iter().map(|pixel| u32::from(pixel[c])).sum();
        for (x, pixel) in row.as_chunks_mut::<3>().0.iter_mut().enumerate() {
            let (left, right) = (u32::from(taps[x][c]), u32::from(taps[x + wide + 1][c]));
            sum = sum + u32::from(taps[x + wide][c]) - left;
            pixel[c] = kernel.weigh(sum, left + right);
        }
    }
}

/// Blurs all columns by one box; `sums` holds the running sums of a whole row.
#[inline(always)]
fn down_columns(
    pixels: &mut [u8],
    stride: usize,
    height: usize,
    kernel: BoxKernel,
    source: &mut Vec<u8>,
    sums: &mut Vec<u32>,
) {
    source.clear();
    source.extend_from_slice(pixels);
    let source: &[u8] = source;
    let last = height as isize - 1;
    let reach = kernel.reach as isize;
    sums.clear();
    sums.resize(stride, 0);
    for y in -reach - 1..reach {
        for (sum, &value) in sums.iter_mut().zip(row(source, stride, y, last)) {
            *sum += u32::from(value);
        }
    }
    for (y, out) in (0..).zip(pixels.chunks_exact_mut(stride)) {
        let at = |y| row(source, stride, y, last);
        let (leaving, entering, below) = (at(y - reach - 1), at(y + reach), at(y + reach + 1));
        let taps = leaving.iter().zip(entering).zip(below);
        for ((value, sum), ((&left, &new), &right)) in out.iter_mut().zip(sums.iter_mut()).zip(taps) {
            *sum = *sum + u32::from(new) - u32::from(left);
            *value = kernel.weigh(*sum, u32::from(left) + u32::from(right));
        }
    }
}

/// Row `y`, or the nearest one of 0..=`last`.
#[inline(always)]
fn row(pixels: &[u8], stride: usize, y: isize, last: isize) -> &[u8] {
    &pixels[y.clamp(0, last) as usize * stride..][..stride]
}
