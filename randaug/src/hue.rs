//! Pillow's conversion to HSV and back (`Convert.c`), for the shift of the hue.

use crate::simd::{byte_of_f64, vectorized};

/// Adds `shift` to the hue, which runs through 0..=255 and wraps.
pub(crate) fn shift(pixels: &mut [u8], shift: u8) {
    shift_all(pixels.as_chunks_mut::<3>().0, shift);
}

vectorized! {
fn shift_all<'a>(pixels: &'a mut [[u8; 3]], shift: u8) {
    let (blocks, rest) = pixels.as_chunks_mut::<PIXELS>();
    for block in blocks {
        shift_block(block, shift);
    }
    for rgb in rest {
        *rgb = shift_one(*rgb, shift);
    }
}
}

/// Pixels of a block.
const PIXELS: usize = 16;

#[inline(always)]
fn shift_block(block: &mut [[u8; 3]; PIXELS], shift: u8) {
    // Separated by channels, so that a vector holds one channel of several pixels.
    let mut channels = [[0; PIXELS]; 3];
    for (i, rgb) in block.iter().enumerate() {
        for c in 0..3 {
            channels[c][i] = rgb[c];
        }
    }
    let [red, green, blue] = &mut channels;
    for i in 0..PIXELS {
        [red[i], green[i], blue[i]] = shift_one([red[i], green[i], blue[i]], shift);
    }
    for (i, rgb) in block.iter_mut().enumerate() {
        *rgb = [red[i], green[i], blue[i]];
    }
}

#[inline(always)]
fn shift_one(rgb: [u8; 3], shift: u8) -> [u8; 3] {
    let [h, s, v] = to_hsv(rgb);
    to_rgb([h.wrapping_add(shift), s, v])
}

// The mixture of f32 and f64 below is what the C code does: its constants are doubles, its
// variables floats.

#[inline(always)]
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    // For a gray pixel the result of the division by 1 is not used.
    let range = f32::from((max - min).max(1));
    let saturation = range / f32::from(max.max(1));
    let [rc, gc, bc] = [f32::from(max - r) / range, f32::from(max - g) / range, f32::from(max - b) / range];
    let in_green = (2.0 + f64::from(rc) - f64::from(bc)) as f32;
    let in_blue = (4.0 + f64::from(gc) - f64::from(rc)) as f32;
    let sector = if r == max { bc - gc } else { choose(g == max, in_green, in_blue) };
    // Equals C's fmod, because the sum is in 0.8..1.9.
    let turned = f64::from(sector) / 6.0 + 1.0;
    let hue = (turned - f64::from(u8::from(turned >= 1.0))) as f32;
    let [h, s] = [byte_of_f64(f64::from(hue) * 255.0), byte_of_f64(f64::from(saturation) * 255.0)];
    if max == min { [0, 0, max] } else { [h, s, max] }
}

#[inline(always)]
fn choose(condition: bool, yes: f32, no: f32) -> f32 {
    if condition { yes } else { no }
}

#[inline(always)]
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    let position = f64::from(h) * 6.0 / 255.0;
    let sector = byte_of_f64(position);
    let f = (position - f64::from(sector)) as f32;
    let saturation = (f64::from(s) / 255.0) as f32;
    let value = f64::from(v);
    // All values are 0 or more, so rounding half away from zero is rounding half up.
    let p = byte_of_f64(value * (1.0 - f64::from(saturation)) + 0.5);
    let q = byte_of_f64(value * (1.0 - f64::from(saturation * f)) + 0.5);
    let t = byte_of_f64(value * (1.0 - f64::from(saturation) * (1.0 - f64::from(f))) + 0.5);
    // Sector 6 is the last hue, which is the first color again; saturation 0 gives p = q = t = v.
    [among(sector, [v, q, p, p, t, v]), among(sector, [t, v, v, q, p, p]), among(sector, [p, p, t, v, v, q])]
}

/// Returns the value of a sector, by selections that compilers turn into vector instructions.
#[inline(always)]
fn among(sector: u8, values: [u8; 6]) -> u8 {
    let mut value = values[0];
    for i in 1..6 {
        value = if sector == i { values[usize::from(i)] } else { value };
    }
    value
}
