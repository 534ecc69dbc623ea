//! From a magnitude of 0..10 to the argument of an operation (timm 0.4.12, `auto_augment.py`).

use crate::error::{Error, Result, check};
use crate::op::Op;

/// The largest magnitude; what lies outside 0..10 is clipped.
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

/// How far the translations reach at magnitude 10.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LevelScale {
    /// `TranslateX` and `TranslateY`, in pixels. Default 100 (the reference's int(0.45 * 224)).
    pub translate_const: f64,
    /// `TranslateXRel` and `TranslateYRel`, as a share of the edge. Default 0.45.
    pub translate_pct: f64,
}

impl Default for LevelScale {
    fn default() -> Self {
        Self { translate_const: 100.0, translate_pct: 0.45 }
    }
}

impl Op {
    /// The operation's argument at a magnitude; `negate` is the coin that picks the direction.
    ///
    /// The magnitude is clipped to 0..10 first. The order of the arithmetic is that of timm, so that fractional
    /// magnitudes give the same f64.
    ///
    /// # Errors
    /// If the magnitude is not a number.
    ///
    /// ```
    /// use randaug::{Arg, Op};
    /// assert_eq!(Op::Rotate.level_to_arg(5.0, true, &Default::default())?, Arg::Float(-15.0));
    /// assert_eq!(Op::SolarizeIncreasing.level_to_arg(1.0, false, &Default::default())?, Arg::Int(231));
    /// # Ok::<(), randaug::Error>(())
    /// ```
    pub fn level_to_arg(self, magnitude: f64, negate: bool, scale: &LevelScale) -> Result<Arg> {
        check(!magnitude.is_nan(), "magnitude", magnitude, "a number")?;
        let share = magnitude.clamp(0.0, MAX_LEVEL) / MAX_LEVEL;
        let signed = |value: f64| if negate { -value } else { value };
        // The casts truncate towards zero, as Python's int() does.
        let whole = |top: f64| (share * top) as i32;
        Ok(match self {
            Op::AutoContrast | Op::Equalize | Op::Invert => Arg::None,
            Op::Rotate => Arg::Float(signed(share * 30.0)),
            Op::Posterize => Arg::Int(whole(4.0)),
            Op::PosterizeIncreasing => Arg::Int(4 - whole(4.0)),
            Op::PosterizeOriginal => Arg::Int(whole(4.0) + 4),
            Op::Solarize => Arg::Int(whole(256.0)),
            Op::SolarizeIncreasing => Arg::Int(256 - whole(256.0)),
            Op::SolarizeAdd => Arg::Int(whole(110.0)),
            Op::Color | Op::Contrast | Op::Brightness | Op::Sharpness => Arg::Float(share * 1.8 + 0.1),
            Op::ColorIncreasing
            | Op::ContrastIncreasing
            | Op::BrightnessIncreasing
            | Op::SharpnessIncreasing => Arg::Float(1.0 + signed(share * 0.9)),
            Op::ShearX | Op::ShearY => Arg::Float(signed(share * 0.3)),
            Op::TranslateX | Op::TranslateY => Arg::Float(signed(share * scale.translate_const)),
            Op::TranslateXRel | Op::TranslateYRel => Arg::Float(signed(share * scale.translate_pct)),
        })
    }
}
