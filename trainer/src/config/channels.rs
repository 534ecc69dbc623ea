//! Numbers of the color channels, by which images are normalized.

use std::fmt;
use std::str::FromStr;

use randaug::{IMAGENET_MEAN, IMAGENET_STD, Normalize};
use serde::{Deserialize, Serialize};

use crate::config::train::TrainConfig;
use crate::error::{Error, Result};

/// One number for red, green and blue each, written `0.485,0.456,0.406`, or as one number for all.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Written", try_from = "Written")]
pub struct PerChannel(pub [f32; 3]);

/// In a file also a number, or a list of three.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    List(Vec<f64>),
    Text(String),
}

impl FromStr for PerChannel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f32>> = text.split(',').map(|part| part.trim().parse().ok()).collect();
        Self::of(numbers.as_deref().unwrap_or_default()).ok_or_else(|| wrong(text))
    }
}

impl PerChannel {
    fn of(numbers: &[f32]) -> Option<Self> {
        let values = match *numbers {
            [all] => [all; 3],
            [red, green, blue] => [red, green, blue],
            _ => return None,
        };
        values.iter().all(|value| value.is_finite()).then_some(Self(values))
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` are no numbers of channels; expected three such as `0.485,0.456,0.406`, or one for all")
}

impl fmt::Display for PerChannel {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "{red},{green},{blue}")
    }
}

impl From<PerChannel> for Written {
    fn from(values: PerChannel) -> Self {
        Self::Text(values.to_string())
    }
}

impl TryFrom<Written> for PerChannel {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let numbers = match written {
            Written::Text(text) => return text.parse(),
            Written::Number(number) => vec![number],
            Written::List(numbers) => numbers,
        };
        let narrow: Vec<f32> = numbers.iter().map(|&number| number as f32).collect();
        Self::of(&narrow).ok_or_else(|| wrong(&format!("{numbers:?}")))
    }
}

/// Mean and standard deviation of the pixel values (0 to 1) of each channel, by which a network's
/// images are normalized: `(value - mean) / std`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Mean of red, green and blue.
    pub mean: [f32; 3],
    /// Their standard deviation.
    pub std: [f32; 3],
}

impl Default for Normalization {
    /// That of ImageNet, which most pre-trained weights expect.
    fn default() -> Self {
        Self { mean: IMAGENET_MEAN, std: IMAGENET_STD }
    }
}

impl Normalization {
    /// Returns the transform.
    pub(crate) fn transform(&self) -> Normalize {
        // Checked when the configuration was.
        Normalize::new(self.mean, self.std).unwrap_or_default()
    }
}

impl TrainConfig {
    /// Takes the numbers of the run that initial weights are from, unless others are given.
    pub(crate) fn adopt_normalization(&mut self, of: &Self) {
        self.mean = self.mean.or(of.mean);
        self.std = self.std.or(of.std);
    }

    /// Returns the numbers by which images are normalized, in training and after it.
    pub fn normalization(&self) -> Normalization {
        let default = Normalization::default();
        Normalization {
            mean: self.mean.map_or(default.mean, |mean| mean.0),
            std: self.std.map_or(default.std, |std| std.0),
        }
    }

    /// Returns the numbers by which images are normalized.
    ///
    /// # Errors
    /// Returns an error that names the option if a number is out of range.
    pub fn checked_normalization(&self) -> Result<Normalization> {
        let normalization = self.normalization();
        let Normalization { mean, std } = normalization;
        if mean.iter().any(|mean| !(0.0..=1.0).contains(mean)) {
            let what =
                format!("expected numbers from 0 to 1, for pixels from 0 to 1, got {}", PerChannel(mean));
            return Err(Error::config("mean", what));
        }
        if std.iter().any(|std| !(*std >= 1e-3 && *std <= 1.0)) {
            let what =
                format!("expected numbers from 0.001 to 1, for pixels from 0 to 1, got {}", PerChannel(std));
            return Err(Error::config("std", what));
        }
        Ok(normalization)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_for_all_channels_and_texts_are_kept() {
        assert_eq!("0.5".parse(), Ok(PerChannel([0.5; 3])));
        let imagenet: PerChannel = "0.485, 0.456,0.406".parse().unwrap();
        assert_eq!(imagenet.0, IMAGENET_MEAN);
        assert_eq!(imagenet.to_string(), "0.485,0.456,0.406");
        for text in ["", "a", "0.5,0.5", "1,2,3,4", "nan", "0.5;0.5;0.5"] {
            assert!(text.parse::<PerChannel>().unwrap_err().contains("0.485,0.456,0.406"), "{text}");
        }
        for json in ["0.5", "[0.5, 0.5, 0.5]", "\"0.5\"", "\"0.5,0.5,0.5\""] {
            assert_eq!(serde_json::from_str::<PerChannel>(json).unwrap(), PerChannel([0.5; 3]), "{json}");
        }
    }

    #[test]
    fn numbers_that_cannot_be_of_pixels_are_refused() {
        let with = |mean: &str, std: &str| {
            let config = TrainConfig {
                mean: Some(mean.parse().unwrap()),
                std: Some(std.parse().unwrap()),
                ..TrainConfig::default()
            };
            config.checked_normalization().map(|_| ()).map_err(|error| error.to_string())
        };
        assert_eq!(with("0.5", "0.5"), Ok(()));
        // As if pixels were from 0 to 255.
        assert!(with("123.7,116.3,103.5", "0.5").unwrap_err().contains("`mean`"));
        assert!(with("0.5", "58.4").unwrap_err().contains("`std`"));
        assert!(with("0.5", "0.2,0,0.2").unwrap_err().contains("`std`"));
    }
}
