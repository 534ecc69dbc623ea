//! Conversion of bytes to normalized f32.

use image::RgbImage;

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

/// (v / 255 - mean) / std for every channel.
#[derive(Debug, Clone)]
pub struct Normalize {
    /// One value for each byte and channel: 256 divisions instead of one per pixel.
    tables: [[f32; 256]; 3],
}

impl Normalize {
    /// Mean and standard deviation of each channel, in units of 0..1.
    ///
    /// # Errors
    /// Returns an error if a mean is not finite, or a standard deviation not finite and above 0.
    pub fn new(mean: [f32; 3], std: [f32; 3]) -> Result<Self> {
        let mut tables = [[0.0; 256]; 3];
        for ((table, mean), std) in tables.iter_mut().zip(mean).zip(std) {
            check(mean.is_finite(), "mean", f64::from(mean), "finite")?;
            check(std.is_finite() && std > 0.0, "std", f64::from(std), "finite and above 0")?;
            for (value, entry) in (0u8..=255).zip(table) {
                *entry = (f32::from(value) / 255.0 - mean) / std;
            }
        }
        Ok(Self { tables })
    }

    /// Writes the image's 3 * H * W values into `out`.
    ///
    /// # Errors
    /// Returns an error if `out` has another length.
    pub fn apply(&self, img: &RgbImage, layout: Layout, out: &mut [f32]) -> Result<()> {
        if out.len() != img.len() {
            return Err(Error::Length { what: "out", expected: img.len(), got: out.len() });
        }
        let pixels = img.as_chunks::<3>().0;
        match layout {
            Layout::Hwc => {
                for (values, rgb) in out.as_chunks_mut::<3>().0.iter_mut().zip(pixels) {
                    *values = [0, 1, 2].map(|c| self.tables[c][usize::from(rgb[c])]);
                }
            }
            Layout::Chw => {
                for (c, table) in self.tables.iter().enumerate() {
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
