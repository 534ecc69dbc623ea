//! Parsing timm's policy strings.

use std::str::FromStr;

use super::policy_text::{PolicyText, nearest};
use super::{AugMix, AutoAugment, AutoPolicy, Policy, RandAugment, Scheme, TrivialAugmentWide};
use crate::error::{Error, Result};
use crate::level::MAX_LEVEL;
use crate::op::Op;

const RAND: &[&str] = &["m", "n", "p", "mstd", "mmax", "inc", "w", "t"];
const AUGMIX: &[&str] = &["m", "w", "d", "a", "b", "mstd"];
const AUTO: &[&str] = &["mstd"];
const TRIVIAL: &str = "ta_wide";
const NAMES: [&str; 8] = ["rand", "augmix", TRIVIAL, "original", "originalr", "v0", "v0r", "3a"];

/// A standard deviation of the magnitude above this means a uniform draw.
const UNIFORM: f64 = 100.0;

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = text.split('-').next().unwrap_or_default();
        if let Some(policy) = AutoPolicy::ALL.into_iter().find(|policy| policy.name() == name) {
            return auto(text, policy);
        }
        match name {
            "rand" => rand(text),
            "augmix" => augmix(text),
            TRIVIAL => trivial(text),
            _ => {
                let nearest = nearest(name, &NAMES).unwrap_or_default();
                let all = NAMES.join(", ");
                let problem =
                    format!("there is no policy {name:?}, did you mean {nearest:?}? Known are {all}");
                Err(Error::Policy { text: text.to_owned(), problem })
            }
        }
    }
}

fn auto(text: &str, policy: AutoPolicy) -> Result<Policy> {
    let parsed = PolicyText::split(text, AUTO)?;
    let auto = AutoAugment { magnitude_std: noise(&parsed, 0.0)?, ..AutoAugment::new(policy) };
    Ok(Policy { text: parsed.canonical(AUTO), magnitude: MAX_LEVEL, scheme: Scheme::Auto(auto) })
}

fn trivial(text: &str) -> Result<Policy> {
    let parsed = PolicyText::split(text, &[])?;
    let scheme = Scheme::Trivial(TrivialAugmentWide::default());
    Ok(Policy { text: parsed.canonical(&[]), magnitude: MAX_LEVEL, scheme })
}

fn rand(text: &str) -> Result<Policy> {
    let parsed = PolicyText::split(text, RAND)?;
    let (ops, weights) = choices(&parsed)?;
    let mut rand = RandAugment {
        ops: ops.into(),
        weights,
        num_layers: parsed.number("n", 2, "a whole number")?,
        prob: parsed.number("p", 0.5, "a number in 0..=1")?,
        magnitude_std: noise(&parsed, 0.0)?,
        ..RandAugment::default()
    };
    if rand.num_layers == 0 {
        return Err(parsed.expected("n", "at least 1"));
    }
    let max: f64 = parsed.number("mmax", MAX_LEVEL, "a number above 0")?;
    if !(max.is_finite() && max > 0.0) {
        return Err(parsed.expected("mmax", "a number above 0"));
    }
    rand.config.levels.max_level = max;
    rand.validate().map_err(|error| parsed.error(error.to_string()))?;
    let magnitude = magnitude(&parsed, MAX_LEVEL)?;
    Ok(Policy { text: parsed.canonical(RAND), magnitude, scheme: Scheme::Rand(rand) })
}

fn augmix(text: &str) -> Result<Policy> {
    let parsed = PolicyText::split(text, AUGMIX)?;
    let depth = match parsed.value("d") {
        // timm draws 1 to 3 if the number is not above 0.
        None | Some("0") => None,
        Some(_) => Some(parsed.number("d", 1, "a whole number")?),
    };
    let mix = AugMix {
        width: parsed.number("w", 3, "a whole number")?,
        depth,
        alpha: parsed.number("a", 1.0, "a number above 0")?,
        sequential_blend: parsed.switch("b")?,
        magnitude_std: noise(&parsed, f64::INFINITY)?,
        ..AugMix::default()
    };
    mix.validate().map_err(|error| parsed.error(error.to_string()))?;
    let magnitude = magnitude(&parsed, 3.0)?;
    Ok(Policy { text: parsed.canonical(AUGMIX), magnitude, scheme: Scheme::AugMix(mix) })
}

fn magnitude(parsed: &PolicyText<'_>, default: f64) -> Result<f64> {
    let magnitude: f64 = parsed.number("m", default, "a number")?;
    if magnitude.is_finite() { Ok(magnitude) } else { Err(parsed.expected("m", "a finite number")) }
}

fn noise(parsed: &PolicyText<'_>, default: f64) -> Result<f64> {
    let std: f64 = parsed.number("mstd", default, "a number")?;
    if std.is_nan() || std < 0.0 {
        return Err(parsed.expected("mstd", "a number that is 0 or more"));
    }
    Ok(if std > UNIFORM { f64::INFINITY } else { std })
}

/// The operations and their weights.
fn choices(parsed: &PolicyText<'_>) -> Result<(Vec<Op>, Vec<f64>)> {
    let plain = if parsed.switch("inc")? { Op::INCREASING } else { Op::PLAIN };
    match (parsed.value("w"), parsed.value("t")) {
        (None, None) => Ok((plain.to_vec(), Vec::new())),
        (Some("0"), None) => Ok((plain.to_vec(), PLAIN_WEIGHTS.to_vec())),
        (None, Some("weights")) => Ok(WEIGHTS.iter().copied().unzip()),
        (None, Some("3aw")) => Ok(WEIGHTS_3A.iter().copied().unzip()),
        (None, Some("3a")) => {
            Ok((vec![Op::SolarizeIncreasing, Op::Desaturate, Op::GaussianBlur], Vec::new()))
        }
        (Some(_), Some(_)) => Err(parsed.error("options \"w\" and \"t\" exclude each other".to_owned())),
        (Some(_), None) => Err(parsed.expected("w", "0, the only set of weights")),
        (None, Some(set)) => {
            let nearest = nearest(set, &["weights", "3a", "3aw"]).unwrap_or_default();
            Err(parsed.expected("t", &format!("weights, 3a or 3aw (did you mean {nearest:?}?)")))
        }
    }
}

/// `w0` (timm up to 0.9): one weight for each of [`Op::PLAIN`], also of their increasing forms.
const PLAIN_WEIGHTS: [f64; 15] =
    [0.025, 0.005, 0.0, 0.3, 0.0, 0.005, 0.005, 0.025, 0.005, 0.005, 0.025, 0.2, 0.2, 0.1, 0.1];

/// `tweights` (timm from 1.0).
const WEIGHTS: [(Op, f64); 15] = [
    (Op::Rotate, 3.0),
    (Op::ShearX, 2.0),
    (Op::ShearY, 2.0),
    (Op::TranslateXRel, 1.0),
    (Op::TranslateYRel, 1.0),
    (Op::ColorIncreasing, 0.25),
    (Op::SharpnessIncreasing, 0.25),
    (Op::AutoContrast, 0.25),
    (Op::SolarizeIncreasing, 0.05),
    (Op::SolarizeAdd, 0.05),
    (Op::ContrastIncreasing, 0.05),
    (Op::BrightnessIncreasing, 0.05),
    (Op::Equalize, 0.05),
    (Op::PosterizeIncreasing, 0.05),
    (Op::Invert, 0.05),
];

/// `t3aw`: 3-Augment and, less often, the others.
const WEIGHTS_3A: [(Op, f64); 14] = [
    (Op::SolarizeIncreasing, 6.0),
    (Op::Desaturate, 6.0),
    (Op::GaussianBlur, 6.0),
    (Op::Rotate, 3.0),
    (Op::ShearX, 2.0),
    (Op::ShearY, 2.0),
    (Op::PosterizeIncreasing, 1.0),
    (Op::AutoContrast, 1.0),
    (Op::ColorIncreasing, 1.0),
    (Op::SharpnessIncreasing, 1.0),
    (Op::ContrastIncreasing, 1.0),
    (Op::BrightnessIncreasing, 1.0),
    (Op::Equalize, 1.0),
    (Op::Invert, 1.0),
];
