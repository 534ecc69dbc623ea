//! Operations that map each value through a table of 256 (Pillow's `ImageOps` and `Image.point`).
//!
//! All work in place on interleaved RGB bytes.

use crate::simd::{byte_of_f64, vectorized};

/// Maps each channel through its own table.
fn apply_channels(pixels: &mut [u8], tables: &[[u8; 256]; 3]) {
    for [r, g, b] in pixels.as_chunks_mut::<3>().0 {
        *r = tables[0][usize::from(*r)];
        *g = tables[1][usize::from(*g)];
        *b = tables[2][usize::from(*b)];
    }
}

/// A table from a function of the value.
fn table(mut f: impl FnMut(u8) -> u8) -> [u8; 256] {
    let mut table = [0; 256];
    for (value, entry) in (0..=255).zip(&mut table) {
        *entry = f(value);
    }
    table
}

fn histograms(pixels: &[u8]) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for [r, g, b] in pixels.as_chunks::<3>().0 {
        counts[0][usize::from(*r)] += 1;
        counts[1][usize::from(*g)] += 1;
        counts[2][usize::from(*b)] += 1;
    }
    counts
}

/// Stretches each channel so that its darkest value is 0 and its lightest 255.
pub(crate) fn auto_contrast(pixels: &mut [u8]) {
    let (low, high) = extremes(pixels);
    let lines = [0, 1, 2].map(|c| stretch(low[c], high[c]));
    apply_lines(pixels, &lines);
}

/// Bytes of sixteen pixels: a whole number of pixels and of vectors.
const BLOCK: usize = 48;

vectorized! {
/// The lowest and the highest value of each channel.
fn extremes<'a>(pixels: &'a [u8]) -> ([u8; 3], [u8; 3]) {
    let (mut lows, mut highs) = ([255; BLOCK], [0; BLOCK]);
    let (blocks, rest) = pixels.as_chunks::<BLOCK>();
    for block in blocks {
        for i in 0..BLOCK {
            lows[i] = lows[i].min(block[i]);
            highs[i] = highs[i].max(block[i]);
        }
    }
    for (i, &value) in rest.iter().enumerate() {
        lows[i] = lows[i].min(value);
        highs[i] = highs[i].max(value);
    }
    let (mut low, mut high) = ([255; 3], [0; 3]);
    for i in 0..BLOCK {
        low[i % 3] = lows[i].min(low[i % 3]);
        high[i % 3] = highs[i].max(high[i % 3]);
    }
    (low, high)
}
}

/// Factor and offset that stretch `low..=high` to 0..=255; a single value stays.
fn stretch(low: u8, high: u8) -> (f64, f64) {
    if high <= low {
        return (1.0, 0.0);
    }
    let scale = 255.0 / f64::from(high - low);
    (scale, -f64::from(low) * scale)
}

vectorized! {
/// Maps each channel by its factor and offset.
fn apply_lines<'a>(pixels: &'a mut [u8], lines: &'a [(f64, f64); 3]) {
    let (mut scales, mut offsets) = ([0.0; BLOCK], [0.0; BLOCK]);
    for i in 0..BLOCK {
        (scales[i], offsets[i]) = lines[i % 3];
    }
    let (blocks, rest) = pixels.as_chunks_mut::<BLOCK>();
    for block in blocks {
        for i in 0..BLOCK {
            block[i] = byte_of_f64(f64::from(block[i]) * scales[i] + offsets[i]);
        }
    }
    for (i, value) in rest.iter_mut().enumerate() {
        *value = byte_of_f64(f64::from(*value) * scales[i] + offsets[i]);
    }
}
}

/// Spreads each channel's values evenly over 0..255.
pub(crate) fn equalize(pixels: &mut [u8]) {
    let tables = histograms(pixels).map(|counts| flatten(&counts));
    apply_channels(pixels, &tables);
}

fn flatten(counts: &[u32; 256]) -> [u8; 256] {
    let total: u32 = counts.iter().sum();
    let last = counts.iter().rev().find(|&&n| n > 0).copied().unwrap_or(0);
    // With one level only, total == last and the step is 0.
    let step = (total - last) / 255;
    if step == 0 {
        return table(|v| v);
    }
    let mut n = step / 2;
    table(|v| {
        let level = (n / step).min(255) as u8;
        n += counts[usize::from(v)];
        level
    })
}

vectorized! {
/// 255 - v.
pub(crate) fn invert<'a>(pixels: &'a mut [u8]) {
    for value in pixels {
        *value = !*value;
    }
}
}

/// Keeps the top `bits` bits; 8 or more change nothing, 0 or fewer give black.
pub(crate) fn posterize(pixels: &mut [u8], bits: i32) {
    let dropped = (8 - bits.clamp(0, 8)) as u32;
    mask(pixels, 0xffu8.checked_shl(dropped).unwrap_or(0));
}

vectorized! {
fn mask<'a>(pixels: &'a mut [u8], mask: u8) {
    for value in pixels {
        *value &= mask;
    }
}
}

/// Inverts values at or above the threshold.
pub(crate) fn solarize(pixels: &mut [u8], threshold: i32) {
    // A threshold above all values leaves nothing to invert.
    if let Ok(threshold) = u8::try_from(threshold.max(0)) {
        invert_from(pixels, threshold);
    }
}

vectorized! {
fn invert_from<'a>(pixels: &'a mut [u8], threshold: u8) {
    for value in pixels {
        *value = if *value < threshold { *value } else { !*value };
    }
}
}

/// Adds `amount` to values below 128, within 0..=255.
pub(crate) fn solarize_add(pixels: &mut [u8], amount: i32) {
    add_below(pixels, amount.clamp(0, 255) as u8, amount.clamp(-255, 0).unsigned_abs() as u8);
}

vectorized! {
fn add_below<'a>(pixels: &'a mut [u8], up: u8, down: u8) {
    for value in pixels {
        let moved = value.saturating_add(up).saturating_sub(down);
        *value = if *value < 128 { moved } else { *value };
    }
}
}
