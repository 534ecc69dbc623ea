//! Applying an operation to an image.

use image::RgbImage;

use crate::affine::{self, Interpolation};
use crate::error::Result;
use crate::level::{Arg, LevelScale};
use crate::op::Op;
use crate::scratch::Scratch;
use crate::{blur, enhance, lut};

/// Radius of the random blur at its largest, in pixels.
pub(crate) const MAX_RANDOM_RADIUS: f64 = 2.0;

impl Op {
    /// Applies the operation in place at a magnitude of 0..10 (values outside are clipped), with
    /// the settings of the reference: bicubic, fill color (124, 116, 104).
    ///
    /// `negate` picks the other direction; operations without direction ignore it.
    /// An empty image is not changed.
    ///
    /// # Errors
    /// Returns an error if the magnitude is not a number.
    pub fn apply(
        self,
        img: &mut RgbImage,
        magnitude: f64,
        negate: bool,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.apply_with(img, magnitude, negate, &OpConfig::default(), scratch)
    }

    /// Applies the operation in place at a magnitude, with other settings than [`Op::apply`].
    ///
    /// # Errors
    /// Returns an error if the magnitude is not a number.
    pub fn apply_with(
        self,
        img: &mut RgbImage,
        magnitude: f64,
        negate: bool,
        config: &OpConfig,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let arg = self.level_to_arg(magnitude, negate, &config.levels)?;
        self.apply_arg(img, arg, config, scratch)
    }

    /// Applies the operation in place with its own argument: degrees, factor, pixels, threshold or
    /// bits.
    ///
    /// # Errors
    /// Returns an error if the argument is not of the kind the operation takes, or not finite.
    pub fn apply_arg(
        self,
        img: &mut RgbImage,
        arg: Arg,
        config: &OpConfig,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let (width, height) = (img.width() as usize, img.height() as usize);
        if let Some(matrix) = self.matrix(arg, width, height)? {
            if let Some(matrix) = matrix {
                affine::transform(img, width, height, &matrix, config, scratch);
            }
            return Ok(());
        }
        match self {
            Op::AutoContrast => lut::auto_contrast(img),
            Op::Equalize => lut::equalize(img),
            Op::Invert => lut::invert(img),
            Op::Posterize | Op::PosterizeIncreasing | Op::PosterizeOriginal => {
                lut::posterize(img, arg.int(self)?);
            }
            Op::Solarize | Op::SolarizeIncreasing => lut::solarize(img, arg.int(self)?),
            Op::SolarizeAdd => lut::solarize_add(img, arg.int(self)?),
            Op::Color | Op::ColorIncreasing => enhance::color(img, arg.float(self)?),
            Op::Contrast | Op::ContrastIncreasing => enhance::contrast(img, arg.float(self)?),
            Op::Brightness | Op::BrightnessIncreasing => enhance::brightness(img, arg.float(self)?),
            Op::Sharpness | Op::SharpnessIncreasing => {
                enhance::sharpness(img, width, height, arg.float(self)?, scratch);
            }
            // The argument is the share of color to take away; factor 1 of the enhancer keeps it
            // all.
            Op::Desaturate => enhance::color(img, (1.0 - arg.float(self)?).clamp(0.0, 1.0)),
            Op::GaussianBlur => blur::gaussian(img, width, height, arg.float(self)?, scratch)?,
            Op::GaussianBlurRand => {
                blur::gaussian(img, width, height, MAX_RANDOM_RADIUS * arg.float(self)?, scratch)?;
            }
            // The geometric operations were done above.
            _ => {}
        }
        Ok(())
    }

    /// The output-to-input matrix of a geometric operation; `Some(None)` is a plain copy.
    #[allow(clippy::option_option)]
    fn matrix(self, arg: Arg, width: usize, height: usize) -> Result<Option<Option<affine::Matrix>>> {
        let (w, h) = (width as f64, height as f64);
        Ok(Some(match self {
            Op::Rotate => affine::rotation(arg.float(self)?, w, h),
            Op::ShearX => Some([1.0, arg.float(self)?, 0.0, 0.0, 1.0, 0.0]),
            Op::ShearY => Some([1.0, 0.0, 0.0, arg.float(self)?, 1.0, 0.0]),
            Op::TranslateX => Some([1.0, 0.0, arg.float(self)?, 0.0, 1.0, 0.0]),
            Op::TranslateY => Some([1.0, 0.0, 0.0, 0.0, 1.0, arg.float(self)?]),
            Op::TranslateXRel => Some([1.0, 0.0, arg.float(self)? * w, 0.0, 1.0, 0.0]),
            Op::TranslateYRel => Some([1.0, 0.0, 0.0, 0.0, 1.0, arg.float(self)? * h]),
            _ => return Ok(None),
        }))
    }
}

/// Settings shared by all operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpConfig {
    /// Interpolation of geometric operations. Default bicubic.
    pub interpolation: Interpolation,
    /// Color of pixels that come from outside the image. Default (124, 116, 104), the ImageNet
    /// mean.
    pub fill: [u8; 3],
    /// Conversion of magnitudes to arguments.
    pub levels: LevelScale,
}

impl OpConfig {
    /// Returns the settings with a gray fill color of the same luminance.
    pub(crate) fn gray(&self) -> Self {
        Self { fill: [enhance::luma(self.fill); 3], ..*self }
    }
}

impl Default for OpConfig {
    fn default() -> Self {
        Self { interpolation: Interpolation::Bicubic, fill: [124, 116, 104], levels: LevelScale::default() }
    }
}
