//! Random resized crop (timm's `RandomResizedCropAndInterpolation`).

use image::RgbImage;
use rand::{Rng, RngExt};

use crate::error::{Error, Result, check};
use crate::resample::{CropBox, Filter, resize_crop_into};
use crate::scratch::Scratch;

/// Boxes drawn before falling back to the center.
const ATTEMPTS: usize = 10;

/// Crops a random part of an image and resizes it.
///
/// Ten boxes are drawn, with area uniform in `scale` times the image's and the logarithm of
/// width/height uniform in `ratio`; the first that fits is placed uniformly. If none fits, the box
/// is the largest centered one whose ratio is in the range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RandomResizedCrop {
    /// Share of the image's area, smallest and largest. Default 0.08 to 1.
    pub scale: (f64, f64),
    /// Width over height, smallest and largest. Default 3/4 to 4/3.
    pub ratio: (f64, f64),
    /// Filter of the resize. Default bicubic.
    pub interpolation: Filter,
}

impl Default for RandomResizedCrop {
    fn default() -> Self {
        Self { scale: (0.08, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0), interpolation: Filter::Bicubic }
    }
}

impl RandomResizedCrop {
    /// Draws a box in an image of `width` x `height` pixels.
    ///
    /// # Errors
    /// Returns an error if the image is empty or a range is not 0 < low <= high.
    pub fn sample(&self, width: u32, height: u32, rng: &mut impl Rng) -> Result<CropBox> {
        check_range("scale", self.scale)?;
        check_range("ratio", self.ratio)?;
        if width == 0 || height == 0 {
            return Err(Error::EmptyImage { width, height });
        }
        let log_ratio = (self.ratio.0.ln(), self.ratio.1.ln());
        for _ in 0..ATTEMPTS {
            let area_fraction = uniform(self.scale, rng);
            let (w, h) = Self::edges(width, height, area_fraction, uniform(log_ratio, rng));
            if Self::fits(width, height, (w, h)) {
                let top = rng.random_range(0..=height - h);
                let left = rng.random_range(0..=width - w);
                return Ok(CropBox { top, left, height: h, width: w });
            }
        }
        Ok(self.fallback(width, height))
    }

    /// Width and height of the box that has this share of the area and this logarithm of
    /// width/height. It may be larger than the image.
    #[must_use]
    pub fn edges(width: u32, height: u32, area_fraction: f64, log_ratio: f64) -> (u32, u32) {
        let area = area_fraction * (f64::from(width) * f64::from(height));
        let ratio = log_ratio.exp();
        let edge = |square: f64| square.sqrt().round_ties_even() as u32;
        (edge(area * ratio), edge(area / ratio))
    }

    /// Returns true if a box of these edges (width, height) fits into the image.
    ///
    /// An image of a few pixels can give an empty box, on which the reference fails; here an empty
    /// box does not fit.
    #[must_use]
    pub fn fits(width: u32, height: u32, (w, h): (u32, u32)) -> bool {
        (1..=width).contains(&w) && (1..=height).contains(&h)
    }

    /// The centered box that is used when no drawn box fits. `width` and `height` must not be 0.
    #[must_use]
    pub fn fallback(&self, width: u32, height: u32) -> CropBox {
        let (w, h) = (f64::from(width), f64::from(height));
        let (low, high) = self.ratio;
        let edge = |length: f64, max: u32| (length.round_ties_even() as u32).clamp(1, max.max(1));
        let (crop_w, crop_h) = if w / h < low {
            (width, edge(w / low, height))
        } else if w / h > high {
            (edge(h * high, width), height)
        } else {
            (width, height)
        };
        let (top, left) = (height.saturating_sub(crop_h) / 2, width.saturating_sub(crop_w) / 2);
        CropBox { top, left, height: crop_h, width: crop_w }
    }

    /// Draws a box and resizes it into `out`, whose size is the target size.
    ///
    /// # Errors
    /// Returns the errors of [`RandomResizedCrop::sample`], or an error if `out` is empty.
    pub fn apply_into(
        &self,
        img: &RgbImage,
        out: &mut RgbImage,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let crop = self.sample(img.width(), img.height(), rng)?;
        resize_crop_into(img, crop, self.interpolation, out, scratch)
    }

    /// Draws a box and resizes it to `size` x `size` pixels.
    ///
    /// # Errors
    /// Returns the errors of [`RandomResizedCrop::apply_into`].
    pub fn apply(
        &self,
        img: &RgbImage,
        size: u32,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<RgbImage> {
        let mut out = RgbImage::new(size, size);
        self.apply_into(img, &mut out, rng, scratch)?;
        Ok(out)
    }
}

/// Draws uniformly between the two numbers, like Python's `random.uniform`.
pub(crate) fn uniform((low, high): (f64, f64), rng: &mut impl Rng) -> f64 {
    low + (high - low) * rng.random::<f64>()
}

/// Checks that 0 < low <= high, both finite.
pub(crate) fn check_range(name: &'static str, (low, high): (f64, f64)) -> Result<()> {
    check(low.is_finite() && low > 0.0, name, low, "a finite number above 0")?;
    check(high.is_finite() && high >= low, name, high, "a finite number not below the lower end")
}
