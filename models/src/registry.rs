//! Models by name.

use crate::backbone::{Backbone, Blueprint};
use crate::params::ParamBuilder;
use crate::resnet::{ResNet, ResNetConfig};
use crate::vit::{VisionTransformer, VitConfig};
use crate::{Error, Family, Result};

/// What a model is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Classes of the head.
    pub num_classes: usize,
    /// Height and width of the pictures, in pixels.
    pub input_size: [usize; 2],
}

impl Default for Options {
    /// ImageNet-1K at 224.
    fn default() -> Self {
        Self { num_classes: 1000, input_size: [224, 224] }
    }
}

impl Options {
    /// The description of a model made for these options, with the parameters that `builder` has collected.
    pub(crate) fn blueprint(
        &self,
        name: &str,
        family: Family,
        builder: ParamBuilder,
        classifier: &'static str,
    ) -> Blueprint {
        Blueprint {
            name: name.into(),
            family,
            specs: builder.finish(),
            input_size: self.input_size,
            num_classes: self.num_classes,
            classifier,
        }
    }
}

enum Config {
    ResNet(ResNetConfig),
    Vit(VitConfig),
}

const fn resnet(bottleneck: bool, depths: [usize; 4]) -> Config {
    Config::ResNet(ResNetConfig { bottleneck, depths })
}

const fn vit(width: usize, heads: usize) -> Config {
    Config::Vit(VitConfig { width, heads, depth: 12 })
}

/// Name, other spellings, structure.
const MODELS: &[(&str, &[&str], Config)] = &[
    ("resnet10", &[], resnet(false, [1, 1, 1, 1])),
    ("resnet18", &[], resnet(false, [2, 2, 2, 2])),
    ("resnet34", &[], resnet(false, [3, 4, 6, 3])),
    ("resnet50", &[], resnet(true, [3, 4, 6, 3])),
    ("resnet101", &[], resnet(true, [3, 4, 23, 3])),
    ("deit_tiny", &["deit_tiny_patch16_224"], vit(192, 3)),
    ("deit_small", &["deit_small_patch16_224"], vit(384, 6)),
    ("deit_base", &["deit_base_patch16_224"], vit(768, 12)),
];

/// Names of all models.
pub fn names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, ..)| *name)
}

/// The structure of the model called `name` (timm's spellings are known too; hyphens count as underscores).
///
/// # Errors
/// When there is no such model (the nearest is named), or it cannot take the input size.
pub fn create(name: &str, options: &Options) -> Result<Box<dyn Backbone>> {
    let wanted = name.to_lowercase().replace('-', "_");
    let found =
        MODELS.iter().find(|(known, aliases, _)| *known == wanted || aliases.contains(&wanted.as_str()));
    let Some((known, _, config)) = found else { return Err(unknown(name, &wanted)) };
    check_nonzero(known, options.input_size)?;
    Ok(match config {
        Config::ResNet(config) => Box::new(ResNet::new(known, *config, options)),
        Config::Vit(config) => Box::new(VisionTransformer::new(known, *config, options)?),
    })
}

fn unknown(name: &str, wanted: &str) -> Error {
    let nearest =
        names().max_by(|a, b| strsim::jaro_winkler(a, wanted).total_cmp(&strsim::jaro_winkler(b, wanted)));
    Error::UnknownModel {
        name: name.into(),
        nearest: nearest.unwrap_or_default().into(),
        known: names().collect::<Vec<_>>().join(", "),
    }
}

pub(crate) fn check_nonzero(model: &str, [height, width]: [usize; 2]) -> Result<()> {
    if height > 0 && width > 0 {
        return Ok(());
    }
    Err(Error::InputSize { model: model.into(), height, width, reason: "both edges must be above 0".into() })
}
