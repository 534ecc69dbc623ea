//! From the bytes of an image file to 8-bit RGB.

use std::fmt::Display;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use super::endings::ENDINGS;
use super::regular::read_regular;
use crate::error::DataError;

/// Memory that decoding one image may take, in bytes, where nothing else is asked for.
pub const DEFAULT_IMAGE_LIMIT: u64 = 1 << 30;

/// A decoded image, upright; perhaps smaller than it is stored.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Its pixels.
    pub pixels: RgbImage,
    /// Width and height as it is stored, in pixels.
    pub full: (u32, u32),
}

impl From<RgbImage> for Decoded {
    fn from(pixels: RgbImage) -> Self {
        Self { full: pixels.dimensions(), pixels }
    }
}

/// Reads one image file as 8-bit RGB, turned upright as its EXIF orientation says.
///
/// # Errors
/// When the file cannot be read or decoded; the message names it.
pub fn read_image(path: &Path) -> Result<RgbImage, DataError> {
    read_image_within(path, DEFAULT_IMAGE_LIMIT)
}

/// As [`read_image`], for images that take at most `limit` bytes when decoded.
///
/// # Errors
/// As [`read_image`]; also when the image is larger.
pub fn read_image_within(path: &Path, limit: u64) -> Result<RgbImage, DataError> {
    decode(&read_file(path)?, &path.display().to_string(), limit)
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    read_regular(path).map_err(|e| bad(&path.display(), &e))
}

/// Decodes an image of any known format, by its content, as 8-bit RGB, turned upright. `name` is for messages, `limit` is what
/// it may take when decoded, in bytes.
///
/// # Errors
/// When it cannot be decoded, is cut off, or is larger than the limit.
pub fn decode(bytes: &[u8], name: &str, limit: u64) -> Result<RgbImage, DataError> {
    if bytes.is_empty() {
        return Err(bad(&name, &"the file is empty"));
    }
    let failed = |e: &dyn Display| bad(&name, e);
    let mut reader =
        ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(&e))?;
    let Some(format) = reader.format() else {
        return Err(bad(&name, &format!("not an image of a known format ({})", ENDINGS.join(", "))));
    };
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(limit);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| failed(&e))?;
    let (width, height) = decoder.dimensions();
    // The decoders do not all count the picture itself, so it is counted here, before anything is allocated.
    if decoder.total_bytes() > limit {
        let what = format!(
            "{width}x{height} pixels take more than the {} MiB an image may take; \
             remove it, or raise --max-image-mib",
            limit >> 20
        );
        return Err(bad(&name, &what));
    }
    // The decoder fills what is missing with grey; a file that was cut off is better left out.
    if format == ImageFormat::Jpeg && !jpeg_is_whole(bytes) {
        return Err(bad(&name, &"the JPEG is cut off: it has no end-of-image marker"));
    }
    let orientation = decoder.orientation().map_err(|e| failed(&e))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| failed(&e))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

/// Whether a JPEG's own end-of-image marker is there. Thumbnails in its headers have their own and are stepped over.
pub(super) fn jpeg_is_whole(bytes: &[u8]) -> bool {
    let mut at = 2;
    // What lies between markers is entropy-coded data, or padding between segments.
    while let Some(skipped) = bytes.get(at..).and_then(|rest| memchr::memchr(0xff, rest)) {
        at += skipped;
        match bytes.get(at + 1) {
            None => return false,
            Some(0xd9) => return true,
            // Fill bytes; stuffed zeros, restart markers and others without a length.
            Some(0xff) => at += 1,
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            Some(_) => {
                let Some(length) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([length[0], length[1]]));
            }
        }
    }
    false
}

/// Whether these are the first bytes of a JPEG.
pub(crate) fn is_jpeg(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xff, 0xd8, 0xff])
}

pub(crate) fn bad(name: &dyn Display, reason: &dyn Display) -> DataError {
    DataError::Image { name: name.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_jpeg_is_found_behind_its_segments() {
        let thumbnail = [0xff, 0xe1, 0, 6, 0xff, 0xd9, 1, 2];
        let scan = [0xff, 0xda, 0, 2, 5, 0xff, 0x00, 7, 0xff, 0xd3, 9];
        let head = [&[0xff, 0xd8][..], &thumbnail, &scan].concat();
        assert!(!jpeg_is_whole(&head));
        assert!(jpeg_is_whole(&[&head[..], &[0xff, 0xd9]].concat()));
        assert!(jpeg_is_whole(&[&head[..], &[0xff, 0xff, 0xd9, 0, 0]].concat()));
        assert!(!jpeg_is_whole(&[&head[..], &[0xff]].concat()));
        assert!(!jpeg_is_whole(&[]));
    }
}
