//! timm's description of a weight file: the `config.json` beside it.

use std::path::Path;

use serde::Deserialize;

use crate::config::channels::{Normalization, PerChannel};
use crate::config::train::TrainConfig;
use crate::data::pipeline::eval::EvalPipeline;

/// Name of the file.
const FILE: &str = "config.json";

/// What timm's `config.json` says about the weights beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Name of the model.
    pub model: String,
    /// Names of the classes, if the file has them.
    pub classes: Vec<String>,
    /// Number of classes.
    pub num_classes: Option<usize>,
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
    num_classes: Option<usize>,
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
    pub(crate) fn beside(weights: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(weights.parent()?.join(FILE)).ok()?;
        let Written { architecture, num_classes, label_names, pretrained_cfg } =
            serde_json::from_str(&text).ok()?;
        let default = Normalization::default();
        Some(Self {
            model: architecture,
            classes: label_names,
            num_classes,
            size: pretrained_cfg.input_size[1],
            crop_pct: pretrained_cfg.crop_pct,
            normalization: Normalization {
                mean: pretrained_cfg.mean.map_or(default.mean, |mean| mean.0),
                std: pretrained_cfg.std.map_or(default.std, |std| std.0),
            },
        })
    }

    /// Gives a configuration with these initial weights the model and the numbers by which images
    /// are normalized, unless it has its own.
    pub fn complete(&self, config: &mut TrainConfig) {
        config.model.get_or_insert_with(|| self.model.clone());
        config.mean.get_or_insert(PerChannel(self.normalization.mean));
        config.std.get_or_insert(PerChannel(self.normalization.std));
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
        assert_eq!(Description::beside(&weights), None);
        let write = |text: &str| std::fs::write(dir.path().join(FILE), text).unwrap();
        write(
            r#"{"architecture": "vit_tiny_patch16_224", "num_classes": 3, "label_names": ["a", "b", "c"],
                "pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.9, "mean": [0.5, 0.5, 0.5],
                                   "std": [0.5, 0.5, 0.5], "classifier": "head"}}"#,
        );
        let found = Description::beside(&weights).unwrap();
        assert_eq!((found.model.as_str(), found.size, found.crop_pct), ("vit_tiny_patch16_224", 224, 0.9));
        assert_eq!(found.normalization, Normalization { mean: [0.5; 3], std: [0.5; 3] });
        assert_eq!(found.class_names(3), ["a", "b", "c"]);
        assert_eq!(found.class_names(2), ["0", "1"]);
        write(r#"{"architectures": ["BertModel"], "model_type": "bert"}"#);
        assert_eq!(Description::beside(&weights), None);
    }
}
