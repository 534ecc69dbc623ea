//! RandAugment magnitude over a run, in place of that of the recipe.

use std::fmt;
use std::str::FromStr;

use efficienttrain_schedule::{Curriculum, Magnitude};
use serde::{Deserialize, Serialize};

/// RandAugment magnitude over a run, written as one number (`9`), or as the first and the last of
/// a linear growth (`0-9`).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct MagnitudeRange {
    /// Magnitude at the start, 0 to 10.
    pub first: f64,
    /// Magnitude at the end, 0 to 10.
    pub last: f64,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Text(String),
}

impl MagnitudeRange {
    /// Sets the magnitudes of all stages. A growth is linear over the shares of the stages, so it
    /// is linear in compute if the stages share the compute.
    pub(crate) fn apply(self, curriculum: &mut Curriculum) {
        let at = |share: f64| self.first + (self.last - self.first) * share.min(1.0);
        let mut before = 0.0;
        for stage in &mut curriculum.stages {
            let after = before + stage.share;
            stage.magnitude = match self.first == self.last {
                true => Magnitude::Fixed(self.first),
                false => Magnitude::Linear { from: at(before), to: at(after) },
            };
            before = after;
        }
    }
}

impl FromStr for MagnitudeRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.trim().parse().ok().filter(|m: &f64| (0.0..=10.0).contains(m));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let range = number(first).zip(number(last));
        let range = range.map(|(first, last)| Self { first, last });
        range.ok_or_else(|| {
            format!(
                "`{text}` is no magnitude; expected a number from 0 to 10, or two for a growth such as `0-9`"
            )
        })
    }
}

impl fmt::Display for MagnitudeRange {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl From<MagnitudeRange> for Written {
    fn from(range: MagnitudeRange) -> Self {
        match range.first == range.last {
            true => Self::Number(range.first),
            false => Self::Text(range.to_string()),
        }
    }
}

impl TryFrom<Written> for MagnitudeRange {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => number.to_string().parse(),
            Written::Text(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use efficienttrain_schedule::Recipe;

    use super::*;

    #[test]
    fn one_magnitude_or_a_growth_over_the_shares() {
        let mut recipe = Recipe::named("resnet50-etpp").unwrap();
        "9".parse::<MagnitudeRange>().unwrap().apply(&mut recipe.curriculum);
        assert!(recipe.curriculum.stages.iter().all(|stage| stage.magnitude == Magnitude::Fixed(9.0)));
        "0-9".parse::<MagnitudeRange>().unwrap().apply(&mut recipe.curriculum);
        let (mut share, mut worst) = (0.0, 0f64);
        for stage in &recipe.curriculum.stages {
            let Magnitude::Linear { from, to } = stage.magnitude else { panic!("{stage:?} does not grow") };
            worst = worst.max((from - 9.0 * share).abs()).max((to - 9.0 * (share + stage.share)).abs());
            share += stage.share;
        }
        assert!(worst < 1e-12, "{worst}");
        recipe.validate().unwrap();
    }

    #[test]
    fn other_numbers_are_refused() {
        for text in ["", "11", "-1", "0-11", "9-", "-", "nan", "0-9-3", "m9"] {
            let told = text.parse::<MagnitudeRange>().unwrap_err();
            assert!(told.contains(&format!("`{text}`")), "{told}");
        }
    }
}
