//! The augmentation operations by name, and the sets of them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

macro_rules! ops {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One augmentation operation, named as in timm.
        ///
        /// The strength of most operations follows a magnitude of 0..10 (see [`Op::level_to_arg`]).
        /// An operation whose name ends in `Increasing` grows stronger with it; its plain form runs
        /// the other way round or, for the enhancers, from 0.1 to 1.9.
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
    /// Rotates about the center, up to 30 degrees either way.
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
    /// Blends with the gray image, factor 0.1..1.9.
    Color,
    /// Like `Color`, factor 1 plus or minus 0..0.9.
    ColorIncreasing,
    /// Blends with the mean gray, factor 0.1..1.9.
    Contrast,
    /// Like `Contrast`, factor 1 plus or minus 0..0.9.
    ContrastIncreasing,
    /// Blends with black, factor 0.1..1.9.
    Brightness,
    /// Like `Brightness`, factor 1 plus or minus 0..0.9.
    BrightnessIncreasing,
    /// Blends with the smoothed image, factor 0.1..1.9.
    Sharpness,
    /// Like `Sharpness`, factor 1 plus or minus 0..0.9.
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
    /// Removes 0.5..1 of the color.
    Desaturate,
    /// Blurs with a radius (standard deviation) of 0.1..2 pixels.
    GaussianBlur,
    /// Blurs with a radius of 0..2 pixels. In a policy, the radius is drawn between 0.1 and that
    /// value.
    GaussianBlurRand,
}

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
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The operation whose name differs least from `name`, whatever the case.
fn nearest(name: &str) -> &'static str {
    let distance = |op: &Op| strsim::damerau_levenshtein(&op.name().to_lowercase(), &name.to_lowercase());
    Op::ALL.iter().min_by_key(|op| distance(op)).map_or("", |op| op.name())
}

impl FromStr for Op {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Op::ALL
            .iter()
            .copied()
            .find(|op| op.name() == name)
            .ok_or_else(|| Error::UnknownOp { name: name.to_owned(), nearest: nearest(name) })
    }
}
