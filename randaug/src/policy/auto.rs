//! AutoAugment (Cubuk et al. 2019) and 3-Augment: one of several fixed sub-policies per image.

use image::RgbImage;
use rand::{Rng, RngExt};

use super::drawn_op::{DrawnOp, check_noise};
use super::tables;
use crate::apply::OpConfig;
use crate::error::{Result, check_not_empty};
use crate::level::MAX_LEVEL;
use crate::op::Op;
use crate::scratch::Scratch;

/// One operation of a sub-policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SubOp {
    /// The operation.
    pub op: Op,
    /// Probability that it is applied.
    pub prob: f64,
    /// Its magnitude, 0 to 10.
    pub magnitude: f64,
}

/// Operations that are applied one after the other.
pub type SubPolicy = &'static [SubOp];

/// The published lists of sub-policies, by timm's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AutoPolicy {
    /// `original`: the ImageNet policy of the AutoAugment paper.
    Original,
    /// `originalr`: the same with the research variant of Posterize.
    OriginalR,
    /// `v0`: the policy of the TPU EfficientNet.
    V0,
    /// `v0r`: the same with the research variant of Posterize.
    V0R,
    /// `3a`: 3-Augment of DeiT III; solarize, gray or blur, one each time.
    ThreeAugment,
}

impl AutoPolicy {
    /// All policies.
    pub const ALL: [Self; 5] = [Self::Original, Self::OriginalR, Self::V0, Self::V0R, Self::ThreeAugment];

    /// timm's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::OriginalR => "originalr",
            Self::V0 => "v0",
            Self::V0R => "v0r",
            Self::ThreeAugment => "3a",
        }
    }

    /// Sub-policies, one of which is picked for each image.
    #[must_use]
    pub const fn sub_policies(self) -> &'static [SubPolicy] {
        match self {
            Self::Original => tables::ORIGINAL,
            Self::OriginalR => tables::ORIGINAL_R,
            Self::V0 => tables::V0,
            Self::V0R => tables::V0_R,
            Self::ThreeAugment => tables::THREE,
        }
    }
}

/// Picks a sub-policy for each image and applies its operations, each with its own probability.
///
/// The magnitude of a call, 0 to 10, scales all operations together: at 10 they are as published,
/// at 0 each one is at its weakest, which depends on the operation (see [`AutoAugment::scaled`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AutoAugment {
    /// The sub-policies.
    pub policy: AutoPolicy,
    /// Standard deviation of the magnitudes; infinity draws them uniformly from 0. As published: 0.
    pub magnitude_std: f64,
    /// Interpolation, fill color and reach of the translations.
    pub config: OpConfig,
}

impl AutoAugment {
    /// A policy as published.
    #[must_use]
    pub fn new(policy: AutoPolicy) -> Self {
        Self { policy, magnitude_std: 0.0, config: OpConfig::default() }
    }

    /// Returns the magnitude of an operation of level `level` when the whole policy is at
    /// `magnitude`: its distance from the weakest level times `magnitude / 10`.
    ///
    /// The weakest level is 10 for Posterize, PosterizeOriginal and Solarize, which grow weaker
    /// with it; 5, the factor 1, for the enhancers that run from 0.1 to 1.9; else 0.
    #[must_use]
    pub fn scaled(op: Op, level: f64, magnitude: f64) -> f64 {
        let weakest = match op {
            Op::Posterize | Op::PosterizeOriginal | Op::Solarize => MAX_LEVEL,
            Op::Color | Op::Contrast | Op::Brightness | Op::Sharpness => MAX_LEVEL / 2.0,
            _ => 0.0,
        };
        weakest + (level - weakest) * (magnitude / MAX_LEVEL)
    }

    /// Draws the operations of an image.
    ///
    /// # Errors
    /// Returns an error if the magnitude is not finite, or `magnitude_std` negative or not a
    /// number.
    pub fn sample_image(&self, magnitude: f64, rng: &mut impl Rng) -> Result<Vec<DrawnOp>> {
        let sub_policy = self.pick(magnitude, rng)?;
        Ok(sub_policy.iter().filter_map(|sub| self.draw(*sub, magnitude, &self.config, rng)).collect())
    }

    fn pick(&self, magnitude: f64, rng: &mut impl Rng) -> Result<SubPolicy> {
        check_noise(magnitude, self.magnitude_std)?;
        let all = self.policy.sub_policies();
        Ok(all[rng.random_range(0..all.len() as u32) as usize])
    }

    fn draw(&self, sub: SubOp, magnitude: f64, config: &OpConfig, rng: &mut impl Rng) -> Option<DrawnOp> {
        let level = Self::scaled(sub.op, sub.magnitude, magnitude);
        let max = config.levels.max_level;
        rng.random_bool(sub.prob).then(|| DrawnOp::draw(sub.op, level, self.magnitude_std, max, rng))
    }

    /// Augments an image in place; magnitude 10 is the policy as published.
    ///
    /// # Errors
    /// Returns the errors of [`AutoAugment::sample_image`], or an error if the image is empty; the
    /// image is then unchanged.
    pub fn apply(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.run(img, magnitude, &self.config, rng, scratch)
    }

    /// Does the same as [`AutoAugment::apply`] with other settings.
    pub(super) fn run(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        config: &OpConfig,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        check_not_empty(img)?;
        for &sub in self.pick(magnitude, rng)? {
            if let Some(drawn) = self.draw(sub, magnitude, config, rng) {
                drawn.apply(img, config, scratch)?;
            }
        }
        Ok(())
    }
}
