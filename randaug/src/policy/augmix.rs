//! AugMix (Hendrycks et al. 2020) as timm runs it: several chains of operations, mixed with each
//! other and with the image.

use std::borrow::Cow;

use image::RgbImage;
use rand::{Rng, RngExt};
use rand_distr::{Beta, Gamma};

use super::chains::{self, ChainBuffers, DrawnAugMix};
use super::drawn_op::{DrawnOp, MAX_OPS, check_noise};
use crate::apply::OpConfig;
use crate::error::{Error, Result, check, check_not_empty};
use crate::level::LevelScale;
use crate::op::Op;
use crate::scratch::Scratch;

/// Longest chain of a random depth.
const MAX_DEPTH: usize = 3;

/// Mixes `width` chains of operations by weights from a Dirichlet distribution, and the mixture
/// with the image by a weight from a Beta distribution. The default is timm's `augmix`; its
/// magnitude is 3.
#[derive(Debug, Clone, PartialEq)]
pub struct AugMix {
    /// Operations of the chains, all equally likely. Default [`Op::AUGMIX`].
    pub ops: Cow<'static, [Op]>,
    /// Number of chains. Default 3.
    pub width: usize,
    /// Operations in a chain; `None` (the default) draws 1 to 3 for each.
    pub depth: Option<usize>,
    /// Parameter of the Dirichlet and Beta distributions. Default 1.
    pub alpha: f64,
    /// Blends one chain after the other into the image in 8 bits, instead of one sum in f32: faster
    /// and a little different. Default off.
    pub sequential_blend: bool,
    /// Standard deviation of the magnitudes; infinity (the default) draws them uniformly from 0 to
    /// the magnitude.
    pub magnitude_std: f64,
    /// Interpolation, fill color and reach of the translations (here 0.3 of an edge by default).
    pub config: OpConfig,
}

impl Default for AugMix {
    fn default() -> Self {
        let levels = LevelScale { translate_pct: 0.3, ..LevelScale::default() };
        Self {
            ops: Cow::Borrowed(&Op::AUGMIX),
            width: 3,
            depth: None,
            alpha: 1.0,
            sequential_blend: false,
            magnitude_std: f64::INFINITY,
            config: OpConfig { levels, ..OpConfig::default() },
        }
    }
}

impl AugMix {
    /// Checks all parameters.
    ///
    /// # Errors
    /// Returns an error if there are no operations, `width` or `depth` is not in 1..=100, `alpha`
    /// not finite and above 0, or `magnitude_std` negative or not a number.
    pub fn validate(&self) -> Result<()> {
        check(!self.ops.is_empty(), "the number of ops", 0.0, "at least 1")?;
        let (width, depth) = (self.width, self.depth.unwrap_or(MAX_DEPTH));
        check((1..=MAX_OPS).contains(&width), "width", width as f64, "in 1..=100")?;
        check((1..=MAX_OPS).contains(&depth), "depth", depth as f64, "in 1..=100")?;
        check(self.alpha.is_finite() && self.alpha > 0.0, "alpha", self.alpha, "finite and above 0")?;
        check(self.magnitude_std >= 0.0, "magnitude_std", self.magnitude_std, "0 or more")
    }

    /// Draws weights and chains for an image.
    ///
    /// # Errors
    /// Returns the errors of [`AugMix::validate`], or an error if the magnitude is not finite.
    pub fn sample(&self, magnitude: f64, rng: &mut impl Rng) -> Result<DrawnAugMix> {
        let mut drawn = DrawnAugMix::default();
        self.sample_into(magnitude, &self.config, &mut drawn, rng)?;
        Ok(drawn)
    }

    fn sample_into(
        &self,
        magnitude: f64,
        config: &OpConfig,
        drawn: &mut DrawnAugMix,
        rng: &mut impl Rng,
    ) -> Result<()> {
        self.validate()?;
        check_noise(magnitude, self.magnitude_std)?;
        drawn.clear();
        self.draw_weights(drawn, rng)?;
        for _ in 0..self.width {
            let depth = self.depth.unwrap_or_else(|| rng.random_range(1..=MAX_DEPTH as u32) as usize);
            drawn.depths.push(depth);
            for _ in 0..depth {
                let op = self.ops[rng.random_range(0..self.ops.len() as u32) as usize];
                let max = config.levels.max_level;
                drawn.ops.push(DrawnOp::draw(op, magnitude, self.magnitude_std, max, rng));
            }
        }
        Ok(())
    }

    /// Draws the weights from Dirichlet(alpha, ..., alpha), that is Gamma variates over their sum,
    /// and the mixing weight from Beta(alpha, alpha).
    fn draw_weights(&self, drawn: &mut DrawnAugMix, rng: &mut impl Rng) -> Result<()> {
        let refused =
            || Error::Parameter { name: "alpha", value: self.alpha, expected: "finite and above 0" };
        let gamma = Gamma::new(self.alpha, 1.0).map_err(|_| refused())?;
        drawn.weights.extend((0..self.width).map(|_| rng.sample::<f64, _>(gamma) as f32));
        let sum: f32 = drawn.weights.iter().sum();
        // With a tiny alpha all weights can be zero; then the first chain gets all the weight.
        if sum > 0.0 {
            drawn.weights.iter_mut().for_each(|weight| *weight /= sum);
        } else {
            drawn.weights[0] = 1.0;
        }
        let beta = Beta::new(self.alpha, self.alpha).map_err(|_| refused())?;
        let mix_weight = rng.sample::<f64, _>(beta) as f32;
        drawn.mix_weight = if mix_weight.is_nan() { 1.0 } else { mix_weight };
        Ok(())
    }

    /// Augments an image in place.
    ///
    /// # Errors
    /// Returns the errors of [`AugMix::sample`], or an error if the image is empty; the image is
    /// then unchanged.
    pub fn apply(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.run(img, magnitude, &self.config, rng, scratch)
    }

    /// Does the same as [`AugMix::apply`] with other settings.
    pub(super) fn run(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        config: &OpConfig,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        check_not_empty(img)?;
        scratch.with(|AugMixScratch { drawn, buffers }, scratch| {
            self.sample_into(magnitude, config, drawn, rng)?;
            chains::mix(img, drawn, self.sequential_blend, config, buffers, scratch)
        })
    }

    /// Applies a draw.
    ///
    /// # Errors
    /// Returns an error if the image is empty, a magnitude is not a number, or the lists of the
    /// draw do not fit together.
    pub fn apply_drawn(&self, img: &mut RgbImage, drawn: &DrawnAugMix, scratch: &mut Scratch) -> Result<()> {
        check_not_empty(img)?;
        let chains = drawn.depths.len();
        if drawn.weights.len() != chains {
            return Err(Error::Length { what: "weights", expected: chains, got: drawn.weights.len() });
        }
        let ops = drawn.depths.iter().try_fold(0usize, |sum, &depth| sum.checked_add(depth));
        if ops != Some(drawn.ops.len()) {
            let expected = ops.unwrap_or(usize::MAX);
            return Err(Error::Length { what: "ops", expected, got: drawn.ops.len() });
        }
        scratch.with(|AugMixScratch { buffers, .. }, scratch| {
            chains::mix(img, drawn, self.sequential_blend, &self.config, buffers, scratch)
        })
    }
}

/// The draw and the buffers of an image.
#[derive(Debug, Default)]
struct AugMixScratch {
    drawn: DrawnAugMix,
    buffers: ChainBuffers,
}
