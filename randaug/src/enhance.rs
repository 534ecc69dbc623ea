//! Pillow's `ImageEnhance`: out = D + factor * (I - D) in f32, clipped and truncated.
//!
//! D is a degenerate image: black, the mean gray, the gray image or the smoothed image. Factor 0
//! gives D, 1 gives the image back.

use crate::scratch::Scratch;
use crate::simd::{byte_of_f32, vectorized};

/// One value, clipped to 0..255 and truncated.
#[inline(always)]
pub(crate) fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let d = i32::from(degenerate);
    byte_of_f32(d as f32 + factor * (i32::from(value) - d) as f32)
}

/// Returns the ITU-R 601-2 luma of a pixel, like Pillow's conversion to mode `L`: `(19595 R + 38470 G
/// + 7471 B + 32768) / 65536`, rounded down.
#[inline(always)]
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Blends with black.
pub(crate) fn brightness(pixels: &mut [u8], factor: f64) {
    blend_all(pixels, 0, factor as f32);
}

vectorized! {
/// Blends every byte with the same one.
fn blend_all<'a>(pixels: &'a mut [u8], degenerate: u8, factor: f32) {
    for value in pixels {
        *value = blend(degenerate, *value, factor);
    }
}
}

/// Blends with the mean luminance.
pub(crate) fn contrast(pixels: &mut [u8], factor: f64) {
    let rgb = pixels.as_chunks::<3>().0;
    if rgb.is_empty() {
        return;
    }
    let mean = (luminance_sum(rgb) as f64 / rgb.len() as f64 + 0.5) as u8;
    blend_all(pixels, mean, factor as f32);
}

vectorized! {
/// Sum of the luminance of all pixels.
fn luminance_sum<'a>(rgb: &'a [[u8; 3]]) -> u64 {
    let mut sum = 0;
    // Few enough for a sum of 32 bits.
    for block in rgb.chunks(1 << 16) {
        let mut part = 0u32;
        for &pixel in block {
            part += u32::from(luma(pixel));
        }
        sum += u64::from(part);
    }
    sum
}
}

/// Blends with the luminance of each pixel.
pub(crate) fn color(pixels: &mut [u8], factor: f64) {
    blend_gray(pixels.as_chunks_mut::<3>().0, factor as f32);
}

vectorized! {
fn blend_gray<'a>(pixels: &'a mut [[u8; 3]], factor: f32) {
    for rgb in pixels {
        let gray = luma(*rgb);
        let [r, g, b] = *rgb;
        *rgb = [blend(gray, r, factor), blend(gray, g, factor), blend(gray, b, factor)];
    }
}
}

/// Blends with the image smoothed by (1,1,1,1,5,1,1,1,1)/13; the border pixels do not change.
pub(crate) fn sharpness(pixels: &mut [u8], width: usize, height: usize, factor: f64, scratch: &mut Scratch) {
    // Pillow's filter copies an image that is smaller than the kernel.
    if width < 3 || height < 3 {
        return;
    }
    let factor = factor as f32;
    let stride = width * 3;
    scratch.with(|SharpenScratch { source, sums }, _| {
        source.clear();
        source.extend_from_slice(pixels);
        sums.resize(stride, 0);
        sharpen(pixels, source, sums, stride, factor);
    });
}

/// Buffers of the smoothing filter.
#[derive(Debug, Default)]
struct SharpenScratch {
    /// A copy of the image: the filter reads neighbors while it writes.
    source: Vec<u8>,
    /// Column sums.
    sums: Vec<u16>,
}

vectorized! {
fn sharpen<'a>(pixels: &'a mut [u8], source: &'a [u8], sums: &'a mut [u16], stride: usize, factor: f32) {
    let height = source.len() / stride;
    for y in 1..height - 1 {
        let rows = &source[(y - 1) * stride..(y + 2) * stride];
        let (above, rest) = rows.split_at(stride);
        let (middle, below) = rest.split_at(stride);
        for (((sum, &a), &m), &b) in sums.iter_mut().zip(above).zip(middle).zip(below) {
            *sum = u16::from(a) + u16::from(m) + u16::from(b);
        }
        let out = &mut pixels[y * stride + 3..(y + 1) * stride - 3];
        sharpen_row(out, &middle[3..stride - 3], sums, factor);
    }
}
}

/// One row without its border pixels; `sums` holds the column sums of the whole row.
#[inline(always)]
fn sharpen_row(out: &mut [u8], middle: &[u8], sums: &[u16], factor: f32) {
    let n = out.len();
    let (left, center, right) = (&sums[..n], &sums[3..n + 3], &sums[6..n + 6]);
    for i in 0..n {
        let sum = left[i] + center[i] + right[i] + 4 * u16::from(middle[i]);
        // Rounded division by 13; the divisor is odd, so there are no ties.
        let smooth = ((2 * sum + 13) / 26) as u8;
        out[i] = blend(smooth, middle[i], factor);
    }
}
