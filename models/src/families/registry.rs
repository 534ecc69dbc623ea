//! Models by name.

use super::convnext::{ConvNext, ConvNextConfig};
use super::cswin::{CsWin, CsWinConfig};
use super::metaformer::{MetaFormer, MetaFormerConfig, Mixer};
use super::options::ModelOptions;
use super::pvt::{Pvt, PvtConfig};
use super::resnet::{ResNet, ResNetConfig};
use super::swin::{Swin, SwinConfig};
use super::vit::{VisionTransformer, VitConfig};
use crate::backbone::Backbone;
use crate::{Error, Result};

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

/// timm's variants below `convnext_tiny`.
const fn small_convnext(width: usize, depth: usize) -> Config {
    Config::ConvNext(ConvNextConfig { width, depths: [2, 2, depth, 2] })
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
    ("convnext_atto", &[], small_convnext(40, 6)),
    ("convnext_femto", &[], small_convnext(48, 6)),
    ("convnext_pico", &[], small_convnext(64, 6)),
    ("convnext_nano", &[], small_convnext(80, 8)),
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

/// The structure of the model called `name` (timm's and the authors' spellings are known too;
/// hyphens count as underscores, and a tag behind a dot, as in `resnet50.a1_in1k`, is left out).
///
/// # Errors
/// When there is no such model (the nearest is named), an option is out of range, or the model
/// cannot take the input size.
pub fn create_model(name: &str, options: &ModelOptions) -> Result<Box<dyn Backbone>> {
    let (known, config) = find(name)?;
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

/// Returns the number that the image size must be a multiple of, so that the feature maps of the
/// model called `name` have whole sizes (those of the first stages, if the model pads the last ones).
///
/// # Errors
/// When there is no such model.
pub fn size_multiple(name: &str) -> Result<usize> {
    Ok(match find(name)?.1 {
        Config::Vit(_) => 16,
        Config::Swin(_) | Config::CsWin(_) | Config::Pvt(_) => 32,
        Config::ResNet(_) | Config::ConvNext(_) | Config::MetaFormer(_) => 8,
    })
}

/// Finds a model by any of its names.
fn find(name: &str) -> Result<(&'static str, &'static Config)> {
    let wanted = name.split('.').next().unwrap_or_default().to_lowercase().replace('-', "_");
    let found =
        MODELS.iter().find(|(known, aliases, _)| *known == wanted || aliases.contains(&wanted.as_str()));
    found.map(|(known, _, config)| (*known, config)).ok_or_else(|| unknown(name, &wanted))
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
