//! Channels of the images that a network takes, and the numbers by which they are normalized.

use std::fmt;
use std::str::FromStr;

use randaug::{IMAGENET_MEAN, IMAGENET_STD, Normalize};
use serde::{Deserialize, Serialize};

use efficienttrain_models::ModelOptions;

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

/// Channels of the images that a network takes, written `1` or `3`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum InputChannels {
    /// One: the luma of the pixels, like Pillow's mode `L`.
    Gray,
    /// Three: red, green and blue.
    #[default]
    Rgb,
}

impl InputChannels {
    /// Returns their number.
    pub fn count(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

impl TryFrom<u8> for InputChannels {
    type Error = String;

    fn try_from(count: u8) -> Result<Self, String> {
        match count {
            1 => Ok(Self::Gray),
            3 => Ok(Self::Rgb),
            _ => Err(format!("expected 1 (gray) or 3 (red, green and blue) channels, got {count}")),
        }
    }
}

impl From<InputChannels> for u8 {
    fn from(channels: InputChannels) -> Self {
        match channels {
            InputChannels::Gray => 1,
            InputChannels::Rgb => 3,
        }
    }
}

impl FromStr for InputChannels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count: u8 = text.trim().parse().map_err(|_| format!("expected 1 or 3, got `{text}`"))?;
        Self::try_from(count)
    }
}

impl fmt::Display for InputChannels {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.count().fmt(f)
    }
}

/// Conversion of the bytes of an image to the values that a network takes: of each channel,
/// `(value - mean) / std` of the pixel values from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalization {
    /// Channels that the network takes.
    pub channels: InputChannels,
    /// Mean of red, green and blue; of gray images, three times the same.
    pub mean: [f32; 3],
    /// Their standard deviation.
    pub std: [f32; 3],
}

impl Default for Normalization {
    /// That of ImageNet, which most pre-trained weights expect.
    fn default() -> Self {
        Self::of_imagenet(InputChannels::Rgb)
    }
}

/// Returns three times the mean of three numbers.
fn averaged(PerChannel(values): PerChannel) -> PerChannel {
    // Six digits, because the sum of `f32` has no more.
    let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / 3.0;
    PerChannel([((mean * 1e6).round() / 1e6) as f32; 3])
}

impl Normalization {
    /// Returns that of ImageNet; for gray images the means of its three numbers, 0.449 and 0.226.
    pub fn of_imagenet(channels: InputChannels) -> Self {
        let of = |values| match channels {
            InputChannels::Rgb => values,
            InputChannels::Gray => averaged(PerChannel(values)).0,
        };
        Self { channels, mean: of(IMAGENET_MEAN), std: of(IMAGENET_STD) }
    }

    /// Returns the transform.
    pub(crate) fn transform(&self) -> Normalize {
        let transform = match self.channels {
            InputChannels::Rgb => Normalize::new(self.mean, self.std),
            InputChannels::Gray => Normalize::gray(self.mean[0], self.std[0]),
        };
        // Checked when the configuration was.
        transform.unwrap_or_default()
    }

    /// Returns the number of values of an image of edge `size`.
    pub(crate) fn image_len(&self, size: usize) -> usize {
        size * size * self.channels.count()
    }
}

impl TrainConfig {
    /// Takes channels and numbers of the run that initial weights are from, unless others are given.
    /// A run on gray images takes the means of three numbers, as its first layer takes the sum of
    /// three channels' weights.
    pub(crate) fn adopt_normalization(&mut self, of: &Self) {
        self.input_channels = self.input_channels.or(of.input_channels);
        let channels = self.channels();
        let fit = |values: PerChannel| match channels {
            InputChannels::Rgb => values,
            InputChannels::Gray => averaged(values),
        };
        self.mean = self.mean.or(of.mean.map(fit));
        self.std = self.std.or(of.std.map(fit));
    }

    /// Returns the channels of the images that the network takes.
    pub fn channels(&self) -> InputChannels {
        self.input_channels.unwrap_or_default()
    }

    /// Returns the options of the run's model for a number of classes and images of edge `size`.
    pub(crate) fn model_options(&self, num_classes: usize, size: usize) -> ModelOptions {
        ModelOptions {
            num_classes,
            input_size: [size; 2],
            in_channels: self.channels().count(),
            drop_rate: self.drop_rate,
        }
    }

    /// Returns the numbers by which images are normalized, in training and after it.
    pub fn normalization(&self) -> Normalization {
        let default = Normalization::of_imagenet(self.channels());
        Normalization {
            channels: default.channels,
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
        let Normalization { channels, mean, std } = normalization;
        for (option, [first, second, third]) in [("mean", mean), ("std", std)] {
            if channels == InputChannels::Gray && (first != second || first != third) {
                let what = format!(
                    "expected one number for gray images, see option `input-channels`, got {}",
                    PerChannel([first, second, third])
                );
                return Err(Error::config(option, what));
            }
        }
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
    fn gray_images_have_one_number_and_take_the_mean_of_three() {
        let gray = |mean: Option<&str>| TrainConfig {
            input_channels: Some(InputChannels::Gray),
            mean: mean.map(|text| text.parse().unwrap()),
            ..TrainConfig::default()
        };
        let own = gray(None).checked_normalization().unwrap();
        assert_eq!((own.mean, own.std, own.image_len(4)), ([0.449; 3], [0.226; 3], 16));
        assert_eq!(gray(Some("0.5")).checked_normalization().unwrap().mean, [0.5; 3]);
        let error = gray(Some("0.5,0.5,0.4")).checked_normalization().unwrap_err().to_string();
        assert!(error.contains("`mean`") && error.contains("input-channels"), "{error}");

        let color = TrainConfig { mean: Some("0.2,0.3,0.7".parse().unwrap()), ..TrainConfig::default() };
        let adopted = |mut config: TrainConfig, of: &TrainConfig| {
            config.adopt_normalization(of);
            config.checked_normalization().unwrap()
        };
        assert_eq!(adopted(gray(None), &color).mean, [0.4; 3]);
        // Channels come with the weights, unless they are given.
        let found = adopted(TrainConfig::default(), &gray(Some("0.25")));
        assert_eq!((found.channels, found.mean), (InputChannels::Gray, [0.25; 3]));
        let rgb = TrainConfig { input_channels: Some(InputChannels::Rgb), ..TrainConfig::default() };
        let found = adopted(rgb, &gray(Some("0.25")));
        assert_eq!((found.channels, found.mean), (InputChannels::Rgb, [0.25; 3]));
    }

    #[test]
    fn channels_are_one_or_three() {
        assert_eq!(serde_json::from_str::<InputChannels>("1").unwrap(), InputChannels::Gray);
        assert_eq!(serde_json::to_string(&InputChannels::Rgb).unwrap(), "3");
        for text in ["0", "2", "4", "gray", ""] {
            assert!(text.parse::<InputChannels>().unwrap_err().contains('1'), "{text}");
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
