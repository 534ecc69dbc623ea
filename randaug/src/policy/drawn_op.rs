//! Drawing one operation with its strength from a policy's magnitude.

use image::RgbImage;
use rand::{Rng, RngExt};
use rand_distr::StandardNormal;

use crate::apply::{MAX_RANDOM_RADIUS, OpConfig};
use crate::crop::uniform;
use crate::error::{Result, check};
use crate::op::Op;
use crate::scratch::Scratch;

/// Largest number of operations, or chains of them, for one image; more are a mistake that would
/// take too much time or memory.
pub(super) const MAX_OPS: usize = 100;

/// Smallest radius of the random blur, in pixels.
const MIN_RANDOM_RADIUS: f64 = 0.1;

/// An operation with its drawn strength.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DrawnOp {
    /// The operation.
    pub op: Op,
    /// Its magnitude, from 0 to 10 or to the largest that the settings allow.
    pub magnitude: f64,
    /// Applies the other direction, if the operation has two.
    pub negate: bool,
}

impl DrawnOp {
    /// Applies the operation in place.
    ///
    /// # Errors
    /// Returns an error if the magnitude is not a number.
    pub fn apply(&self, img: &mut RgbImage, config: &OpConfig, scratch: &mut Scratch) -> Result<()> {
        self.op.apply_with(img, self.magnitude, self.negate, config, scratch)
    }

    /// Draws the strength of `op`: clip(N(magnitude, std), 0, max), or uniform from 0 to the
    /// magnitude if `std` is infinite; then the direction.
    pub(crate) fn draw(op: Op, magnitude: f64, std: f64, max: f64, rng: &mut impl Rng) -> Self {
        let drawn = if std.is_infinite() {
            magnitude * rng.random::<f64>()
        } else {
            magnitude + std * rng.sample::<f64, _>(StandardNormal)
        };
        let mut magnitude = drawn.clamp(0.0, max);
        let negate = rng.random_bool(0.5);
        if op == Op::GaussianBlurRand {
            // timm draws the radius when the operation is applied; here it becomes part of the
            // drawn magnitude.
            let per_level = MAX_RANDOM_RADIUS / crate::MAX_LEVEL;
            magnitude = uniform((MIN_RANDOM_RADIUS, per_level * magnitude), rng) / per_level;
        }
        Self { op, magnitude, negate }
    }
}

/// Checks mean and standard deviation of a magnitude.
pub(crate) fn check_noise(magnitude: f64, std: f64) -> Result<()> {
    check(magnitude.is_finite(), "magnitude", magnitude, "finite")?;
    check(std >= 0.0, "magnitude_std", std, "0 or more")
}
