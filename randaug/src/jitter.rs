//! Brightness, contrast and saturation by a factor, as torchvision does on Pillow pictures.

use image::RgbImage;

use crate::enhance;
use crate::error::{Result, check};

/// One adjustment of colour. Factor 1 changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Adjustment {
    /// Factor 0 is black.
    Brightness,
    /// Factor 0 is the mean grey.
    Contrast,
    /// Factor 0 is the grey picture.
    Saturation,
}

impl Adjustment {
    /// Adjusts a picture in place.
    ///
    /// # Errors
    /// If the factor is negative or not finite.
    pub fn apply(self, img: &mut RgbImage, factor: f64) -> Result<()> {
        check(factor.is_finite() && factor >= 0.0, "factor", factor, "finite and not below 0")?;
        match self {
            Adjustment::Brightness => enhance::brightness(img, factor),
            Adjustment::Contrast => enhance::contrast(img, factor),
            Adjustment::Saturation => enhance::color(img, factor),
        }
        Ok(())
    }
}
