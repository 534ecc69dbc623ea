//! The argument of an operation at a magnitude of 0..10 (timm's `auto_augment.py`).

use crate::error::{Error, Result, check};
use crate::op::Op;

/// The largest magnitude of the usual scale.
pub const MAX_LEVEL: f64 = 10.0;

/// The argument of an operation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Arg {
    /// The operation takes none.
    None,
    /// Bits, threshold or amount to add.
    Int(i32),
    /// Degrees, factor, pixels or share of an edge.
    Float(f64),
}

impl Arg {
    /// The whole number that `op` asks for.
    pub(crate) fn int(self, op: Op) -> Result<i32> {
        match self {
            Arg::Int(value) => Ok(value),
            other => Err(other.mismatch(op, "a whole number")),
        }
    }

    /// The finite number that `op` asks for.
    pub(crate) fn float(self, op: Op) -> Result<f64> {
        match self {
            Arg::Float(value) if value.is_finite() => Ok(value),
            other => Err(other.mismatch(op, "a finite number")),
        }
    }

    fn mismatch(self, op: Op, expected: &'static str) -> Error {
        Error::Argument { op: op.name(), expected, got: format!("{self:?}") }
    }
}

/// Conversion of magnitudes to arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelScale {
    /// `TranslateX` and `TranslateY`, in pixels. Default 100 (the reference's int(0.45 * 224)).
    pub translate_const: f64,
    /// `TranslateXRel` and `TranslateYRel`, as a share of the edge. Default 0.45.
    pub translate_pct: f64,
    /// Upper limit of magnitudes. Default [`MAX_LEVEL`]; timm's `mmax` raises it, and the
    /// operations then go beyond the ranges that they are documented with.
    pub max_level: f64,
}

impl Default for LevelScale {
    fn default() -> Self {
        Self { translate_const: 100.0, translate_pct: 0.45, max_level: MAX_LEVEL }
    }
}

impl Op {
    /// Returns the operation's argument at a magnitude; `negate` picks the direction.
    ///
    /// The magnitude is clipped to 0..=`max_level` first. The order of the arithmetic is that of
    /// timm, so that fractional magnitudes give the same f64.
    ///
    /// # Errors
    /// Returns an error if the magnitude is not a number, or `max_level` not finite and 0 or more.
    ///
    /// ```
    /// use randaug::{Arg, Op};
    /// assert_eq!(Op::Rotate.level_to_arg(5.0, true, &Default::default())?, Arg::Float(-15.0));
    /// assert_eq!(Op::SolarizeIncreasing.level_to_arg(1.0, false, &Default::default())?, Arg::Int(231));
    /// # Ok::<(), randaug::Error>(())
    /// ```
    pub fn level_to_arg(self, magnitude: f64, negate: bool, scale: &LevelScale) -> Result<Arg> {
        check(!magnitude.is_nan(), "magnitude", magnitude, "a number")?;
        let max = scale.max_level;
        check(max.is_finite() && max >= 0.0, "max_level", max, "finite and not below 0")?;
        let level = magnitude.clamp(0.0, max);
        let share = level / MAX_LEVEL;
        let signed = |value: f64| if negate { -value } else { value };
        // The casts truncate towards zero, as Python's int() does.
        let whole = |top: f64| (share * top) as i32;
        let between = |low: f64, high: f64| (low + (high - low) * share).clamp(low, high);
        let around_one = |shift: f64| {
            let factor = 1.0 + signed(shift);
            // Up to level 10 the factor is above 0.1 except for a rounding error, which the
            // reference has too.
            if level > MAX_LEVEL { factor.max(0.1) } else { factor }
        };
        Ok(match self {
            Op::AutoContrast | Op::Equalize | Op::Invert => Arg::None,
            Op::Rotate => Arg::Float(signed(share * 30.0)),
            Op::Posterize => Arg::Int(whole(4.0)),
            Op::PosterizeIncreasing => Arg::Int(4 - whole(4.0)),
            Op::PosterizeOriginal => Arg::Int(whole(4.0) + 4),
            Op::Solarize => Arg::Int(whole(256.0).min(256)),
            Op::SolarizeIncreasing => Arg::Int(256 - whole(256.0).min(256)),
            Op::SolarizeAdd => Arg::Int(whole(110.0).min(128)),
            Op::Color | Op::Contrast | Op::Brightness | Op::Sharpness => Arg::Float(share * 1.8 + 0.1),
            Op::ColorIncreasing
            | Op::ContrastIncreasing
            | Op::BrightnessIncreasing
            | Op::SharpnessIncreasing => Arg::Float(around_one(share * 0.9)),
            Op::Desaturate => Arg::Float(between(0.5, 1.0)),
            Op::GaussianBlur => Arg::Float(between(0.1, 2.0)),
            Op::GaussianBlurRand => Arg::Float(between(0.0, 1.0)),
            Op::ShearX | Op::ShearY => Arg::Float(signed(share * 0.3)),
            Op::TranslateX | Op::TranslateY => Arg::Float(signed(share * scale.translate_const)),
            Op::TranslateXRel | Op::TranslateYRel => Arg::Float(signed(share * scale.translate_pct)),
        })
    }
}
