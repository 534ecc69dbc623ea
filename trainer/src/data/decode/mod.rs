//! Decodes image files to 8-bit pixels. All commands read images through this module.

pub(crate) mod depth;
pub(crate) mod gif;
pub(crate) mod guard;
pub(crate) mod jpeg;
pub(crate) mod jpeg_stream;
pub(crate) mod orientation;
pub(crate) mod reduced;
pub(crate) mod tiff;
pub(crate) mod unsupported;

use std::fmt::Display;
use std::io::Cursor;
use std::path::Path;

use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, RgbImage};

use crate::config::DEFAULT_IMAGE_MIB;
use crate::data::decode::depth::upper_bytes;
use crate::data::decode::jpeg::Jpeg;
use crate::data::decode::jpeg_stream::{JpegStream, is_jpeg};
use crate::data::decode::orientation::Metadata;
use crate::data::decode::reduced::{Decoded, Divisor};
use crate::data::decode::unsupported::refuse_unsupported;

use crate::error::DataError;
use crate::util::endings::ENDINGS;
use crate::util::regular::read_regular;

/// Default limit of the memory for decoding one image, in bytes.
pub const DEFAULT_IMAGE_LIMIT: u64 = (DEFAULT_IMAGE_MIB as u64) << 20;

/// Reads an image file as 8-bit RGB, rotated according to its EXIF orientation.
///
/// # Errors
/// Returns an error that names the file if it cannot be read or decoded.
pub fn read_image(path: &Path) -> Result<RgbImage, DataError> {
    read_image_within(path, DEFAULT_IMAGE_LIMIT)
}

/// Like [`read_image`], for images that take at most `limit` bytes to decode.
///
/// # Errors
/// Same as [`read_image`]; also if the image exceeds the limit.
pub fn read_image_within(path: &Path, limit: u64) -> Result<RgbImage, DataError> {
    decode(&read_file(path)?, &path.display().to_string(), limit)
}

pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, DataError> {
    read_regular(path).map_err(|e| bad(&path.display(), &e))
}

/// Decodes an image of any supported format, detected from its content, as 8-bit RGB, rotated
/// according to its EXIF orientation. `name` appears in messages; `limit` is the largest memory for
/// decoding, in bytes.
///
/// # Errors
/// Returns an error if the image cannot be decoded, is cut off, or exceeds the limit.
pub fn decode(bytes: &[u8], name: &str, limit: u64) -> Result<RgbImage, DataError> {
    decode_reduced(bytes, name, limit, &|_| 1).map(|decoded| decoded.pixels)
}

/// Like [`decode`], but decodes a JPEG at 1/2, 1/4 or 1/8 of its size if `divisor` allows it.
///
/// The inverse transform of each 8 x 8 block then yields 4 x 4, 2 x 2 or 1 x 1 pixels from its
/// lowest frequencies.
///
/// # Errors
/// Same as [`decode`].
pub fn decode_reduced(bytes: &[u8], name: &str, limit: u64, divisor: Divisor) -> Result<Decoded, DataError> {
    let (image, full) = decode_stored(bytes, name, limit, divisor)?;
    Ok(Decoded { pixels: image.into_rgb8(), full })
}

/// Decodes an image with its stored channels, rotated upright, and returns it with its full size.
///
/// # Errors
/// Same as [`decode`].
pub(crate) fn decode_stored(
    bytes: &[u8],
    name: &str,
    limit: u64,
    divisor: Divisor,
) -> Result<(DynamicImage, (u32, u32)), DataError> {
    if bytes.is_empty() {
        return Err(bad(&name, &"the file is empty"));
    }
    let decoded = guard::catch(|| match is_jpeg(bytes) {
        true => decode_jpeg(bytes, limit, divisor),
        false => decode_other(bytes, limit),
    });
    let (image, full) = decoded.map_err(|what| bad(&name, &what))?;
    match image.width() == 0 || image.height() == 0 {
        true => Err(bad(&name, &format!("the image is empty: {}x{} pixels", image.width(), image.height()))),
        false => Ok((image, full)),
    }
}

type Upright = (DynamicImage, (u32, u32));

fn decode_jpeg(bytes: &[u8], limit: u64, divisor: Divisor) -> Result<Upright, String> {
    let stream = JpegStream::parse(bytes);
    let orientation = Metadata::of_jpeg(&stream).orientation();
    let jpeg = Jpeg::new(bytes, &stream)?;
    let stored = (jpeg.frame.width, jpeg.frame.height);
    let full = if swaps_edges(orientation) { (stored.1, stored.0) } else { stored };
    let divisor = divisor(full);
    let is_gray = jpeg.frame.sampling.len() == 1;
    let (width, height) = (stored.0.div_ceil(divisor), stored.1.div_ceil(divisor));
    check_memory(stored, jpeg.memory(divisor) + copies((width, height), !is_gray, orientation), limit)?;
    let mut image = jpeg.decode(divisor, limit)?;
    image.apply_orientation(orientation);
    Ok((image, full))
}

fn decode_other(bytes: &[u8], limit: u64) -> Result<Upright, String> {
    let failed = |e: image::ImageError| match e {
        image::ImageError::Unsupported(e) => format!("{e}; convert it to PNG or JPEG"),
        other => other.to_string(),
    };
    refuse_unsupported(bytes)?;
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
    let format =
        reader.format().ok_or_else(|| format!("not an image of a known format ({})", ENDINGS.join(", ")))?;
    if format == ImageFormat::WebP && webp_is_cut_off(bytes) {
        return Err("the WebP is cut off: it has fewer bytes than its header says".into());
    }
    let associated = format == ImageFormat::Tiff && tiff::has_associated_alpha(bytes)?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(limit);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(failed)?;
    // If metadata cannot be read, the image is not rotated.
    let (exif, xmp) = (decoder.exif_metadata().ok().flatten(), decoder.xmp_metadata().ok().flatten());
    let orientation = match Metadata::of(format, bytes, exif, xmp).orientation() {
        Orientation::NoTransforms => decoder.orientation().unwrap_or(Orientation::NoTransforms),
        found => found,
    };
    let size = decoder.dimensions();
    let color = decoder.color_type();
    let is_rgb = color == image::ColorType::Rgb8;
    let is_deep = color.bytes_per_pixel() == 2 * color.channel_count();
    let copies = copies(size, is_rgb, orientation).max(if is_deep { decoder.total_bytes() / 2 } else { 0 });
    // Not all decoders count the image itself, so it is counted here before anything is allocated.
    check_memory(size, decoder.total_bytes().saturating_add(copies), limit)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(failed)?;
    match format {
        ImageFormat::Png | ImageFormat::Tiff => image = upper_bytes(image),
        ImageFormat::Gif => gif::fill_around_frame(&mut image, bytes),
        _ => {}
    }
    if associated {
        image = tiff::without_association(image)?;
    }
    image.apply_orientation(orientation);
    let full = (image.width(), image.height());
    Ok((image, full))
}

/// Returns true if a RIFF file has fewer bytes than its header says. A final padding byte may be
/// missing.
fn webp_is_cut_off(bytes: &[u8]) -> bool {
    let size = bytes.get(4..8).map(|size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]));
    size.is_none_or(|size| bytes.len() as u64 + 1 < u64::from(size) + 8)
}

/// Returns the memory of the copy that is made when an image is converted to RGB or rotated, in
/// bytes; only one copy exists at a time.
fn copies((width, height): (u32, u32), is_rgb: bool, orientation: Orientation) -> u64 {
    let copied = !is_rgb || swaps_edges(orientation);
    if copied { 3 * u64::from(width) * u64::from(height) } else { 0 }
}

fn swaps_edges(orientation: Orientation) -> bool {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

fn check_memory((width, height): (u32, u32), held: u64, limit: u64) -> Result<(), String> {
    if held <= limit {
        return Ok(());
    }
    Err(format!(
        "{width}x{height} pixels take {} MiB while they are decoded, more than the {} MiB an image may take; \
         remove it, or raise option `max-image-mib` where a command has it",
        held.div_ceil(1 << 20),
        limit >> 20
    ))
}

pub(crate) fn bad(name: &dyn Display, reason: &dyn Display) -> DataError {
    DataError::Image { name: name.to_string(), reason: reason.to_string() }
}
