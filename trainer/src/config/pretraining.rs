//! Option values of pre-training.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use efficienttrain_models::hog::Hog;
use efficienttrain_models::mae::{Target, TransformerShape};
use serde::{Deserialize, Serialize};

use crate::util::string_serde::stored_as_text;

/// Prediction target for masked patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetName {
    /// Histograms of oriented gradients, like EfficientTrain++.
    Hog,
    /// Pixels of each patch, normalized by its mean and deviation.
    #[serde(alias = "normalised-pixels")]
    #[value(alias = "normalised-pixels")]
    NormalizedPixels,
    /// Pixels of the normalized image.
    Pixels,
}

impl TargetName {
    pub(crate) fn target(self) -> Target {
        match self {
            Self::Hog => Target::Hog(Hog::default()),
            Self::NormalizedPixels => Target::NormalizedPixels,
            Self::Pixels => Target::Pixels,
        }
    }
}

/// Shape of a decoder, written `256x8x4`: channels, heads, blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DecoderShape(pub TransformerShape);

impl FromStr for DecoderShape {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<usize>> =
            text.split('x').map(|part| part.parse().ok().filter(|&n| n > 0)).collect();
        match numbers.as_deref() {
            Some(&[width, heads, depth]) => Ok(Self(TransformerShape { width, heads, depth })),
            _ => {
                Err(format!("`{text}` is not a decoder shape; write channels, heads and blocks as `256x8x4`"))
            }
        }
    }
}

impl fmt::Display for DecoderShape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let TransformerShape { width, heads, depth } = self.0;
        write!(f, "{width}x{heads}x{depth}")
    }
}

stored_as_text!(DecoderShape);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_spelling_and_writes_the_same() {
        assert_eq!("256x8x4".parse::<DecoderShape>().map(|d| d.to_string()), Ok("256x8x4".into()));
        for text in ["", "256", "256x8", "256x8x0", "256x8x4x1", "axbxc"] {
            assert!(text.parse::<DecoderShape>().is_err(), "{text}");
        }
    }
}
