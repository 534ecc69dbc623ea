//! Images of one to four 8-bit channels, and floating-point images, read from and written to files.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};
use image::ExtendedColorType;

use crate::data::decode::{DEFAULT_IMAGE_LIMIT, decode_stored, read_file};
use crate::error::{DataError, Error, Result};

/// 8-bit image, channels-last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PixelImage {
    /// `[height, width, channels]`.
    pub pixels: Vec<u8>,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// 1 (gray), 2 (gray and alpha), 3 (RGB) or 4 (RGB and alpha).
    pub channels: usize,
}

impl PixelImage {
    /// Reads an image file of any supported format like training does, rotated upright, with its
    /// own channels at 8 bits each.
    ///
    /// # Errors
    /// Returns an error if it cannot be read or decoded, or is cut off.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_file(path)?;
        let whole = |_: (u32, u32)| 1;
        let (image, _) = decode_stored(&bytes, &path.display().to_string(), DEFAULT_IMAGE_LIMIT, &whole)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let (channels, pixels) = match image.color().channel_count() {
            1 => (1, image.into_luma8().into_raw()),
            2 => (2, image.into_luma_alpha8().into_raw()),
            3 => (3, image.into_rgb8().into_raw()),
            _ => (4, image.into_rgba8().into_raw()),
        };
        Ok(Self { pixels, height, width, channels })
    }

    /// Writes an image; the file extension selects the format.
    ///
    /// # Errors
    /// Returns an error if the format is unknown or does not support these channels, or the disk
    /// fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        let color = match self.channels {
            1 => ExtendedColorType::L8,
            2 => ExtendedColorType::La8,
            3 => ExtendedColorType::Rgb8,
            _ => ExtendedColorType::Rgba8,
        };
        let (width, height) = (self.width as u32, self.height as u32);
        image::save_buffer(path, &self.pixels, width, height, color).map_err(|e| {
            let reason = format!("cannot be written: {e}");
            DataError::Image { name: path.display().to_string(), reason }.into()
        })
    }
}

/// Floating-point image, 1 for full intensity, channels-last.
#[derive(Clone, Debug, PartialEq)]
pub struct Floats {
    /// `[height, width, channels]`.
    pub values: Vec<f64>,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// Number of channels.
    pub channels: usize,
}

impl Floats {
    /// Converts an 8-bit image.
    pub fn of(image: &PixelImage) -> Self {
        let &PixelImage { height, width, channels, ref pixels } = image;
        let values = pixels.iter().map(|&v| f64::from(v) / 255.0).collect();
        Self { values, height, width, channels }
    }

    /// Rounds to an 8-bit image; halves are rounded to even, values outside 0 to 1 are clipped.
    pub fn to_image(&self) -> PixelImage {
        let byte = |&v: &f64| (255.0 * v).round_ties_even().clamp(0.0, 255.0) as u8;
        let &Self { height, width, channels, ref values } = self;
        PixelImage { pixels: values.iter().map(byte).collect(), height, width, channels }
    }

    /// Writes an image (rounded), or `.npy` or `.safetensors` (key `image`), both f32 `[C, H, W]`
    /// of value / 255.
    ///
    /// # Errors
    /// Returns an error if the file extension is unknown or the disk fails.
    pub fn write(&self, path: &Path) -> Result<()> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => Ok(self.tensor()?.write_npy(path)?),
            Some("safetensors") => {
                let named = HashMap::from([("image", self.tensor()?)]);
                Ok(candle_core::safetensors::save(&named, path)?)
            }
            Some(_) => self.to_image().write(path),
            None => {
                let what =
                    format!("{}: no file extension; expected .png, .npy or .safetensors", path.display());
                Err(Error::from(DataError::Setting(what)))
            }
        }
    }

    fn tensor(&self) -> Result<Tensor> {
        let values: Vec<f32> = self.values.iter().map(|&v| v as f32).collect();
        let hwc = Tensor::from_vec(values, (self.height, self.width, self.channels), &Device::Cpu)?;
        Ok(hwc.permute((2, 0, 1))?.contiguous()?)
    }
}
