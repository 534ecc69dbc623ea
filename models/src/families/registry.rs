//! Models by name.

use super::convnext::{ConvNext, ConvNextConfig};
use super::cswin::{CsWin, CsWinConfig};
use super::metaformer::{MetaFormer, MetaFormerConfig, Mixer};
use super::pvt::{Pvt, PvtConfig};
use super::resnet::{ResNet, ResNetConfig};
use super::swin::{Swin, SwinConfig};
use super::vit::{VisionTransformer, VitConfig};
use crate::backbone::{Backbone, FeatureInfo, ModelInfo};
use crate::params::ParamBuilder;
use crate::{Error, Family, Result};

/// What a model is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelOptions {
    /// Classes of the head.
    pub num_classes: usize,
    /// Height and width of the pictures, in pixels.
    pub input_size: [usize; 2],
    /// Channels of the pictures (timm's `in_chans`).
    pub in_channels: usize,
    /// Dropout of the pooled features in training, 0 to below 1 (timm's `drop_rate`).
    pub drop_rate: f64,
}

impl Default for ModelOptions {
    /// ImageNet-1K at 224.
    fn default() -> Self {
        Self { num_classes: 1000, input_size: [224, 224], in_channels: 3, drop_rate: 0.0 }
    }
}

impl ModelOptions {
    /// The description of a model made for these options, with the parameters that `builder` has collected.
    pub(crate) fn info(
        &self,
        name: &str,
        family: Family,
        builder: ParamBuilder,
        classifiers: &'static [&'static str],
        feature_info: Vec<FeatureInfo>,
    ) -> ModelInfo {
        let specs = builder.finish();
        ModelInfo {
            name: name.into(),
            family,
            layers: specs.iter().map(|s| s.layer + 1).max().unwrap_or(0),
            specs,
            input_size: self.input_size,
            num_classes: self.num_classes,
            in_channels: self.in_channels,
            drop_rate: self.drop_rate,
            classifiers,
            feature_info,
        }
    }

    fn check(&self, model: &str) -> Result<()> {
        check_nonzero(model, self.input_size)?;
        let fault = if self.num_classes == 0 {
            "num_classes must be above 0".into()
        } else if self.in_channels == 0 {
            "in_channels must be above 0".into()
        } else if !(0.0..1.0).contains(&self.drop_rate) {
            format!("drop_rate must be 0 to below 1, got {}", self.drop_rate)
        } else {
            return Ok(());
        };
        Err(Error::Option { model: model.into(), what: fault })
    }
}

enum Config {
    ResNet(ResNetConfig),
    Vit(VitConfig),
    Swin(SwinConfig),
    ConvNext(ConvNextConfig),
    MetaFormer(MetaFormerConfig),
    CsWin(CsWinConfig),
    Pvt(PvtConfig),
}

const fn resnet(bottleneck: bool, depths: [usize; 4]) -> Config {
    Config::ResNet(ResNetConfig { bottleneck, depths })
}

const fn vit(width: usize, heads: usize, distilled: bool) -> Config {
    Config::Vit(VitConfig { width, heads, depth: 12, distilled })
}

const fn swin(width: usize, heads: usize, depth: usize) -> Config {
    Config::Swin(SwinConfig { width, depths: [2, 2, depth, 2], heads })
}

const fn convnext(width: usize, depth: usize) -> Config {
    Config::ConvNext(ConvNextConfig { width, depths: [3, 3, depth, 3] })
}

const fn former(widths: [usize; 4], depths: [usize; 4], attention: bool) -> Config {
    let late = if attention { Mixer::Attention } else { Mixer::SeparableConv };
    let mixers = [Mixer::SeparableConv, Mixer::SeparableConv, late, late];
    Config::MetaFormer(MetaFormerConfig { widths, depths, mixers })
}

const fn cswin(width: usize, depths: [usize; 4], heads: [usize; 4]) -> Config {
    Config::CsWin(CsWinConfig { width, depths, heads })
}

const fn pvt(depths: [usize; 4]) -> Config {
    Config::Pvt(PvtConfig { depths })
}

const S18: [usize; 4] = [3, 3, 9, 3];
const S36: [usize; 4] = [3, 12, 18, 3];
const S: [usize; 4] = [64, 128, 320, 512];
const M: [usize; 4] = [96, 192, 384, 576];
const B: [usize; 4] = [128, 256, 512, 768];

/// Name, other spellings, structure.
const MODELS: &[(&str, &[&str], Config)] = &[
    ("resnet10", &[], resnet(false, [1, 1, 1, 1])),
    ("resnet18", &[], resnet(false, [2, 2, 2, 2])),
    ("resnet34", &[], resnet(false, [3, 4, 6, 3])),
    ("resnet50", &[], resnet(true, [3, 4, 6, 3])),
    ("resnet101", &[], resnet(true, [3, 4, 23, 3])),
    ("resnet152", &[], resnet(true, [3, 8, 36, 3])),
    ("deit_tiny", &["deit_tiny_patch16_224", "vit_tiny_patch16_224"], vit(192, 3, false)),
    ("deit_small", &["deit_small_patch16_224", "vit_small_patch16_224"], vit(384, 6, false)),
    ("deit_base", &["deit_base_patch16_224", "vit_base_patch16_224"], vit(768, 12, false)),
    ("deit_tiny_distilled", &["deit_tiny_distilled_patch16_224"], vit(192, 3, true)),
    ("deit_small_distilled", &["deit_small_distilled_patch16_224"], vit(384, 6, true)),
    ("deit_base_distilled", &["deit_base_distilled_patch16_224"], vit(768, 12, true)),
    ("swin_tiny", &["swin_tiny_patch4_window7_224", "swin_t"], swin(96, 3, 6)),
    ("swin_small", &["swin_small_patch4_window7_224", "swin_s"], swin(96, 3, 18)),
    ("swin_base", &["swin_base_patch4_window7_224", "swin_b"], swin(128, 4, 18)),
    ("convnext_tiny", &[], convnext(96, 9)),
    ("convnext_small", &[], convnext(96, 27)),
    ("convnext_base", &[], convnext(128, 27)),
    ("convnext_large", &[], convnext(192, 27)),
    ("caformer_s18", &[], former(S, S18, true)),
    ("caformer_s36", &[], former(S, S36, true)),
    ("caformer_m36", &[], former(M, S36, true)),
    ("caformer_b36", &[], former(B, S36, true)),
    ("convformer_s18", &[], former(S, S18, false)),
    ("convformer_s36", &[], former(S, S36, false)),
    ("convformer_m36", &[], former(M, S36, false)),
    ("convformer_b36", &[], former(B, S36, false)),
    ("cswin_tiny", &["cswin_64_12211_tiny_224"], cswin(64, [1, 2, 21, 1], [2, 4, 8, 16])),
    ("cswin_small", &["cswin_64_24322_small_224"], cswin(64, [2, 4, 32, 2], [2, 4, 8, 16])),
    ("cswin_base", &["cswin_96_24322_base_224"], cswin(96, [2, 4, 32, 2], [4, 8, 16, 32])),
    ("cswin_large", &["cswin_144_24322_large_224"], cswin(144, [2, 4, 32, 2], [6, 12, 24, 24])),
    ("pvt_tiny", &[], pvt([2, 2, 2, 2])),
    ("pvt_small", &[], pvt([3, 4, 6, 3])),
    ("pvt_medium", &[], pvt([3, 4, 18, 3])),
    ("pvt_large", &[], pvt([3, 8, 27, 3])),
];

/// Names of all models.
pub fn model_names() -> impl Iterator<Item = &'static str> {
    MODELS.iter().map(|(name, ..)| *name)
}

/// The structure of the model called `name` (timm's and the authors' spellings are known too; hyphens count as
/// underscores, and a tag behind a dot, as in `resnet50.a1_in1k`, is left out).
///
/// # Errors
/// When there is no such model (the nearest is named), an option is out of range, or the model cannot take the input
/// size.
pub fn create_model(name: &str, options: &ModelOptions) -> Result<Box<dyn Backbone>> {
    let wanted = name.split('.').next().unwrap_or_default().to_lowercase().replace('-', "_");
    let found =
        MODELS.iter().find(|(known, aliases, _)| *known == wanted || aliases.contains(&wanted.as_str()));
    let Some((known, _, config)) = found else { return Err(unknown(name, &wanted)) };
    options.check(known)?;
    Ok(match config {
        Config::ResNet(config) => Box::new(ResNet::new(known, *config, options)),
        Config::Vit(config) => Box::new(VisionTransformer::new(known, *config, options)?),
        Config::Swin(config) => Box::new(Swin::new(known, *config, options)?),
        Config::ConvNext(config) => Box::new(ConvNext::new(known, *config, options)?),
        Config::MetaFormer(config) => Box::new(MetaFormer::new(known, *config, options)?),
        Config::CsWin(config) => Box::new(CsWin::new(known, *config, options)?),
        Config::Pvt(config) => Box::new(Pvt::new(known, *config, options)?),
    })
}

fn unknown(name: &str, wanted: &str) -> Error {
    let spellings = MODELS.iter().flat_map(|(known, aliases, _)| {
        std::iter::once((*known, *known)).chain(aliases.iter().map(|alias| (*alias, *known)))
    });
    let nearest = spellings
        .max_by(|(a, _), (b, _)| strsim::jaro_winkler(a, wanted).total_cmp(&strsim::jaro_winkler(b, wanted)))
        .map(|(_, known)| known);
    Error::UnknownModel {
        name: name.into(),
        nearest: nearest.unwrap_or_default().into(),
        known: model_names().collect::<Vec<_>>().join(", "),
    }
}

pub(crate) fn check_nonzero(model: &str, [height, width]: [usize; 2]) -> Result<()> {
    if height > 0 && width > 0 {
        return Ok(());
    }
    Err(Error::InputSize { model: model.into(), height, width, reason: "both edges must be above 0".into() })
}

pub(crate) fn at_least(model: &str, [height, width]: [usize; 2], smallest: usize, what: &str) -> Result<()> {
    if height >= smallest && width >= smallest {
        return Ok(());
    }
    let reason = format!("both edges must be at least {smallest}, {what}");
    Err(Error::InputSize { model: model.into(), height, width, reason })
}

/// Rows and columns of a grid of `cell` pixels that must divide the input size.
pub(crate) fn grid(model: &str, [height, width]: [usize; 2], cell: usize, what: &str) -> Result<[usize; 2]> {
    if height == 0 || width == 0 || !height.is_multiple_of(cell) || !width.is_multiple_of(cell) {
        let reason = format!("both edges must be multiples of {cell}, {what}");
        return Err(Error::InputSize { model: model.into(), height, width, reason });
    }
    Ok([height / cell, width / cell])
}
