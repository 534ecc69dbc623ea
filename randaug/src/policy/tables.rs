//! The published sub-policies of AutoAugment, and the three operations of 3-Augment.

use super::{SubOp, SubPolicy};
use crate::op::Op;

const fn sub(op: Op, prob: f64, magnitude: f64) -> SubOp {
    SubOp { op, prob, magnitude }
}

// The two forms of each policy differ only in the operation used for "Posterize".
macro_rules! original {
    ($posterize:ident) => {
        &[
            &[sub(Op::$posterize, 0.4, 8.0), sub(Op::Rotate, 0.6, 9.0)],
            &[sub(Op::Solarize, 0.6, 5.0), sub(Op::AutoContrast, 0.6, 5.0)],
            &[sub(Op::Equalize, 0.8, 8.0), sub(Op::Equalize, 0.6, 3.0)],
            &[sub(Op::$posterize, 0.6, 7.0), sub(Op::$posterize, 0.6, 6.0)],
            &[sub(Op::Equalize, 0.4, 7.0), sub(Op::Solarize, 0.2, 4.0)],
            &[sub(Op::Equalize, 0.4, 4.0), sub(Op::Rotate, 0.8, 8.0)],
            &[sub(Op::Solarize, 0.6, 3.0), sub(Op::Equalize, 0.6, 7.0)],
            &[sub(Op::$posterize, 0.8, 5.0), sub(Op::Equalize, 1.0, 2.0)],
            &[sub(Op::Rotate, 0.2, 3.0), sub(Op::Solarize, 0.6, 8.0)],
            &[sub(Op::Equalize, 0.6, 8.0), sub(Op::$posterize, 0.4, 6.0)],
            &[sub(Op::Rotate, 0.8, 8.0), sub(Op::Color, 0.4, 0.0)],
            &[sub(Op::Rotate, 0.4, 9.0), sub(Op::Equalize, 0.6, 2.0)],
            &[sub(Op::Equalize, 0.0, 7.0), sub(Op::Equalize, 0.8, 8.0)],
            &[sub(Op::Invert, 0.6, 4.0), sub(Op::Equalize, 1.0, 8.0)],
            &[sub(Op::Color, 0.6, 4.0), sub(Op::Contrast, 1.0, 8.0)],
            &[sub(Op::Rotate, 0.8, 8.0), sub(Op::Color, 1.0, 2.0)],
            &[sub(Op::Color, 0.8, 8.0), sub(Op::Solarize, 0.8, 7.0)],
            &[sub(Op::Sharpness, 0.4, 7.0), sub(Op::Invert, 0.6, 8.0)],
            &[sub(Op::ShearX, 0.6, 5.0), sub(Op::Equalize, 1.0, 9.0)],
            &[sub(Op::Color, 0.4, 0.0), sub(Op::Equalize, 0.6, 3.0)],
            &[sub(Op::Equalize, 0.4, 7.0), sub(Op::Solarize, 0.2, 4.0)],
            &[sub(Op::Solarize, 0.6, 5.0), sub(Op::AutoContrast, 0.6, 5.0)],
            &[sub(Op::Invert, 0.6, 4.0), sub(Op::Equalize, 1.0, 8.0)],
            &[sub(Op::Color, 0.6, 4.0), sub(Op::Contrast, 1.0, 8.0)],
            &[sub(Op::Equalize, 0.8, 8.0), sub(Op::Equalize, 0.6, 3.0)],
        ]
    };
}

macro_rules! v0 {
    ($posterize:ident) => {
        &[
            &[sub(Op::Equalize, 0.8, 1.0), sub(Op::ShearY, 0.8, 4.0)],
            &[sub(Op::Color, 0.4, 9.0), sub(Op::Equalize, 0.6, 3.0)],
            &[sub(Op::Color, 0.4, 1.0), sub(Op::Rotate, 0.6, 8.0)],
            &[sub(Op::Solarize, 0.8, 3.0), sub(Op::Equalize, 0.4, 7.0)],
            &[sub(Op::Solarize, 0.4, 2.0), sub(Op::Solarize, 0.6, 2.0)],
            &[sub(Op::Color, 0.2, 0.0), sub(Op::Equalize, 0.8, 8.0)],
            &[sub(Op::Equalize, 0.4, 8.0), sub(Op::SolarizeAdd, 0.8, 3.0)],
            &[sub(Op::ShearX, 0.2, 9.0), sub(Op::Rotate, 0.6, 8.0)],
            &[sub(Op::Color, 0.6, 1.0), sub(Op::Equalize, 1.0, 2.0)],
            &[sub(Op::Invert, 0.4, 9.0), sub(Op::Rotate, 0.6, 0.0)],
            &[sub(Op::Equalize, 1.0, 9.0), sub(Op::ShearY, 0.6, 3.0)],
            &[sub(Op::Color, 0.4, 7.0), sub(Op::Equalize, 0.6, 0.0)],
            &[sub(Op::$posterize, 0.4, 6.0), sub(Op::AutoContrast, 0.4, 7.0)],
            &[sub(Op::Solarize, 0.6, 8.0), sub(Op::Color, 0.6, 9.0)],
            &[sub(Op::Solarize, 0.2, 4.0), sub(Op::Rotate, 0.8, 9.0)],
            &[sub(Op::Rotate, 1.0, 7.0), sub(Op::TranslateYRel, 0.8, 9.0)],
            &[sub(Op::ShearX, 0.0, 0.0), sub(Op::Solarize, 0.8, 4.0)],
            &[sub(Op::ShearY, 0.8, 0.0), sub(Op::Color, 0.6, 4.0)],
            &[sub(Op::Color, 1.0, 0.0), sub(Op::Rotate, 0.6, 2.0)],
            &[sub(Op::Equalize, 0.8, 4.0), sub(Op::Equalize, 0.0, 8.0)],
            &[sub(Op::Equalize, 1.0, 4.0), sub(Op::AutoContrast, 0.6, 2.0)],
            &[sub(Op::ShearY, 0.4, 7.0), sub(Op::SolarizeAdd, 0.6, 7.0)],
            &[sub(Op::$posterize, 0.8, 2.0), sub(Op::Solarize, 0.6, 10.0)],
            &[sub(Op::Solarize, 0.6, 8.0), sub(Op::Equalize, 0.6, 1.0)],
            &[sub(Op::Color, 0.8, 6.0), sub(Op::Rotate, 0.4, 5.0)],
        ]
    };
}

pub(super) const ORIGINAL: &[SubPolicy] = original!(PosterizeOriginal);
pub(super) const ORIGINAL_R: &[SubPolicy] = original!(PosterizeIncreasing);
pub(super) const V0: &[SubPolicy] = v0!(Posterize);
pub(super) const V0_R: &[SubPolicy] = v0!(PosterizeIncreasing);

/// 3-Augment (Touvron et al. 2022): inverting from 128 up, gray, blur of a random radius.
pub(super) const THREE: &[SubPolicy] = &[
    &[sub(Op::Solarize, 1.0, 5.0)],
    &[sub(Op::Desaturate, 1.0, 10.0)],
    &[sub(Op::GaussianBlurRand, 1.0, 10.0)],
];
