//! TrivialAugment Wide (Müller and Hutter 2021) as torchvision runs it: one operation per image.

use image::RgbImage;
use rand::{Rng, RngExt};

use crate::affine::Interpolation;
use crate::apply::OpConfig;
use crate::error::{Result, check, check_not_empty};
use crate::level::{Arg, MAX_LEVEL};
use crate::op::Op;
use crate::scratch::Scratch;

/// Operations in torchvision's order; `None` leaves the image unchanged.
const SPACE: [Option<Op>; 14] = [
    None,
    Some(Op::ShearX),
    Some(Op::ShearY),
    Some(Op::TranslateX),
    Some(Op::TranslateY),
    Some(Op::Rotate),
    Some(Op::Brightness),
    Some(Op::Color),
    Some(Op::Contrast),
    Some(Op::Sharpness),
    Some(Op::Posterize),
    Some(Op::Solarize),
    Some(Op::AutoContrast),
    Some(Op::Equalize),
];

/// Picks one operation for each image and one of `bins` strengths for it.
///
/// The magnitude of a call, 0 to 10, determines how many of the strengths can be picked: at 10 all
/// of them, as published; at 0 only the weakest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrivialAugmentWide {
    /// Number of strengths of an operation. Default 31.
    pub bins: u32,
    /// Interpolation (default nearest) and fill color (default black), as in torchvision.
    pub config: OpConfig,
}

impl Default for TrivialAugmentWide {
    fn default() -> Self {
        let config = OpConfig { interpolation: Interpolation::Nearest, fill: [0; 3], ..OpConfig::default() };
        Self { bins: 31, config }
    }
}

impl TrivialAugmentWide {
    /// Operations, all equally likely; `None` leaves the image unchanged.
    pub const SPACE: [Option<Op>; 14] = SPACE;

    /// torchvision's magnitude of an operation of the space in a bin: shear, pixels, degrees,
    /// change of a factor, bits or threshold, without its sign.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 2 bins or the bin is not one of them.
    pub fn magnitude(&self, op: Op, bin: u32) -> Result<f64> {
        check(self.bins >= 2, "bins", f64::from(self.bins), "at least 2")?;
        check(bin < self.bins, "bin", f64::from(bin), "below the number of bins")?;
        let even = |start, end| f64::from(linspace(start, end, self.bins, bin));
        Ok(match op {
            Op::ShearX | Op::ShearY => even(0.0, 0.99),
            Op::TranslateX | Op::TranslateY => even(0.0, 32.0),
            Op::Rotate => even(0.0, 135.0),
            Op::Brightness | Op::Color | Op::Contrast | Op::Sharpness => even(0.0, 0.99),
            Op::Posterize => {
                let per_bit = (f64::from(self.bins) - 1.0) / 6.0;
                8.0 - f64::from((bin as f32 / per_bit as f32).round_ties_even())
            }
            Op::Solarize => even(255.0, 0.0),
            _ => 0.0,
        })
    }

    /// The argument for [`Op::apply_arg`] of an operation of the space in a bin.
    ///
    /// # Errors
    /// Returns the errors of [`TrivialAugmentWide::magnitude`].
    pub fn arg(&self, op: Op, bin: u32, negate: bool) -> Result<Arg> {
        let size = self.magnitude(op, bin)?;
        let value = if negate { -size } else { size };
        Ok(match op {
            Op::ShearX => Arg::Float(shear_angle(value).tan()),
            Op::ShearY => {
                let angle = shear_angle(value);
                Arg::Float(-((-angle).sin() / angle.cos()))
            }
            // An image that moves right reads its pixels from the left.
            Op::TranslateX | Op::TranslateY => Arg::Float(-value.trunc()),
            Op::Rotate => Arg::Float(value),
            Op::Brightness | Op::Color | Op::Contrast | Op::Sharpness => Arg::Float(1.0 + value),
            Op::Posterize => Arg::Int(size as i32),
            // Bytes below a fractional threshold are those below the next whole one.
            Op::Solarize => Arg::Int(size.ceil() as i32),
            _ => Arg::None,
        })
    }

    /// Draws an operation with its argument; `None` leaves the image unchanged.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 2 bins or the magnitude is not in 0..=10.
    pub fn sample(&self, magnitude: f64, rng: &mut impl Rng) -> Result<Option<(Op, Arg)>> {
        check(self.bins >= 2, "bins", f64::from(self.bins), "at least 2")?;
        check((0.0..=MAX_LEVEL).contains(&magnitude), "magnitude", magnitude, "in 0..=10")?;
        let top = (f64::from(self.bins - 1) * magnitude / MAX_LEVEL).round() as u32;
        let Some(op) = SPACE[rng.random_range(0..SPACE.len() as u32) as usize] else { return Ok(None) };
        let (bin, negate) = (rng.random_range(0..=top), rng.random_bool(0.5));
        Ok(Some((op, self.arg(op, bin, negate)?)))
    }

    /// Augments an image in place; magnitude 10 is the method as published.
    ///
    /// # Errors
    /// Returns the errors of [`TrivialAugmentWide::sample`], or an error if the image is empty; the
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

    /// Does the same as [`TrivialAugmentWide::apply`] with other settings.
    pub(super) fn run(
        &self,
        img: &mut RgbImage,
        magnitude: f64,
        config: &OpConfig,
        rng: &mut impl Rng,
        scratch: &mut Scratch,
    ) -> Result<()> {
        check_not_empty(img)?;
        match self.sample(magnitude, rng)? {
            Some((op, arg)) => op.apply_arg(img, arg, config, scratch),
            None => Ok(()),
        }
    }
}

/// Returns the angle of a shear; torchvision converts it to degrees and back.
fn shear_angle(shear: f64) -> f64 {
    shear.atan().to_degrees().to_radians()
}

/// Computes torch's `linspace` in f32: from either end to the middle, with one rounding per sum.
fn linspace(start: f32, end: f32, steps: u32, i: u32) -> f32 {
    let step = (end - start) / (steps - 1) as f32;
    if i < steps / 2 { step.mul_add(i as f32, start) } else { (-step).mul_add((steps - 1 - i) as f32, end) }
}
