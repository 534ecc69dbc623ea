//! RandAugment (Cubuk et al. 2020) as timm runs it.

use std::borrow::Cow;

use image::RgbImage;
use rand::{Rng, RngExt};

use super::drawn_op::{DrawnOp, MAX_OPS, check_noise};
use crate::apply::OpConfig;
use crate::error::{Result, check, check_not_empty};
use crate::op::Op;
use crate::scratch::Scratch;

/// Picks `num_layers` operations and applies each with probability `prob`.
///
/// The magnitude is not part of the policy but an argument of each call, so that a curriculum can
/// raise it. Every operation draws its own: clip(N(magnitude, magnitude_std), 0, 10). The default
/// is the reference's `rand-m{magnitude}-mstd0.5-inc1`. [`Policy`](crate::Policy) reads such a
/// text.
///
/// ```
/// use randaug::{Purpose, RandAugment, Scratch, sample_rng};
/// let mut image = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 90]));
/// let mut rng = sample_rng(0, 0, 0, Purpose::Augment);
/// RandAugment::default().apply(&mut image, 9.0, &mut rng, &mut Scratch::new())?;
/// # Ok::<(), randaug::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RandAugment {
    /// Operations to choose from. Default [`Op::INCREASING`].
    pub ops: Cow<'static, [Op]>,
    /// Relative probability of each of `ops`; no operation is then picked twice for an image. Empty
    /// (the default): all are equally likely, and can be picked again.
    pub weights: Vec<f64>,
    /// Number of operations picked for an image. Default 2.
    pub num_layers: usize,
    /// Probability that a picked operation is applied. Default 0.5.
    pub prob: f64,
    /// Standard deviation of the magnitude; infinity draws it uniformly from 0 to the magnitude.
    /// Default 0.5.
    pub magnitude_std: f64,
    /// Interpolation, fill color, reach of the translations, largest magnitude.
    pub config: OpConfig,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            ops: Cow::Borrowed(&Op::INCREASING),
            weights: Vec::new(),
            num_layers: 2,
            prob: 0.5,
            magnitude_std: 0.5,
            config: OpConfig::default(),
        }
    }
}

impl RandAugment {
    /// Checks all parameters.
    ///
    /// # Errors
    /// Returns an error if there is nothing to pick from, `num_layers` is above 100, `prob` is not
    /// in 0..=1, `magnitude_std` is negative or not a number, or the weights are not as many as the
    /// operations, not finite and 0 or more, or fewer than `num_layers` are above 0.
    pub fn validate(&self) -> Result<()> {
        check(!self.ops.is_empty(), "the number of ops", 0.0, "at least 1")?;
        let layers = self.num_layers as f64;
        check(self.num_layers <= MAX_OPS, "num_layers", layers, "at most 100")?;
        check((0.0..=1.0).contains(&self.prob), "prob", self.prob, "in 0..=1")?;
        check(self.magnitude_std >= 0.0, "magnitude_std", self.magnitude_std, "0 or more")?;
        if self.weights.is_empty() {
            return Ok(());
        }
        let count = self.weights.len();
        check(count == self.ops.len(), "the number of weights", count as f64, "that of the ops, or 0")?;
        for &weight in &self.weights {
            check(weight.is_finite() && weight >= 0.0, "weights", weight, "finite and not below 0")?;
        }
        let possible = self.weights.iter().filter(|&&weight| weight > 0.0).count();
        check(self.num_layers <= possible, "num_layers", layers, "at most the number of weights above 0")
    }

    /// Draws the first layer of an image: `None` if the picked operation is not applied.
    ///
    /// # Errors
    /// Returns the errors of [`RandAugment::validate`], or an error if the magnitude is not finite.
    pub fn sample(&self, magnitude: f64, rng: &mut impl Rng) -> Result<Option<DrawnOp>> {
        self.validate()?;
        check_noise(magnitude, self.magnitude_std)?;
        Ok(self.draw(magnitude, &mut Vec::new(), &self.config, rng))
    }

    /// Draws all layers of an image and returns those that are applied.
    ///
    /// # Errors
    /// Returns the errors of [`RandAugment::sample`].
    pub fn sample_image(&self, magnitude: f64, rng: &mut impl Rng) -> Result<Vec<DrawnOp>> {
        self.validate()?;
        check_noise(magnitude, self.magnitude_std)?;
        let mut picked = Vec::new();
        let layers =
            (0..self.num_layers).filter_map(|_| self.draw(magnitude, &mut picked, &self.config, rng));
        Ok(layers.collect())
    }

    /// Draws one layer; `picked` holds the operations of the layers before.
    fn draw(
        &self,
        magnitude: f64,
        picked: &mut Vec<usize>,
        config: &OpConfig,
        rng: &mut impl Rng,
    ) -> Option<DrawnOp> {
        let index = if self.weights.is_empty() {
            rng.random_range(0..self.ops.len() as u32) as usize
        } else {
            let index = self.pick_weighted(picked, rng);
            picked.push(index);
            index
        };
        let max = config.levels.max_level;
        rng.random_bool(self.prob)
            .then(|| DrawnOp::draw(self.ops[index], magnitude, self.magnitude_std, max, rng))
    }

    /// Picks an operation by weight among those not picked yet.
    fn pick_weighted(&self, picked: &[usize], rng: &mut impl Rng) -> usize {
        let left = |&(i, &weight): &(usize, &f64)| weight > 0.0 && !picked.contains(&i);
        let weights = || self.weights.iter().enumerate().filter(left);
        let mut rest = rng.random::<f64>() * weights().map(|(_, weight)| weight).sum::<f64>();
        let mut last = 0;
        for (i, weight) in weights() {
            last = i;
            rest -= weight;
            if rest < 0.0 {
                break;
            }
        }
        last
    }

    /// Augments an image in place.
    ///
    /// # Errors
    /// Returns the errors of [`RandAugment::sample`], or an error if the image is empty; the image
    /// is then unchanged.
    pub fn apply(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        self.run(img, magnitude, &self.config, rng, scratch)
    }

    /// Does the same as [`RandAugment::apply`] with other settings.
    pub(super) fn run(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        config: &OpConfig,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        check_not_empty(img)?;
        self.validate()?;
        check_noise(magnitude, self.magnitude_std)?;
        scratch.with(|PickedOps(picked), scratch| {
            picked.clear();
            for _ in 0..self.num_layers {
                if let Some(drawn) = self.draw(magnitude, picked, config, rng) {
                    drawn.apply(img, config, scratch)?;
                }
            }
            Ok(())
        })
    }
}

/// Indices of the operations picked so far for an image, if they are picked by weight.
#[derive(Debug, Default)]
struct PickedOps(Vec<usize>);
