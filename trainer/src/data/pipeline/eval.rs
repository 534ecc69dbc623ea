//! Transforms of evaluation: resize, center crop, normalize.

use image::RgbImage;
use randaug::{EvalTransform, Layout};

use crate::config::channels::Normalization;
use crate::data::pipeline::workspace::Workspace;
use crate::error::{DataError, Error};

/// Preprocessing of images for evaluation.
#[derive(Clone, Debug)]
pub struct EvalPipeline {
    /// Edge of the images, in pixels.
    pub size: usize,
    /// Fraction of the short edge that the center crop keeps.
    pub crop_pct: f64,
    /// Numbers by which images are normalized.
    pub normalization: Normalization,
    /// Average the logits of each image and its mirror image.
    pub flip: bool,
}

impl EvalPipeline {
    /// Creates the evaluation of the reference at a size: resizes the short edge to size / 0.875
    /// and crops the center.
    pub fn new(size: usize) -> Self {
        Self { size, crop_pct: Self::CROP_PCT, normalization: Normalization::default(), flip: false }
    }

    /// Fraction of the short edge that the center crop of the reference keeps.
    pub const CROP_PCT: f64 = 0.875;

    /// Normalizes images as the network was trained, instead of by the numbers of ImageNet.
    #[must_use]
    pub fn with_normalization(self, normalization: Normalization) -> Self {
        Self { normalization, ..self }
    }

    /// Changes the fraction of the short edge to keep, like timm's `crop_pct`: the short edge is
    /// resized to size / fraction.
    ///
    /// # Errors
    /// Returns an error if the fraction is not above 0 and at most 1.
    pub fn with_crop_pct(self, crop_pct: f64) -> Result<Self, Error> {
        if crop_pct > 0.0 && crop_pct <= 1.0 {
            return Ok(Self { crop_pct, ..self });
        }
        Err(Error::config("crop-pct", format!("expected above 0 and at most 1, got {crop_pct}")))
    }

    /// Converts an image to `size * size * channels` normalized values, channels-last.
    ///
    /// # Errors
    /// Returns an error if the image is empty or a setting is out of range.
    pub fn apply(&self, image: &RgbImage, w: &mut Workspace, out: &mut [f32]) -> Result<(), DataError> {
        let transform = EvalTransform { crop_pct: self.crop_pct, ..EvalTransform::new(self.size as u32) };
        let image = transform.apply(image, &mut w.scratch)?;
        w.normalize(self.normalization).apply(&image, Layout::Hwc, out).map_err(DataError::from)
    }
}
