//! Pillow's conversion to HSV and back (`Convert.c`), for the shift of the hue.

/// Adds `shift` to the hue, which runs through 0..=255 and wraps.
pub(crate) fn shift(pixels: &mut [u8], shift: u8) {
    for rgb in pixels.as_chunks_mut::<3>().0 {
        let [h, s, v] = to_hsv(*rgb);
        *rgb = to_rgb([h.wrapping_add(shift), s, v]);
    }
}

// The mixture of f32 and f64 below is what the C code does: its constants are doubles, its variables floats.

#[inline(always)]
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (max, min) = (r.max(g).max(b), r.min(g).min(b));
    if max == min {
        return [0, 0, max];
    }
    let range = f32::from(max - min);
    let saturation = range / f32::from(max);
    let [rc, gc, bc] = [r, g, b].map(|v| f32::from(max - v) / range);
    let sector = if r == max {
        bc - gc
    } else if g == max {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    // The sum is positive, so that its fraction is what C's fmod gives.
    let hue = (f64::from(sector) / 6.0 + 1.0).fract() as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max]
}

#[inline(always)]
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let place = f64::from(h) * 6.0 / 255.0;
    let sector = place as u8;
    let f = (place - f64::from(sector)) as f32;
    let saturation = (f64::from(s) / 255.0) as f32;
    let value = f64::from(v);
    // All of it is 0 or more, where half away from zero is half up.
    let round = |x: f64| (x + 0.5) as u8;
    let p = round(value * (1.0 - f64::from(saturation)));
    let q = round(value * (1.0 - f64::from(saturation * f)));
    let t = round(value * (1.0 - f64::from(saturation) * (1.0 - f64::from(f))));
    match sector {
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        5 => [v, p, q],
        // 0, and 6 for the last hue, which is the first colour again.
        _ => [v, t, p],
    }
}
