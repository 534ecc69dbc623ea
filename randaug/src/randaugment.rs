//! RandAugment (Cubuk et al. 2020) as timm 0.4.12 runs it.

use image::RgbImage;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use crate::error::{Error, Result, check};
use crate::level::MAX_LEVEL;
use crate::op::{Op, OpConfig};
use crate::scratch::Scratch;

/// Picks `num_layers` operations, with replacement, and applies each with probability `prob`.
///
/// The magnitude is not part of the policy but an argument of each call, so that a curriculum can raise it. Every
/// operation draws its own: clip(N(magnitude, magnitude_std), 0, 10). The default is the reference's
/// `rand-m{magnitude}-mstd0.5-inc1`.
///
/// ```
/// use randaug::{Purpose, RandAugment, Scratch, sample_rng};
/// let mut picture = image::RgbImage::from_fn(32, 32, |x, y| image::Rgb([x as u8 * 8, y as u8 * 8, 90]));
/// let mut rng = sample_rng(0, 0, 0, Purpose::Augment);
/// RandAugment::default().apply(&mut picture, 9.0, &mut rng, &mut Scratch::new())?;
/// # Ok::<(), randaug::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct RandAugment {
    /// What can be picked, each with the same chance. Default [`Op::INCREASING`].
    pub ops: Vec<Op>,
    /// Operations picked for a picture. Default 2.
    pub num_layers: usize,
    /// Chance that a picked operation is applied. Default 0.5.
    pub prob: f64,
    /// Standard deviation of the magnitude; infinity draws it uniformly from 0 to the magnitude. Default 0.5.
    pub magnitude_std: f64,
    /// Interpolation, fill colour and reach of the translations.
    pub config: OpConfig,
}

impl Default for RandAugment {
    fn default() -> Self {
        Self {
            ops: Op::INCREASING.to_vec(),
            num_layers: 2,
            prob: 0.5,
            magnitude_std: 0.5,
            config: OpConfig::default(),
        }
    }
}

/// An operation with its drawn strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnOp {
    /// The operation.
    pub op: Op,
    /// Its magnitude, in 0..=10.
    pub magnitude: f64,
    /// Whether it goes the other way, where it has two.
    pub negate: bool,
}

impl RandAugment {
    /// Checks all parameters.
    ///
    /// # Errors
    /// If there is nothing to pick from, `prob` is not in 0..=1, or `magnitude_std` is negative or not a number.
    pub fn validate(&self) -> Result<()> {
        check(!self.ops.is_empty(), "the number of ops", 0.0, "at least 1")?;
        check((0.0..=1.0).contains(&self.prob), "prob", self.prob, "in 0..=1")?;
        check(self.magnitude_std >= 0.0, "magnitude_std", self.magnitude_std, "0 or more")
    }

    /// Draws one layer: `None` if the coin says that the picked operation is left out.
    ///
    /// # Errors
    /// As [`RandAugment::validate`], or if the magnitude is not finite.
    pub fn sample(&self, magnitude: f64, rng: &mut impl Rng) -> Result<Option<DrawnOp>> {
        self.validate()?;
        check(magnitude.is_finite(), "magnitude", magnitude, "finite")?;
        let op = self.ops[rng.random_range(0..self.ops.len() as u32) as usize];
        if !rng.random_bool(self.prob) {
            return Ok(None);
        }
        let magnitude = self.draw_magnitude(magnitude, rng);
        Ok(Some(DrawnOp { op, magnitude, negate: rng.random_bool(0.5) }))
    }

    fn draw_magnitude(&self, magnitude: f64, rng: &mut impl Rng) -> f64 {
        let drawn = if self.magnitude_std.is_infinite() {
            magnitude * rng.random::<f64>()
        } else {
            magnitude + self.magnitude_std * rng.sample::<f64, _>(StandardNormal)
        };
        drawn.clamp(0.0, MAX_LEVEL)
    }

    /// Augments a picture in place.
    ///
    /// # Errors
    /// As [`RandAugment::sample`], or if the picture is empty; the picture is then unchanged.
    pub fn apply(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if img.is_empty() {
            return Err(Error::EmptyImage { width: img.width(), height: img.height() });
        }
        for _ in 0..self.num_layers {
            if let Some(drawn) = self.sample(magnitude, rng)? {
                drawn.op.apply_with(img, drawn.magnitude, drawn.negate, &self.config, scratch)?;
            }
        }
        Ok(())
    }
}
