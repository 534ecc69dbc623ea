//! Reduction of 16-bit channels to 8 bits.

use image::{DynamicImage, ImageBuffer, Pixel};

/// Keeps the upper byte of 16-bit channels, like Pillow for PNG and TIFF; `image` would round to
/// the nearest level.
pub(crate) fn upper_bytes(image: DynamicImage) -> DynamicImage {
    match image {
        DynamicImage::ImageLuma16(deep) => image_of::<_, image::Luma<u8>>(deep).into(),
        DynamicImage::ImageLumaA16(deep) => image_of::<_, image::LumaA<u8>>(deep).into(),
        DynamicImage::ImageRgb16(deep) => image_of::<_, image::Rgb<u8>>(deep).into(),
        DynamicImage::ImageRgba16(deep) => image_of::<_, image::Rgba<u8>>(deep).into(),
        shallow => shallow,
    }
}

fn image_of<P, Q>(deep: ImageBuffer<P, Vec<u16>>) -> ImageBuffer<Q, Vec<u8>>
where
    P: Pixel<Subpixel = u16>,
    Q: Pixel<Subpixel = u8>,
{
    let (width, height) = deep.dimensions();
    let bytes = deep.into_raw().into_iter().map(|value| (value >> 8) as u8).collect();
    // Both pixels have the same number of channels.
    ImageBuffer::from_raw(width, height, bytes).unwrap_or_else(|| ImageBuffer::new(width, height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_byte_is_dropped() {
        let deep = ImageBuffer::from_raw(1, 2, vec![0x00ffu16, 0x0100, 0x7fff, 0xffff]);
        let deep: ImageBuffer<image::LumaA<u16>, _> = deep.unwrap();
        assert_eq!(upper_bytes(deep.into()).into_bytes(), [0, 1, 0x7f, 0xff]);
    }
}
