//! Reduced decoding of JPEGs: the possible divisor, and the crop box in the reduced image.

use randaug::CropBox;

use image::RgbImage;

/// A decoded upright image, possibly at a reduced size.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Pixels.
    pub pixels: RgbImage,
    /// Width and height as stored, in pixels.
    pub full: (u32, u32),
}

impl From<RgbImage> for Decoded {
    fn from(pixels: RgbImage) -> Self {
        Self { full: pixels.dimensions(), pixels }
    }
}

/// Returns the divisor of the size (1, 2, 4 or 8) for the width and height of the image as stored
/// and upright.
pub type Divisor<'a> = &'a dyn Fn((u32, u32)) -> u32;

impl Decoded {
    /// Maps a crop box of the full image to the decoded one, rounded to pixels and at least one
    /// pixel wide and high.
    pub(in crate::data) fn scaled(&self, area: CropBox) -> CropBox {
        let (width, height) = self.pixels.dimensions();
        if (width, height) == self.full {
            return area;
        }
        let (left, w) = scaled_span((area.left, area.width), self.full.0, width);
        let (top, h) = scaled_span((area.top, area.height), self.full.1, height);
        CropBox { top, left, height: h, width: w }
    }
}

/// Maps a span (first pixel and length) from an axis of `full` pixels to one of `now` pixels.
fn scaled_span((first, length): (u32, u32), full: u32, now: u32) -> (u32, u32) {
    let at = |edge: u32| (f64::from(edge) * f64::from(now) / f64::from(full.max(1))).round() as u32;
    let start = at(first).min(now.saturating_sub(1));
    (start, at(first + length).clamp(start + 1, now.max(start + 1)) - start)
}

/// Returns the largest divisor at which the crop box still has edges of at least `needed` pixels.
pub(in crate::data) fn divisor_for(area: CropBox, needed: u32) -> u32 {
    let spare = area.width.min(area.height) / needed.max(1);
    [8, 4, 2].into_iter().find(|&n| spare >= n).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_shrink_with_the_image_and_stay_inside() {
        let image = Decoded { pixels: RgbImage::new(50, 38), full: (99, 75) };
        let whole = image.scaled(CropBox { top: 0, left: 0, height: 75, width: 99 });
        assert_eq!(whole, CropBox { top: 0, left: 0, height: 38, width: 50 });
        let corner = image.scaled(CropBox { top: 74, left: 98, height: 1, width: 1 });
        assert_eq!(corner, CropBox { top: 37, left: 49, height: 1, width: 1 });
        let part = image.scaled(CropBox { top: 10, left: 21, height: 40, width: 60 });
        assert_eq!(part, CropBox { top: 5, left: 11, height: 20, width: 30 });
    }

    #[test]
    fn the_divisor_leaves_as_many_pixels_as_are_needed() {
        let area = |edge| CropBox { top: 0, left: 0, height: edge, width: 3 * edge };
        let edges = [(447, 1), (448, 2), (895, 2), (896, 4), (1792, 8), (9000, 8)];
        for (edge, divisor) in edges {
            assert_eq!(divisor_for(area(edge), 224), divisor, "{edge}");
        }
    }
}
