//! The transform of evaluation: resize the short edge, cut out the centre.

use image::RgbImage;

use crate::error::{Error, Result, check};
use crate::resample::{CropBox, Filter, resize};
use crate::scratch::Scratch;

/// Resizes the short edge to `int(size / crop_pct)` and cuts `size` x `size` pixels out of the centre.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalTransform {
    /// Edge of the outcome in pixels.
    pub size: u32,
    /// Share of the short edge that is kept. Default 0.875.
    pub crop_pct: f64,
    /// How the picture is resized. Default bicubic.
    pub interpolation: Filter,
}

impl EvalTransform {
    /// The reference's transform at a size.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { size, crop_pct: 0.875, interpolation: Filter::Bicubic }
    }

    /// Width and height of the resized picture. The long edge is truncated, as in torchvision.
    ///
    /// # Errors
    /// If the picture or the size is empty, or `crop_pct` is not in 0..1 (0 excluded), or an edge would not fit
    /// into 32 bits.
    pub fn resized_edges(&self, width: u32, height: u32) -> Result<(u32, u32)> {
        if width == 0 || height == 0 {
            return Err(Error::EmptyImage { width, height });
        }
        check(self.size > 0, "size", f64::from(self.size), "at least 1")?;
        let valid = self.crop_pct > 0.0 && self.crop_pct <= 1.0;
        check(valid, "crop_pct", self.crop_pct, "above 0 and at most 1")?;
        let short = (f64::from(self.size) / self.crop_pct).floor();
        let (low, high) = (width.min(height), width.max(height));
        let long = (short * f64::from(high) / f64::from(low)).floor();
        check(long <= f64::from(u32::MAX), "long edge", long, "below 2^32")?;
        let (short, long) = (short as u32, long as u32);
        Ok(if width <= height { (short, long) } else { (long, short) })
    }

    /// The box that is cut out of the resized picture.
    #[must_use]
    pub fn crop_box(&self, width: u32, height: u32) -> CropBox {
        let start = |edge: u32| ((f64::from(edge) - f64::from(self.size)) / 2.0).round_ties_even() as u32;
        CropBox { top: start(height), left: start(width), height: self.size, width: self.size }
    }

    /// Transforms one picture.
    ///
    /// # Errors
    /// As [`EvalTransform::resized_edges`].
    pub fn apply(&self, img: &RgbImage, scratch: &mut Scratch) -> Result<RgbImage> {
        let (width, height) = self.resized_edges(img.width(), img.height())?;
        let resized = resize(img, width, height, self.interpolation, scratch)?;
        let crop = self.crop_box(width, height);
        // Same size in and out: this only copies the box.
        crate::resample::resize_crop(&resized, crop, self.size, self.size, self.interpolation, scratch)
    }
}
