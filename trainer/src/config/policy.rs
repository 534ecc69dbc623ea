//! The augmentation policy of a run.

use std::fmt;
use std::str::FromStr;

use image::RgbImage;
use randaug::{Policy, Scratch};
use serde::{Deserialize, Serialize};

use crate::util::string_serde::stored_as_text;

/// Magnitude at which recipes end; a policy is applied at its own strength there.
const FULL: f64 = 9.0;
/// Largest magnitude of a policy.
const LARGEST: f64 = 10.0;
const NONE: &str = "none";

/// An augmentation policy that replaces the recipe's RandAugment: text in timm's spelling, or
/// `none`.
///
/// At a plan's magnitude of 9, where recipes end, the policy is applied as written, and below it
/// proportionally less, so that a curriculum ramps up any policy: at 3, `rand-m6` is applied at 2
/// and `v0` at a third of its published strength.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyName(Option<Policy>);

impl PolicyName {
    /// Returns true for no augmentation, whatever the magnitude.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Augments an image at a plan's magnitude, 0 to 10.
    ///
    /// # Errors
    /// Returns an error if the image is empty.
    pub(crate) fn apply(
        &self,
        image: &mut RgbImage,
        magnitude: f64,
        rng: &mut impl rand::Rng,
        scratch: &mut Scratch,
    ) -> randaug::Result<()> {
        let Some(policy) = &self.0 else { return Ok(()) };
        let own = policy.magnitude();
        policy.apply(image, Some((own * magnitude / FULL).min(own.max(LARGEST))), rng, scratch)
    }
}

impl FromStr for PolicyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self(None));
        }
        text.parse().map(|policy| Self(Some(policy))).map_err(|e| format!("{e}; or `{NONE}`"))
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match &self.0 {
            Some(policy) => policy.fmt(f),
            None => f.write_str(NONE),
        }
    }
}

stored_as_text!(PolicyName);

#[cfg(test)]
mod tests {
    use randaug::{Purpose, sample_rng};

    use super::*;

    fn photo() -> RgbImage {
        RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * 6) as u8, (y * 6) as u8, (x * y) as u8]))
    }

    #[test]
    fn a_plan_at_its_end_applies_the_policy_as_written_and_before_it_less() {
        for (text, end, third) in [("rand-m6-mstd0-inc1", 6.0, 2.0), ("v0", 10.0, 10.0 / 3.0)] {
            let (policy, name): (Policy, PolicyName) = (text.parse().unwrap(), text.parse().unwrap());
            for (magnitude, own) in [(9.0, end), (3.0, third), (0.0, 0.0)] {
                for index in 0..20 {
                    let rng = || sample_rng(7, 0, index, Purpose::Augment);
                    let (mut ours, mut theirs, mut scratch) = (photo(), photo(), Scratch::new());
                    name.apply(&mut ours, magnitude, &mut rng(), &mut scratch).unwrap();
                    policy.apply(&mut theirs, Some(own), &mut rng(), &mut scratch).unwrap();
                    assert!(ours == theirs, "{text} at {magnitude}, sample {index}");
                }
            }
            // Above the end of recipes the magnitude stays within the largest one, which `v0`
            // refuses to exceed.
            let mut scratch = Scratch::new();
            let rng = &mut sample_rng(7, 0, 0, Purpose::Augment);
            name.apply(&mut photo(), 10.0, rng, &mut scratch).unwrap();
        }
    }

    #[test]
    fn none_leaves_the_image_and_texts_are_kept() {
        let none: PolicyName = "none".parse().unwrap();
        let mut image = photo();
        let rng = &mut sample_rng(0, 0, 0, Purpose::Augment);
        none.apply(&mut image, 9.0, rng, &mut Scratch::new()).unwrap();
        assert!(image == photo());
        for text in ["none", "v0", "rand-m9-mstd0.5-inc1", "augmix-m3-w3", "ta_wide", "3a"] {
            assert_eq!(text.parse::<PolicyName>().unwrap().to_string(), text);
        }
        let error = "rnd-m9".parse::<PolicyName>().unwrap_err();
        assert!(error.contains("rand") && error.contains("none"), "{error}");
    }
}
