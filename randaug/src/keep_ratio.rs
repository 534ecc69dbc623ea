//! Resizing that keeps the aspect ratio, up to a random factor.

use image::RgbImage;
use rand::{Rng, RngExt};

use crate::crop::{check_range, uniform};
use crate::crop_or_pad::{RandomCropOrPad, resize_and_cut};
use crate::error::{Error, Result, check};
use crate::resample::Filter;
use crate::scratch::Scratch;

/// Resizes an image so that it just covers a target (or just fits into it), with a random scale and
/// aspect ratio (timm's `ResizeKeepRatio`). [`RandomCropOrPad`] then gives it the target's size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResizeKeepRatio {
    /// 0: the image covers the target; 1: it fits into it; between: a size between. Default 0.
    pub longest: f64,
    /// Probability of a random scale. Default 0.
    pub scale_prob: f64,
    /// Smallest and largest scale. Default 0.85 to 1.05.
    pub scale: (f64, f64),
    /// The scale is a share of the area that the target shows, as in a random resized crop. Default
    /// off.
    pub scale_is_area: bool,
    /// Probability of a random aspect ratio. Default 0.
    pub aspect_prob: f64,
    /// Smallest and largest factor of width over height. Default 0.9 to 1.11.
    pub aspect: (f64, f64),
    /// Filter of the resize. Default bicubic.
    pub interpolation: Filter,
}

impl Default for ResizeKeepRatio {
    fn default() -> Self {
        Self {
            longest: 0.0,
            scale_prob: 0.0,
            scale: (0.85, 1.05),
            scale_is_area: false,
            aspect_prob: 0.0,
            aspect: (0.9, 1.11),
            interpolation: Filter::Bicubic,
        }
    }
}

impl ResizeKeepRatio {
    /// timm's settings for `train_crop_mode` `rkrc` and `rkrr`.
    #[must_use]
    pub fn training() -> Self {
        Self {
            scale_prob: 0.5,
            scale: (0.8, 1.0),
            scale_is_area: true,
            aspect_prob: 0.5,
            aspect: (0.9, 1.0 / 0.9),
            ..Self::default()
        }
    }

    /// Checks all parameters.
    ///
    /// # Errors
    /// Returns an error if a probability or `longest` is not in 0..=1, or a range not 0 < low <=
    /// high.
    pub fn validate(&self) -> Result<()> {
        let shares =
            [("longest", self.longest), ("scale_prob", self.scale_prob), ("aspect_prob", self.aspect_prob)];
        for (name, share) in shares {
            check((0.0..=1.0).contains(&share), name, share, "in 0..=1")?;
        }
        check_range("scale", self.scale)?;
        check_range("aspect", self.aspect)
    }

    /// Draws width and height for an image and a target of these edges (width, height).
    ///
    /// # Errors
    /// Returns the errors of [`ResizeKeepRatio::validate`], or an error if the image or the target
    /// is empty.
    pub fn sample(&self, image: (u32, u32), target: (u32, u32), rng: &mut impl Rng) -> Result<(u32, u32)> {
        self.validate()?;
        let scale = rng.random_bool(self.scale_prob).then(|| uniform(self.scale, rng));
        let log_aspect = (self.aspect.0.ln(), self.aspect.1.ln());
        let aspect = rng.random_bool(self.aspect_prob).then(|| uniform(log_aspect, rng));
        self.edges(image, target, scale, aspect)
    }

    /// Width and height for these drawn numbers, at least 1 each.
    ///
    /// # Errors
    /// Returns an error if the image or the target is empty, or an edge would not fit into 32 bits.
    pub fn edges(
        &self,
        (width, height): (u32, u32),
        (target_w, target_h): (u32, u32),
        scale: Option<f64>,
        log_aspect: Option<f64>,
    ) -> Result<(u32, u32)> {
        if width == 0 || height == 0 {
            return Err(Error::EmptyImage { width, height });
        }
        if target_w == 0 || target_h == 0 {
            return Err(Error::EmptyOutput { width: target_w, height: target_h });
        }
        let (w, h) = (f64::from(width), f64::from(height));
        let (ratio_w, ratio_h) = (w / f64::from(target_w), h / f64::from(target_h));
        let ratio = ratio_h.max(ratio_w) * self.longest + ratio_h.min(ratio_w) * (1.0 - self.longest);
        let factor = match scale {
            Some(scale) if self.scale_is_area => 1.0 / scale.sqrt(),
            Some(scale) => scale,
            None => 1.0,
        };
        let aspect = log_aspect.map_or(1.0, |log| log.exp().sqrt());
        let edge = |length: f64| {
            let length = length.round_ties_even().max(1.0);
            check(length <= f64::from(u32::MAX), "edge", length, "below 2^32")?;
            Ok(length as u32)
        };
        Ok((edge(w * (factor * aspect) / ratio)?, edge(h * (factor / aspect) / ratio)?))
    }

    /// Draws a size for the target `out`, resizes and crops or pads into it.
    ///
    /// # Errors
    /// Returns the errors of [`ResizeKeepRatio::sample`].
    pub fn apply_into(
        &self,
        img: &RgbImage,
        crop: &RandomCropOrPad,
        out: &mut RgbImage,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let size = self.sample(img.dimensions(), out.dimensions(), rng)?;
        let corner = crop.sample(size, out.dimensions(), rng);
        resize_and_cut(img, size, corner, (self.interpolation, crop.padding), out, scratch)
    }
}
