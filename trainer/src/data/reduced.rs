//! JPEGs decoded at a fraction of their size, where the crop box needs no more.

use randaug::CropBox;

use super::decode::Decoded;
#[cfg(feature = "turbojpeg")]
use super::decode::{bad, decode, is_jpeg, jpeg_is_whole};
use crate::error::DataError;

/// Given width and height of the image as stored (and upright), the number it may be divided by: 1, 2, 4 or 8.
pub type Divisor<'a> = &'a dyn Fn((u32, u32)) -> u32;

/// What to say where there is no decoder that can do it.
pub(crate) const NEEDS_FEATURE: &str = "this build has no JPEG decoder that scales; build with `--features turbojpeg` \
     (libjpeg-turbo; wants cmake, nasm and a C compiler), or leave the option out";

/// As [`decode`](super::decode()), but a JPEG comes at 1/2, 1/4 or 1/8 of its size if `divisor` allows it.
///
/// The inverse transform of each 8 x 8 block then gives 4 x 4, 2 x 2 or 1 x 1 pixels from its lowest frequencies.
///
/// # Errors
/// As [`decode`](super::decode()); always in a build without the feature `turbojpeg`.
#[cfg(feature = "turbojpeg")]
pub fn decode_reduced(bytes: &[u8], name: &str, limit: u64, divisor: Divisor) -> Result<Decoded, DataError> {
    let whole = || decode(bytes, name, limit).map(Decoded::from);
    // What this decoder cannot do is left to the other, which also has the better messages.
    if !is_jpeg(bytes) || !jpeg_is_whole(bytes) {
        return whole();
    }
    let Some(jpeg) = turbo::Jpeg::open(bytes) else { return whole() };
    let divisor = divisor(jpeg.full());
    if divisor <= 1 || jpeg.bytes() > limit {
        return whole();
    }
    let pixels = jpeg.decode(divisor).map_err(|e| bad(&name, &e))?;
    Ok(Decoded { pixels, full: jpeg.full() })
}

/// As [`decode`](super::decode()), but a JPEG comes at 1/2, 1/4 or 1/8 of its size if `divisor` allows it: not in this build.
///
/// # Errors
/// Always: the feature `turbojpeg` is not there.
#[cfg(not(feature = "turbojpeg"))]
pub fn decode_reduced(_: &[u8], _: &str, _: u64, _: Divisor) -> Result<Decoded, DataError> {
    Err(DataError::Setting(NEEDS_FEATURE.into()))
}

#[cfg(feature = "turbojpeg")]
mod turbo {
    use image::metadata::Orientation;
    use image::{DynamicImage, ImageDecoder, ImageReader, RgbImage};
    use turbojpeg::{Colorspace, DecompressHeader, Decompressor, Image, PixelFormat, ScalingFactor};

    /// A JPEG whose header has been read.
    pub(super) struct Jpeg<'a> {
        bytes: &'a [u8],
        header: DecompressHeader,
        orientation: Orientation,
    }

    impl<'a> Jpeg<'a> {
        /// None for what this decoder does not do: damaged headers, and the colours of printers.
        pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
            let header = turbojpeg::read_header(bytes).ok()?;
            let known = matches!(header.colorspace, Colorspace::RGB | Colorspace::YCbCr | Colorspace::Gray);
            known.then(|| Self { bytes, header, orientation: orientation(bytes) })
        }

        /// Width and height, upright.
        pub(super) fn full(&self) -> (u32, u32) {
            let (width, height) = (self.header.width as u32, self.header.height as u32);
            match self.orientation {
                Orientation::Rotate90
                | Orientation::Rotate270
                | Orientation::Rotate90FlipH
                | Orientation::Rotate270FlipH => (height, width),
                _ => (width, height),
            }
        }

        /// What the whole image takes when decoded.
        pub(super) fn bytes(&self) -> u64 {
            3 * self.header.width as u64 * self.header.height as u64
        }

        pub(super) fn decode(&self, divisor: u32) -> turbojpeg::Result<RgbImage> {
            let scale = ScalingFactor::new(1, divisor as usize);
            let mut decoder = Decompressor::new()?;
            decoder.set_scaling_factor(scale)?;
            let size = self.header.scaled(scale);
            let (width, height, pitch) = (size.width, size.height, 3 * size.width);
            let mut image = RgbImage::new(width as u32, height as u32);
            let pixels: &mut [u8] = &mut image;
            let target = Image { pixels, width, pitch, height, format: PixelFormat::RGB };
            decoder.decompress(self.bytes, target)?;
            let mut image = DynamicImage::from(image);
            image.apply_orientation(self.orientation);
            Ok(image.into_rgb8())
        }
    }

    /// As it lies, if the file says nothing that can be read.
    fn orientation(bytes: &[u8]) -> Orientation {
        let reader = ImageReader::with_format(std::io::Cursor::new(bytes), image::ImageFormat::Jpeg);
        let read = reader.into_decoder().and_then(|mut decoder| decoder.orientation());
        read.unwrap_or(Orientation::NoTransforms)
    }
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
    use image::RgbImage;

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
