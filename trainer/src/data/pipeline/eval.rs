//! The transforms of evaluation: resize, center crop, normalize.

use image::RgbImage;
use randaug::{EvalTransform, Layout};

use crate::data::pipeline::workspace::Workspace;
use crate::error::{DataError, Error};

/// What evaluation does to every image.
#[derive(Clone, Debug)]
pub struct EvalPipeline {
    /// Edge of the pictures, in pixels.
    pub size: usize,
    /// Share of the short edge that the center crop keeps.
    pub crop_pct: f64,
}

impl EvalPipeline {
    /// The reference's evaluation at a size: short edge to size / 0.875, then the center.
    pub fn new(size: usize) -> Self {
        Self { size, crop_pct: Self::CROP_PCT }
    }

    /// The share of the short edge that the reference's center crop keeps.
    pub const CROP_PCT: f64 = 0.875;

    /// The same with another share of the short edge kept, as timm's `crop_pct`: short edge to size / share.
    ///
    /// # Errors
    /// When it is not above 0 and at most 1.
    pub fn with_crop_pct(self, crop_pct: f64) -> Result<Self, Error> {
        if crop_pct > 0.0 && crop_pct <= 1.0 {
            return Ok(Self { crop_pct, ..self });
        }
        Err(Error::config("crop-pct", format!("expected above 0 and at most 1, got {crop_pct}")))
    }

    /// Turns an image into `size * size * 3` normalized values, channels-last.
    ///
    /// # Errors
    /// When the image is empty or a setting is out of range.
    pub fn apply(&self, image: &RgbImage, w: &mut Workspace, out: &mut [f32]) -> Result<(), DataError> {
        let transform = EvalTransform { crop_pct: self.crop_pct, ..EvalTransform::new(self.size as u32) };
        let picture = transform.apply(image, &mut w.scratch)?;
        w.normalize.apply(&picture, Layout::Hwc, out).map_err(DataError::from)
    }
}
