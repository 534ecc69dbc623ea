//! Conversion of bytes to normalized f32.

use image::RgbImage;

use crate::enhance::luma;
use crate::error::{Error, Result, check};

/// Mean of ImageNet's channels, in 0..1.
pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of ImageNet's channels, in 0..1.
pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Position of the channels in an image or batch of f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Channels first: `[C, H, W]`, in a batch `[N, C, H, W]`.
    Chw,
    /// Channels last: `[H, W, C]`, in a batch `[N, H, W, C]`.
    Hwc,
}

/// (v / 255 - mean) / std for every channel, or for the luma of the pixels.
#[derive(Debug, Clone)]
pub struct Normalize {
    channels: Channels,
}

/// One value for each byte and channel: 256 divisions instead of one per pixel.
#[derive(Debug, Clone)]
enum Channels {
    Rgb(Box<[Table; 3]>),
    Gray(Box<Table>),
}

type Table = [f32; 256];

fn table(mean: f32, std: f32) -> Result<Table> {
    check(mean.is_finite(), "mean", f64::from(mean), "finite")?;
    check(std.is_finite() && std > 0.0, "std", f64::from(std), "finite and above 0")?;
    Ok(std::array::from_fn(|value| (value as f32 / 255.0 - mean) / std))
}

impl Normalize {
    /// Mean and standard deviation of each channel, in units of 0..1.
    ///
    /// # Errors
    /// Returns an error if a mean is not finite, or a standard deviation not finite and above 0.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Result<Self> {
        let [red, green, blue] = [0, 1, 2].map(|c| table(mean[c], std[c]));
        Ok(Self { channels: Channels::Rgb(Box::new([red?, green?, blue?])) })
    }

    /// One channel, the luma of the pixels (see [`luma`]), with its mean and standard deviation in
    /// units of 0..1: what timm gives a network with `in_chans=1`.
    ///
    /// # Errors
    /// Returns an error if the mean is not finite, or the standard deviation not finite and above 0.
    pub fn gray(mean: f32, std: f32) -> Result<Self> {
        Ok(Self { channels: Channels::Gray(Box::new(table(mean, std)?)) })
    }

    /// Returns the number of values for a pixel: 3, or 1 of [`Self::gray`].
    pub fn channels(&self) -> usize {
        match &self.channels {
            Channels::Rgb(_) => 3,
            Channels::Gray(_) => 1,
        }
    }

    /// Writes the image's C * H * W values into `out`, where C is [`Self::channels`].
    ///
    /// # Errors
    /// Returns an error if `out` has another length.
    pub fn apply(&self, img: &RgbImage, layout: Layout, out: &mut [f32]) -> Result<()> {
        let pixels = img.as_chunks::<3>().0;
        let expected = pixels.len() * self.channels();
        if out.len() != expected {
            return Err(Error::Length { what: "out", expected, got: out.len() });
        }
        match (&self.channels, layout) {
            (Channels::Gray(table), _) => {
                for (value, &rgb) in out.iter_mut().zip(pixels) {
                    *value = table[usize::from(luma(rgb))];
                }
            }
            (Channels::Rgb(tables), Layout::Hwc) => {
                for (values, rgb) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                    *values = [0, 1, 2].map(|c| tables[c][usize::from(rgb[c])]);
                }
            }
            (Channels::Rgb(tables), Layout::Chw) => {
                for (c, table) in tables.iter().enumerate() {
                    let plane = &mut out[c * pixels.len()..][..pixels.len()];
                    for (value, rgb) in plane.iter_mut().zip(pixels) {
                        *value = table[usize::from(rgb[c])];
                    }
                }
            }
        }
        Ok(())
    }
}

impl Default for Normalize {
    /// The mean and standard deviation of ImageNet.
    fn default() -> Self {
        Self::new(IMAGENET_MEAN, IMAGENET_STD).expect("the constants are finite and positive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `Image.convert("L")` of Pillow 13 gives 76, 150, 29, 124 and 7 for these pixels.
    #[test]
    fn gray_is_the_luma_of_pillow() {
        let pixels = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [12, 200, 30], [7, 7, 7]];
        let image = RgbImage::from_raw(5, 1, pixels.as_flattened().to_vec()).unwrap();
        let normalize = Normalize::gray(0.5, 0.25).unwrap();
        let mut values = [0.0; 5];
        normalize.apply(&image, Layout::Hwc, &mut values).unwrap();
        assert_eq!(values, [76f32, 150., 29., 124., 7.].map(|luma| (luma / 255.0 - 0.5) / 0.25));
        let error = normalize.apply(&image, Layout::Chw, &mut [0.0; 15]).unwrap_err();
        assert!(matches!(error, Error::Length { expected: 5, got: 15, .. }), "{error}");
    }
}
