//! Images of other kinds than 8-bit RGB.

use image::{DynamicImage, GrayImage, RgbImage};

use crate::error::{Error, Result};
use crate::scratch::Scratch;

/// Any 8-bit image as RGB, as Pillow's `convert("RGB")`, which readers of training data call: gray
/// is repeated in all channels, transparency is dropped.
///
/// # Errors
/// Returns an error if the image has other than 8 bits per channel, since their range is unknown:
/// 12 bits of a scanner in 16, or linear light in f32. `DynamicImage::to_rgb8` scales the full
/// range to 0..255.
///
/// ```
/// use image::{DynamicImage, GrayImage, Luma};
/// let gray = DynamicImage::ImageLuma8(GrayImage::from_pixel(2, 2, Luma([7])));
/// assert_eq!(randaug::to_rgb8(&gray)?.get_pixel(0, 0).0, [7, 7, 7]);
/// assert!(randaug::to_rgb8(&DynamicImage::new_rgb16(2, 2)).is_err());
/// # Ok::<(), randaug::Error>(())
/// ```
pub fn to_rgb8(img: &DynamicImage) -> Result<RgbImage> {
    match img {
        DynamicImage::ImageRgb8(rgb) => Ok(rgb.clone()),
        DynamicImage::ImageLuma8(_) | DynamicImage::ImageLumaA8(_) | DynamicImage::ImageRgba8(_) => {
            Ok(img.to_rgb8())
        }
        other => Err(Error::unsupported(other.color())),
    }
}

/// Calls `f` with a gray image in three equal channels and takes the first of them back.
pub(crate) fn with_rgb(
    gray: &mut GrayImage,
    scratch: &mut Scratch,
    f: impl FnOnce(&mut RgbImage, &mut Scratch) -> Result<()>,
) -> Result<()> {
    scratch.with(|GrayScratch { pixels }, scratch| {
        pixels.clear();
        pixels.extend(gray.iter().flat_map(|&v| [v; 3]));
        // The length fits by construction, and `f` refuses an empty image.
        let mut rgb =
            RgbImage::from_raw(gray.width(), gray.height(), std::mem::take(pixels)).unwrap_or_default();
        let done = f(&mut rgb, scratch);
        if done.is_ok() {
            for (v, [first, ..]) in gray.iter_mut().zip(rgb.as_chunks::<3>().0) {
                *v = *first;
            }
        }
        *pixels = rgb.into_raw();
        done
    })
}

/// Pixels of a gray image in three channels.
#[derive(Debug, Default)]
struct GrayScratch {
    pixels: Vec<u8>,
}
