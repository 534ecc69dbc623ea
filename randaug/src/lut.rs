//! Operations that map each value through a table of 256 (Pillow's `ImageOps` and `Image.point`).
//!
//! All work in place on interleaved RGB bytes.

/// Maps every byte through one table.
pub(crate) fn apply(pixels: &mut [u8], table: &[u8; 256]) {
    for value in pixels {
        *value = table[usize::from(*value)];
    }
}

/// Maps each channel through its own table.
fn apply_channels(pixels: &mut [u8], tables: &[[u8; 256]; 3]) {
    for [r, g, b] in pixels.as_chunks_mut::<3>().0 {
        *r = tables[0][usize::from(*r)];
        *g = tables[1][usize::from(*g)];
        *b = tables[2][usize::from(*b)];
    }
}

/// A table from a function of the value.
pub(crate) fn table(mut f: impl FnMut(u8) -> u8) -> [u8; 256] {
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
    let tables = histograms(pixels).map(|counts| stretch(&counts));
    apply_channels(pixels, &tables);
}

fn stretch(counts: &[u32; 256]) -> [u8; 256] {
    let low = counts.iter().position(|&n| n > 0).unwrap_or(0);
    let high = counts.iter().rposition(|&n| n > 0).unwrap_or(0);
    if high <= low {
        return table(|v| v);
    }
    let scale = 255.0 / (high - low) as f64;
    let offset = -(low as f64) * scale;
    // A cast from float to u8 truncates and saturates, which is the clipping that is wanted.
    table(|v| (f64::from(v) * scale + offset) as u8)
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

/// 255 - v.
pub(crate) fn invert(pixels: &mut [u8]) {
    for value in pixels {
        *value = !*value;
    }
}

/// Keeps the top `bits` bits; 8 or more change nothing, 0 or fewer give black.
pub(crate) fn posterize(pixels: &mut [u8], bits: i32) {
    let dropped = (8 - bits.clamp(0, 8)) as u32;
    let mask = 0xffu8.checked_shl(dropped).unwrap_or(0);
    for value in pixels {
        *value &= mask;
    }
}

/// Inverts values at or above the threshold.
pub(crate) fn solarize(pixels: &mut [u8], threshold: i32) {
    apply(pixels, &table(|v| if i32::from(v) < threshold { v } else { !v }));
}

/// Adds `amount` to values below 128, up to 255.
pub(crate) fn solarize_add(pixels: &mut [u8], amount: i32) {
    let add = |v: u8| i32::from(v).saturating_add(amount).clamp(0, 255) as u8;
    apply(pixels, &table(|v| if v < 128 { add(v) } else { v }));
}
