//! TIFF tags that the decoder ignores.

use std::io::Cursor;

use image::DynamicImage;
use tiff::decoder::Decoder;
use tiff::tags::Tag;

/// ExtraSamples value for colors premultiplied with alpha.
const ASSOCIATED_ALPHA: u16 = 1;

/// Returns true if the colors of a TIFF are premultiplied with its alpha.
///
/// # Errors
/// Returns an error if the bit order of each byte is reversed, which is not supported.
pub(crate) fn has_associated_alpha(bytes: &[u8]) -> Result<bool, String> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    // Tags that cannot be read are reported by the pixel decoder.
    if decoder.find_tag_unsigned(Tag::FillOrder).ok().flatten() == Some(2u16) {
        return Err(
            "the TIFF stores the bits of its bytes in reverse order (FillOrder 2); convert it with another program"
                .into(),
        );
    }
    let extra: Option<Vec<u16>> = decoder.find_tag_unsigned_vec(Tag::ExtraSamples).ok().flatten();
    Ok(extra.is_some_and(|extra| extra.contains(&ASSOCIATED_ALPHA)))
}

/// Divides colors by their alpha, with Pillow's rounding (`Convert.c`, inverse of `rgba2rgbA`).
pub(crate) fn without_association(image: DynamicImage) -> Result<DynamicImage, String> {
    let DynamicImage::ImageRgba8(mut pixels) = image else {
        return Err("the TIFF has premultiplied alpha with more than 8 bits per sample; convert it with another program".into());
    };
    for pixel in pixels.pixels_mut() {
        let alpha = u32::from(pixel.0[3]);
        // Pixels with no or full alpha keep their colors.
        if alpha != 0 && alpha != 255 {
            pixel.0[..3].iter_mut().for_each(|c| *c = (255 * u32::from(*c) / alpha).min(255) as u8);
        }
    }
    Ok(pixels.into())
}
