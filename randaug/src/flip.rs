//! Mirroring in place.

use image::RgbImage;

/// Mirrors an image left to right, in place.
pub fn flip_horizontal(img: &mut RgbImage) {
    let stride = img.width() as usize * 3;
    if stride == 0 {
        return;
    }
    for row in img.chunks_exact_mut(stride) {
        row.as_chunks_mut::<3>().0.reverse();
    }
}

/// Mirrors an image top to bottom, in place.
pub fn flip_vertical(img: &mut RgbImage) {
    let stride = img.width() as usize * 3;
    if stride == 0 {
        return;
    }
    let mut rows = img.chunks_exact_mut(stride);
    while let (Some(upper), Some(lower)) = (rows.next(), rows.next_back()) {
        upper.swap_with_slice(lower);
    }
}
