//! What TIFF files say of their pixels that the decoder does not heed.

use std::io::Cursor;

use image::DynamicImage;
use tiff::decoder::Decoder;
use tiff::tags::Tag;

/// ExtraSamples: the colors are multiplied by the alpha beside them.
const ASSOCIATED_ALPHA: u16 = 1;

/// Returns whether the colors of a TIFF are multiplied by its alpha.
///
/// # Errors
/// When the bits of each byte are in reverse, which is not read.
pub(crate) fn has_associated_alpha(bytes: &[u8]) -> Result<bool, String> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    // What cannot be read of these tags is told by the decoder of the pixels.
    if decoder.find_tag_unsigned(Tag::FillOrder).ok().flatten() == Some(2u16) {
        return Err(
            "the TIFF has the bits of its bytes in reverse (FillOrder 2); convert it with another program"
                .into(),
        );
    }
    let extra: Option<Vec<u16>> = decoder.find_tag_unsigned_vec(Tag::ExtraSamples).ok().flatten();
    Ok(extra.is_some_and(|extra| extra.contains(&ASSOCIATED_ALPHA)))
}

/// Divides colors by their alpha, with Pillow's rounding (`Convert.c`, `rgba2rgbA`'s inverse).
pub(crate) fn without_association(image: DynamicImage) -> Result<DynamicImage, String> {
    let DynamicImage::ImageRgba8(mut pixels) = image else {
        return Err("the TIFF has colors that are multiplied by their alpha, in other than 8 bits; convert it with another program".into());
    };
    for pixel in pixels.pixels_mut() {
        let alpha = u32::from(pixel.0[3]);
        // Without alpha, or with all of it, colors are what they are.
        if alpha != 0 && alpha != 255 {
            pixel.0[..3].iter_mut().for_each(|c| *c = (255 * u32::from(*c) / alpha).min(255) as u8);
        }
    }
    Ok(pixels.into())
}
