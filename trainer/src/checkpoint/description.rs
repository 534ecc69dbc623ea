//! timm's description of a weight file: the `config.json` beside it.

use std::path::Path;

use serde::Deserialize;

use crate::config::channels::{InputChannels, Normalization, PerChannel};
use crate::config::train::TrainConfig;
use crate::data::pipeline::eval::EvalPipeline;
use crate::error::{Error, Result};

/// Name of the file.
const FILE: &str = "config.json";
/// Key that tells timm's files from those of other programs.
const OF_TIMM: &str = "pretrained_cfg";

/// What timm's `config.json` says about the weights beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Name of the model.
    pub model: String,
    /// Names of the classes, if the file has them.
    pub classes: Vec<String>,
    /// Edge of the images in evaluation, in pixels.
    pub size: usize,
    /// Fraction of the short edge that the center crop keeps.
    pub crop_pct: f64,
    /// Numbers by which images are normalized.
    pub normalization: Normalization,
}

#[derive(Deserialize)]
struct Written {
    architecture: String,
    #[serde(default)]
    label_names: Vec<String>,
    pretrained_cfg: Pretrained,
}

#[derive(Deserialize)]
struct Pretrained {
    input_size: [usize; 3],
    #[serde(default = "default_crop")]
    crop_pct: f64,
    mean: Option<PerChannel>,
    std: Option<PerChannel>,
}

fn default_crop() -> f64 {
    EvalPipeline::CROP_PCT
}

impl Description {
    /// Reads the description beside a weight file; none if there is none, or it is one of another
    /// program.
    ///
    /// # Errors
    /// Returns an error if it is one of timm, but cannot be understood.
    pub(crate) fn beside(weights: &Path) -> Result<Option<Self>> {
        let path = weights.with_file_name(FILE);
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(None) };
        let is_timm = |value: &serde_json::Value| value.get(OF_TIMM).is_some();
        let Some(value) = serde_json::from_str(&text).ok().filter(is_timm) else { return Ok(None) };
        let Written { architecture, label_names, pretrained_cfg } =
            serde_json::from_value(value).map_err(|e| Error::Key {
                place: path.display().to_string(),
                what: format!("is not a description of weights by timm: {e}; correct it, or remove it"),
            })?;
        let [count, size, _] = pretrained_cfg.input_size;
        let channels = u8::try_from(count).map_err(|e| e.to_string()).and_then(InputChannels::try_from);
        let channels = channels.map_err(|what| Error::Key {
            place: path.display().to_string(),
            what: format!("describes weights for other images (`input_size`): {what}"),
        })?;
        let default = Normalization::of_imagenet(channels);
        Ok(Some(Self {
            model: architecture,
            classes: label_names,
            size,
            crop_pct: pretrained_cfg.crop_pct,
            normalization: Normalization {
                channels,
                mean: pretrained_cfg.mean.map_or(default.mean, |mean| mean.0),
                std: pretrained_cfg.std.map_or(default.std, |std| std.0),
            },
        }))
    }

    /// Gives a configuration with these initial weights the model, the channels of its images and the
    /// numbers by which they are normalized, unless it has its own.
    pub fn complete(&self, config: &mut TrainConfig) {
        config.model.get_or_insert_with(|| self.model.clone());
        config.adopt_normalization(&self.numbers());
    }

    /// Returns a configuration with its channels and numbers.
    pub(crate) fn numbers(&self) -> TrainConfig {
        let Normalization { channels, mean, std } = self.normalization;
        TrainConfig {
            input_channels: Some(channels),
            mean: Some(PerChannel(mean)),
            std: Some(PerChannel(std)),
            ..TrainConfig::default()
        }
    }

    /// Returns names of `count` classes: the file's own, or their numbers.
    pub(crate) fn class_names(&self, count: usize) -> Vec<String> {
        match self.classes.len() == count {
            true => self.classes.clone(),
            false => (0..count).map(|class| class.to_string()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timm_s_file_is_read_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let weights = dir.path().join("model.safetensors");
        assert_eq!(Description::beside(&weights).unwrap(), None);
        let write = |text: &str| std::fs::write(dir.path().join(FILE), text).unwrap();
        write(
            r#"{"architecture": "vit_tiny_patch16_224", "num_classes": 3, "label_names": ["a", "b", "c"],
                "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5],
                                   "std": [0.5, 0.5, 0.5], "classifier": "head"}}"#,
        );
        let found = Description::beside(&weights).unwrap().unwrap();
        assert_eq!((found.model.as_str(), found.size, found.crop_pct), ("vit_tiny_patch16_224", 224, 0.9));
        let half = Normalization { channels: InputChannels::Rgb, mean: [0.5; 3], std: [0.5; 3] };
        assert_eq!(found.normalization, half);
        assert_eq!(found.class_names(3), ["a", "b", "c"]);
        assert_eq!(found.class_names(2), ["0", "1"]);
        write(r#"{"architectures": ["BertModel"], "model_type": "bert"}"#);
        assert_eq!(Description::beside(&weights).unwrap(), None);
        // Numbers of timm that are not understood must not be replaced by ImageNet's.
        write(
            r#"{"architecture": "resnet10", "pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.5, 0.5]}}"#,
        );
        let error = Description::beside(&weights).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("remove it"), "{error}");
        write(
            r#"{"architecture": "resnet10", "pretrained_cfg": {"input_size": [1, 32, 32], "mean": [0.5]}}"#,
        );
        let gray = Description::beside(&weights).unwrap().unwrap().normalization;
        let expected = Normalization { channels: InputChannels::Gray, mean: [0.5; 3], std: [0.226; 3] };
        assert_eq!(gray, expected);
        write(r#"{"architecture": "resnet10", "pretrained_cfg": {"input_size": [4, 32, 32]}}"#);
        let error = Description::beside(&weights).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains("got 4"), "{error}");
    }
}
