//! JPEGs decoded at a fraction of their size, where the crop box needs no more.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageDecoder, ImageReader, RgbImage};
use jpeg_decoder::{Decoder, PixelFormat};
use randaug::CropBox;

use super::decode::{Decoded, bad, decode, is_jpeg, jpeg_is_whole};
use crate::error::DataError;

/// Given width and height of the image as stored (and upright), the number it may be divided by: 1, 2, 4 or 8.
pub type Divisor<'a> = &'a dyn Fn((u32, u32)) -> u32;

/// As [`decode`], but a JPEG comes at 1/2, 1/4 or 1/8 of its size if `divisor` allows it.
///
/// The inverse transform of each 8 x 8 block then gives 4 x 4, 2 x 2 or 1 x 1 pixels from its lowest frequencies.
///
/// # Errors
/// As [`decode`].
pub fn decode_reduced(bytes: &[u8], name: &str, limit: u64, divisor: Divisor) -> Result<Decoded, DataError> {
    if !is_jpeg(bytes) || !jpeg_is_whole(bytes) {
        return decode(bytes, name, limit).map(Decoded::from);
    }
    let mut decoder = Decoder::new(bytes);
    // Anything that this decoder cannot do is left to the other, which also has the better messages.
    let Some(full) = size(&mut decoder) else { return decode(bytes, name, limit).map(Decoded::from) };
    let orientation = orientation(bytes);
    let divisor = divisor(turned(full, orientation));
    if divisor <= 1 {
        return decode(bytes, name, limit).map(Decoded::from);
    }
    let part = |edge: u32| u16::try_from(edge.div_ceil(divisor)).unwrap_or(u16::MAX);
    let pixels = at_scale(&mut decoder, (part(full.0), part(full.1)), limit).map_err(|e| bad(&name, &e))?;
    let Some(mut image) = pixels else { return decode(bytes, name, limit).map(Decoded::from) };
    image.apply_orientation(orientation);
    Ok(Decoded { pixels: image.into_rgb8(), full: turned(full, orientation) })
}

fn size(decoder: &mut Decoder<&[u8]>) -> Option<(u32, u32)> {
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    Some((u32::from(info.width), u32::from(info.height)))
}

/// Upright, as other programs show it, if the file says nothing that can be read.
fn orientation(bytes: &[u8]) -> Orientation {
    let reader = ImageReader::with_format(std::io::Cursor::new(bytes), image::ImageFormat::Jpeg);
    let read = reader.into_decoder().and_then(|mut decoder| decoder.orientation());
    read.unwrap_or(Orientation::NoTransforms)
}

fn turned((width, height): (u32, u32), orientation: Orientation) -> (u32, u32) {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => (height, width),
        _ => (width, height),
    }
}

/// The image at the smallest scale that has at least this size; none for colours that only the other decoder knows.
fn at_scale(
    decoder: &mut Decoder<&[u8]>,
    (width, height): (u16, u16),
    limit: u64,
) -> Result<Option<DynamicImage>, String> {
    let say = |e: jpeg_decoder::Error| e.to_string();
    decoder.set_max_decoding_buffer_size(usize::try_from(limit).unwrap_or(usize::MAX));
    let (width, height) = decoder.scale(width, height).map_err(say)?;
    let (width, height) = (u32::from(width), u32::from(height));
    let format = decoder.info().map(|info| info.pixel_format);
    if !matches!(format, Some(PixelFormat::RGB24 | PixelFormat::L8)) {
        return Ok(None);
    }
    let pixels = decoder.decode().map_err(say)?;
    Ok(if format == Some(PixelFormat::RGB24) {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    })
}

impl Decoded {
    /// The box of the pixels that a box of the image as stored has become, to the nearest pixel and at least one wide and
    /// high.
    pub(super) fn scaled(&self, area: CropBox) -> CropBox {
        let (width, height) = self.pixels.dimensions();
        if (width, height) == self.full {
            return area;
        }
        let (left, w) = scaled_span((area.left, area.width), self.full.0, width);
        let (top, h) = scaled_span((area.top, area.height), self.full.1, height);
        CropBox { top, left, height: h, width: w }
    }
}

/// First pixel and length of a span, on an axis of `full` pixels that has become one of `now`.
fn scaled_span((first, length): (u32, u32), full: u32, now: u32) -> (u32, u32) {
    let at = |edge: u32| (f64::from(edge) * f64::from(now) / f64::from(full.max(1))).round() as u32;
    let start = at(first).min(now.saturating_sub(1));
    (start, at(first + length).clamp(start + 1, now.max(start + 1)) - start)
}

/// The number that an image may be divided by if this crop box must keep edges of `needed` pixels.
pub(super) fn divisor_for(area: CropBox, needed: u32) -> u32 {
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
