//! Automatic augmentation: one type for every policy string of timm and torchvision.

mod augmix;
mod auto;
mod chains;
mod drawn_op;
mod parse;
mod policy_text;
mod randaugment;
mod tables;
mod trivial;

use std::fmt;

use image::{DynamicImage, RgbImage};
use rand::Rng;

pub use augmix::AugMix;
pub use auto::{AutoAugment, AutoPolicy, SubOp, SubPolicy};
pub use chains::DrawnAugMix;
pub use drawn_op::DrawnOp;
pub use randaugment::RandAugment;
pub use trivial::TrivialAugmentWide;

use crate::apply::OpConfig;
use crate::error::{Error, Result};
use crate::pixel_format::with_rgb;
use crate::scratch::Scratch;

/// A scheme and its settings.
#[derive(Debug, Clone, PartialEq)]
pub enum Scheme {
    /// `rand-...`
    Rand(RandAugment),
    /// `original`, `originalr`, `v0`, `v0r`, `3a`
    Auto(AutoAugment),
    /// `augmix-...`
    AugMix(AugMix),
    /// `ta_wide`
    Trivial(TrivialAugmentWide),
}

/// An augmentation scheme, read from a text in timm's grammar.
///
/// | text | scheme | options |
/// | --- | --- | --- |
/// | `rand-m9-n2-mstd0.5-inc1` | [`RandAugment`] | `m` magnitude (10), `n` operations per image (2), `p` probability of each (0.5), `mstd` noise (0; above 100: uniform), `mmax` largest magnitude (10), `inc` increasing operations (0), `w0` weights, `t` set of operations (`weights`, `3a`, `3aw`) |
/// | `original`, `originalr`, `v0`, `v0r`, `3a` | [`AutoAugment`] | `mstd` (0) |
/// | `augmix-m3-w3-d1` | [`AugMix`] | `m` magnitude (3), `w` chains (3), `d` operations in each (1 to 3), `a` parameter of the weights (1), `b` blend one by one (0), `mstd` (uniform) |
/// | `ta_wide` | [`TrivialAugmentWide`] | none |
///
/// [`Policy::apply`] takes the magnitude as an argument, so that a curriculum can change it at
/// every step; `None` is the policy's own. Printing gives the text with the options in a fixed
/// order, and reading that gives the same policy.
///
/// ```
/// use randaug::{Policy, Purpose, Scratch, sample_rng};
/// let policy: Policy = "rand-m9-mstd0.5-inc1".parse()?;
/// let mut image = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 90]));
/// let (mut rng, mut scratch) = (sample_rng(0, 0, 0, Purpose::Augment), Scratch::new());
/// policy.apply(&mut image, None, &mut rng, &mut scratch)?; // at magnitude 9
/// policy.apply(&mut image, Some(2.5), &mut rng, &mut scratch)?;
/// let error = "rand-x9".parse::<Policy>().unwrap_err();
/// assert!(error.to_string().contains("no option \"x\""));
/// # Ok::<(), randaug::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The canonical text.
    text: String,
    /// Magnitude of calls that give none.
    magnitude: f64,
    scheme: Scheme,
}

impl Policy {
    /// Magnitude of calls that give none: that of the text, or 10, which is the published strength
    /// of the schemes without a magnitude in their text.
    #[must_use]
    pub fn magnitude(&self) -> f64 {
        self.magnitude
    }

    /// The scheme and all its settings.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Interpolation, fill color and how magnitudes become arguments.
    #[must_use]
    pub fn config(&self) -> &OpConfig {
        match &self.scheme {
            Scheme::Rand(rand) => &rand.config,
            Scheme::Auto(auto) => &auto.config,
            Scheme::AugMix(mix) => &mix.config,
            Scheme::Trivial(trivial) => &trivial.config,
        }
    }

    /// Replaces the settings. The largest magnitude of the text is kept.
    #[must_use]
    pub fn with_config(mut self, mut config: OpConfig) -> Self {
        config.levels.max_level = self.config().levels.max_level;
        match &mut self.scheme {
            Scheme::Rand(rand) => rand.config = config,
            Scheme::Auto(auto) => auto.config = config,
            Scheme::AugMix(mix) => mix.config = config,
            Scheme::Trivial(trivial) => trivial.config = config,
        }
        self
    }

    /// Augments an image in place, at a magnitude of 0 to 10 (or `mmax`) or at the policy's own.
    ///
    /// For [`AutoAugment`] and [`TrivialAugmentWide`], 10 is the published strength, and less
    /// scales it down.
    ///
    /// # Errors
    /// Returns an error if the image is empty, the magnitude not finite or, for `ta_wide`, not in
    /// 0..=10, or a setting of [`Policy::with_config`] out of range.
    pub fn apply(
        &self,
        img: &mut RgbImage,
        magnitude: Option<f64>,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.run(img, magnitude, self.config(), rng, scratch)
    }

    /// Augments an 8-bit gray or RGB image in place, like [`Policy::apply`].
    ///
    /// A gray image gives the bytes of Pillow's mode `L`. Pixels from outside the image get the
    /// luminance of the fill color.
    ///
    /// # Errors
    /// Returns the errors of [`Policy::apply`], and if the image has transparency or other than 8
    /// bits per channel; see [`to_rgb8`](crate::to_rgb8).
    pub fn apply_dynamic(
        &self,
        img: &mut DynamicImage,
        magnitude: Option<f64>,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        match img {
            DynamicImage::ImageRgb8(rgb) => self.apply(rgb, magnitude, rng, scratch),
            DynamicImage::ImageLuma8(gray) => {
                let config = self.config().gray();
                with_rgb(gray, scratch, |rgb, scratch| self.run(rgb, magnitude, &config, rng, scratch))
            }
            other => Err(Error::unsupported(other.color())),
        }
    }

    fn run(
        &self,
        img: &mut RgbImage,
        magnitude: Option<f64>,
        config: &OpConfig,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        let magnitude = magnitude.unwrap_or(self.magnitude);
        match &self.scheme {
            Scheme::Rand(rand) => rand.run(img, magnitude, config, rng, scratch),
            Scheme::Auto(auto) => auto.run(img, magnitude, config, rng, scratch),
            Scheme::AugMix(mix) => mix.run(img, magnitude, config, rng, scratch),
            Scheme::Trivial(trivial) => trivial.run(img, magnitude, config, rng, scratch),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}
