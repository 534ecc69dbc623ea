//! The evaluation transform: resize the short edge, crop the center.

use image::RgbImage;

use crate::crop_or_pad::{Padding, resize_and_cut};
use crate::error::{Error, Result, check};
use crate::resample::{CropBox, Filter};
use crate::scratch::Scratch;

/// Resizes the short edge to `int(size / crop_pct)` and crops `size` x `size` pixels at the center.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalTransform {
    /// Edge of the output in pixels.
    pub size: u32,
    /// Share of the short edge that is kept. Default 0.875.
    pub crop_pct: f64,
    /// Filter of the resize. Default bicubic.
    pub interpolation: Filter,
}

impl EvalTransform {
    /// The reference's transform at a size.
    #[must_use]
    pub fn new(size: u32) -> Self {
        Self { size, crop_pct: 0.875, interpolation: Filter::Bicubic }
    }

    /// Width and height of the resized image. The long edge is truncated, as in torchvision.
    ///
    /// # Errors
    /// Returns an error if the image or the size is empty, or `crop_pct` is not in 0..1 (0
    /// excluded), or an edge would not fit into 32 bits.
    pub fn resized_edges(&self, width: u32, height: u32) -> Result<(u32, u32)> {
        if width == 0 || height == 0 {
            return Err(Error::EmptyImage { width, height });
        }
        check(self.size > 0, "size", f64::from(self.size), "at least 1")?;
        let valid = self.crop_pct > 0.0 && self.crop_pct <= 1.0;
        check(valid, "crop_pct", self.crop_pct, "above 0 and at most 1")?;
        let short = (f64::from(self.size) / self.crop_pct).floor();
        check(short <= f64::from(u32::MAX), "short edge", short, "below 2^32")?;
        short_edge_to(short as u32, width, height)
    }

    /// Returns the crop box in the resized image.
    #[must_use]
    pub fn crop_box(&self, width: u32, height: u32) -> CropBox {
        let start = |edge: u32| ((f64::from(edge) - f64::from(self.size)) / 2.0).round_ties_even() as u32;
        CropBox { top: start(height), left: start(width), height: self.size, width: self.size }
    }

    /// Transforms one image.
    ///
    /// # Errors
    /// Returns the errors of [`EvalTransform::resized_edges`].
    pub fn apply(&self, img: &RgbImage, scratch: &mut Scratch) -> Result<RgbImage> {
        let mut out = RgbImage::new(self.size, self.size);
        self.apply_into(img, &mut out, scratch)?;
        Ok(out)
    }

    /// Transforms one image into `out`, which must have `size` x `size` pixels.
    ///
    /// # Errors
    /// Returns the errors of [`EvalTransform::resized_edges`], or an error if `out` has another
    /// size.
    pub fn apply_into(&self, img: &RgbImage, out: &mut RgbImage, scratch: &mut Scratch) -> Result<()> {
        let edges = self.resized_edges(img.width(), img.height())?;
        let fits = out.dimensions() == (self.size, self.size);
        check(fits, "out's width or height", f64::from(out.width()), "equal to size")?;
        let crop = self.crop_box(edges.0, edges.1);
        let (top, left) = (i64::from(crop.top), i64::from(crop.left));
        resize_and_cut(img, edges, (top, left), (self.interpolation, Padding::Reflect), out, scratch)
    }
}

/// Width and height of an image whose short edge becomes `size`. The long edge is truncated, as in
/// torchvision.
///
/// # Errors
/// Returns an error if the image is empty, or the long edge would not fit into 32 bits.
pub(crate) fn short_edge_to(size: u32, width: u32, height: u32) -> Result<(u32, u32)> {
    if width == 0 || height == 0 {
        return Err(Error::EmptyImage { width, height });
    }
    let (low, high) = (width.min(height), width.max(height));
    let long = (f64::from(size) * f64::from(high) / f64::from(low)).floor();
    check(long <= f64::from(u32::MAX), "long edge", long, "below 2^32")?;
    let long = long as u32;
    Ok(if width <= height { (size, long) } else { (long, size) })
}
