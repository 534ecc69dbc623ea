//! The augmentation operations by name, and how one is applied.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;

use crate::affine::{self, Interpolation};
use crate::blur;
use crate::enhance;
use crate::error::{Error, Result};
use crate::level::{Arg, LevelScale};
use crate::lut;
use crate::scratch::Scratch;

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One augmentation operation, named as in timm.
        ///
        /// The strength of most operations follows a magnitude of 0..10 (see [`Op::level_to_arg`]). An operation
        /// whose name ends in `Increasing` grows stronger with it; its plain form runs the other way round or,
        /// for the enhancers, from 0.1 to 1.9.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Op {
            $($(#[$doc])* $name,)*
        }

        impl Op {
            /// All operations.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];

            /// The operation's name, as timm spells it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Op::$name => stringify!($name),)* }
            }
        }
    };
}

ops! {
    /// Stretches each channel's histogram to 0..255. No magnitude.
    AutoContrast,
    /// Flattens each channel's histogram. No magnitude.
    Equalize,
    /// 255 - v. No magnitude.
    Invert,
    /// Rotates about the centre, up to 30 degrees either way.
    Rotate,
    /// Keeps the top 0..4 bits of each channel; magnitude 0 is black.
    Posterize,
    /// Keeps the top 4..0 bits: stronger with the magnitude.
    PosterizeIncreasing,
    /// Keeps the top 4..8 bits.
    PosterizeOriginal,
    /// Inverts values at or above 0..256; magnitude 0 inverts everything.
    Solarize,
    /// Inverts values at or above 256..0.
    SolarizeIncreasing,
    /// Adds 0..110 to values below 128.
    SolarizeAdd,
    /// Blends with the grey picture, factor 0.1..1.9.
    Color,
    /// As `Color`, factor 1 plus or minus 0..0.9.
    ColorIncreasing,
    /// Blends with the mean grey, factor 0.1..1.9.
    Contrast,
    /// As `Contrast`, factor 1 plus or minus 0..0.9.
    ContrastIncreasing,
    /// Blends with black, factor 0.1..1.9.
    Brightness,
    /// As `Brightness`, factor 1 plus or minus 0..0.9.
    BrightnessIncreasing,
    /// Blends with the smoothed picture, factor 0.1..1.9.
    Sharpness,
    /// As `Sharpness`, factor 1 plus or minus 0..0.9.
    SharpnessIncreasing,
    /// Shears along x by up to 0.3 either way.
    ShearX,
    /// Shears along y by up to 0.3 either way.
    ShearY,
    /// Shifts along x by up to 100 pixels either way.
    TranslateX,
    /// Shifts along y by up to 100 pixels either way.
    TranslateY,
    /// Shifts along x by up to 0.45 of the width either way.
    TranslateXRel,
    /// Shifts along y by up to 0.45 of the height either way.
    TranslateYRel,
    /// Takes away 0.5..1 of the colour.
    Desaturate,
    /// Blurs with a radius (standard deviation) of 0.1..2 pixels.
    GaussianBlur,
    /// Blurs with a radius of 0..2 pixels. Where a policy picks it, the radius is drawn between 0.1 and that.
    GaussianBlurRand,
}

/// Radius of the random blur at its largest, in pixels.
pub(crate) const MAX_RANDOM_RADIUS: f64 = 2.0;

impl Op {
    /// The 15 operations of timm's `rand-...-inc1`, in its order.
    pub const INCREASING: [Op; 15] = [
        Op::AutoContrast,
        Op::Equalize,
        Op::Invert,
        Op::Rotate,
        Op::PosterizeIncreasing,
        Op::SolarizeIncreasing,
        Op::SolarizeAdd,
        Op::ColorIncreasing,
        Op::ContrastIncreasing,
        Op::BrightnessIncreasing,
        Op::SharpnessIncreasing,
        Op::ShearX,
        Op::ShearY,
        Op::TranslateXRel,
        Op::TranslateYRel,
    ];

    /// The 15 operations of timm's RandAugment without `inc`, in its order.
    pub const PLAIN: [Op; 15] = [
        Op::AutoContrast,
        Op::Equalize,
        Op::Invert,
        Op::Rotate,
        Op::Posterize,
        Op::Solarize,
        Op::SolarizeAdd,
        Op::Color,
        Op::Contrast,
        Op::Brightness,
        Op::Sharpness,
        Op::ShearX,
        Op::ShearY,
        Op::TranslateXRel,
        Op::TranslateYRel,
    ];

    /// The 13 operations of timm's AugMix, in its order.
    pub const AUGMIX: [Op; 13] = [
        Op::AutoContrast,
        Op::ColorIncreasing,
        Op::ContrastIncreasing,
        Op::BrightnessIncreasing,
        Op::SharpnessIncreasing,
        Op::Equalize,
        Op::Rotate,
        Op::PosterizeIncreasing,
        Op::SolarizeIncreasing,
        Op::ShearX,
        Op::ShearY,
        Op::TranslateXRel,
        Op::TranslateYRel,
    ];

    /// Applies the operation in place at a magnitude of 0..10 (values outside are clipped), with the settings
    /// of the reference: bicubic, fill colour (124, 116, 104).
    ///
    /// `negate` picks the other direction where the operation has one and is ignored where it has none.
    /// An empty picture stays as it is.
    ///
    /// # Errors
    /// If the magnitude is not a number.
    pub fn apply(
        self,
        img: &mut RgbImage,
        magnitude: f64,
        negate: bool,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.apply_with(img, magnitude, negate, &OpConfig::default(), scratch)
    }

    /// As [`Op::apply`], with other settings.
    ///
    /// # Errors
    /// If the magnitude is not a number.
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

    /// Applies the operation in place with its own argument: degrees, factor, pixels, threshold or bits.
    ///
    /// # Errors
    /// If the argument is not of the kind the operation takes, or not finite.
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
            // The argument is the share of colour to take away; factor 1 of the enhancer keeps it all.
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

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Op::ALL.iter().copied().find(|op| op.name() == name).ok_or_else(|| Error::UnknownOp {
            name: name.to_owned(),
            nearest: Op::ALL.iter().map(|op| op.name()).find(|known| known.eq_ignore_ascii_case(name)),
        })
    }
}

/// Settings shared by all operations.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OpConfig {
    /// How geometric operations read between pixels. Default bicubic.
    pub interpolation: Interpolation,
    /// Colour of pixels that come from outside the picture. Default (124, 116, 104), the ImageNet mean.
    pub fill: [u8; 3],
    /// How magnitudes become arguments.
    pub levels: LevelScale,
}

impl OpConfig {
    /// The same with a grey fill colour of the same luminance.
    pub(crate) fn grey(&self) -> Self {
        Self { fill: [enhance::luminance(self.fill); 3], ..*self }
    }
}

impl Default for OpConfig {
    fn default() -> Self {
        Self { interpolation: Interpolation::Bicubic, fill: [124, 116, 104], levels: LevelScale::default() }
    }
}
