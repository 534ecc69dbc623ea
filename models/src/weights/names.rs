//! Spellings of parameter names by different programs.
//!
//! This crate uses the spelling of each model's authors. A spelling is a list of rules from there;
//! a file's spelling is the one under which most parameters are found in it, so one list serves
//! both directions.

use super::template::rename;
use crate::Family;

/// A way to name the parameters of a family.
#[derive(Debug)]
pub(super) struct Spelling {
    /// Whose it is.
    pub(super) name: &'static str,
    /// The first rule that fits applies; names that none fits stay as they are.
    rules: &'static [(&'static str, &'static str)],
}

impl Spelling {
    /// The name here of the parameter that this crate calls `native`.
    pub(super) fn of(&self, native: &str) -> String {
        self.rules.iter().find_map(|&rule| rename(rule, native)).unwrap_or_else(|| native.into())
    }
}

const fn spelling(name: &'static str, rules: &'static [(&'static str, &'static str)]) -> Spelling {
    Spelling { name, rules }
}

/// All spellings of a family; the first is timm's, or the authors' where timm has no such model.
pub(super) fn spellings(family: Family) -> &'static [Spelling] {
    match family {
        Family::ResNet => RESNET,
        Family::Vit => VIT,
        Family::Swin => SWIN,
        Family::ConvNext => CONVNEXT,
        Family::MetaFormer => METAFORMER,
        Family::CsWin | Family::Pvt => AUTHORS,
    }
}

/// The name that timm has for the parameter that this crate calls `native`.
///
/// The same name for the families that timm does not have (CSWin and PVT).
///
/// ```
/// use efficienttrain_models::{Family, weights::to_timm};
///
/// assert_eq!(to_timm(Family::Swin, "layers.0.downsample.norm.weight"), "layers.1.downsample.norm.weight");
/// ```
pub fn to_timm(family: Family, native: &str) -> String {
    spellings(family)[0].of(native)
}

/// Tells if this key is a table that is computed from the sizes, which files may hold although it
/// is no parameter.
pub(super) fn is_computed(key: &str) -> bool {
    matches!(key.rsplit('.').next(), Some("relative_position_index" | "attn_mask"))
}

const AUTHORS: &[Spelling] = &[spelling("the authors'", &[])];

const RESNET: &[Spelling] = &[spelling("timm's and torchvision's", &[])];

const VIT: &[Spelling] = &[
    spelling("timm's", &[]),
    spelling(
        "torchvision's",
        &[
            ("cls_token", "class_token"),
            ("pos_embed", "encoder.pos_embedding"),
            ("patch_embed.proj.*", "conv_proj.*"),
            ("blocks.{i}.norm1.*", "encoder.layers.encoder_layer_{i}.ln_1.*"),
            ("blocks.{i}.attn.qkv.weight", "encoder.layers.encoder_layer_{i}.self_attention.in_proj_weight"),
            ("blocks.{i}.attn.qkv.bias", "encoder.layers.encoder_layer_{i}.self_attention.in_proj_bias"),
            ("blocks.{i}.attn.proj.*", "encoder.layers.encoder_layer_{i}.self_attention.out_proj.*"),
            ("blocks.{i}.norm2.*", "encoder.layers.encoder_layer_{i}.ln_2.*"),
            ("blocks.{i}.mlp.fc1.*", "encoder.layers.encoder_layer_{i}.mlp.0.*"),
            ("blocks.{i}.mlp.fc2.*", "encoder.layers.encoder_layer_{i}.mlp.3.*"),
            ("norm.*", "encoder.ln.*"),
            ("head.*", "heads.head.*"),
        ],
    ),
];

const SWIN: &[Spelling] = &[
    // timm shrinks the map at the start of a stage, the authors at the end of the one before.
    spelling("timm's", &[("layers.{i}.downsample.*", "layers.{i+1}.downsample.*"), ("head.*", "head.fc.*")]),
    spelling("the authors'", &[]),
    spelling(
        "torchvision's",
        &[
            ("patch_embed.proj.*", "features.0.0.*"),
            ("patch_embed.norm.*", "features.0.2.*"),
            ("layers.{i}.blocks.{j}.mlp.fc1.*", "features.{2i+1}.{j}.mlp.0.*"),
            ("layers.{i}.blocks.{j}.mlp.fc2.*", "features.{2i+1}.{j}.mlp.3.*"),
            ("layers.{i}.blocks.{j}.*", "features.{2i+1}.{j}.*"),
            ("layers.{i}.downsample.*", "features.{2i+2}.*"),
        ],
    ),
];

const CONVNEXT: &[Spelling] = &[
    spelling(
        "timm's",
        &[
            ("downsample_layers.0.*", "stem.*"),
            ("downsample_layers.{i}.*", "stages.{i}.downsample.*"),
            ("stages.{i}.{j}.dwconv.*", "stages.{i}.blocks.{j}.conv_dw.*"),
            ("stages.{i}.{j}.pwconv1.*", "stages.{i}.blocks.{j}.mlp.fc1.*"),
            ("stages.{i}.{j}.pwconv2.*", "stages.{i}.blocks.{j}.mlp.fc2.*"),
            ("stages.{i}.{j}.*", "stages.{i}.blocks.{j}.*"),
            ("norm.*", "head.norm.*"),
            ("head.*", "head.fc.*"),
        ],
    ),
    spelling("the authors'", &[]),
    spelling(
        "torchvision's",
        &[
            ("downsample_layers.{i}.*", "features.{2i}.*"),
            ("stages.{i}.{j}.gamma", "features.{2i+1}.{j}.layer_scale"),
            ("stages.{i}.{j}.dwconv.*", "features.{2i+1}.{j}.block.0.*"),
            ("stages.{i}.{j}.norm.*", "features.{2i+1}.{j}.block.2.*"),
            ("stages.{i}.{j}.pwconv1.*", "features.{2i+1}.{j}.block.3.*"),
            ("stages.{i}.{j}.pwconv2.*", "features.{2i+1}.{j}.block.5.*"),
            ("norm.*", "classifier.0.*"),
            ("head.*", "classifier.2.*"),
        ],
    ),
];

const METAFORMER: &[Spelling] = &[
    spelling(
        "timm's",
        &[
            ("downsample_layers.0.conv.*", "stem.conv.*"),
            ("downsample_layers.0.post_norm.*", "stem.norm.*"),
            ("downsample_layers.{i}.pre_norm.*", "stages.{i}.downsample.norm.*"),
            ("downsample_layers.{i}.conv.*", "stages.{i}.downsample.conv.*"),
            ("stages.{i}.{j}.*", "stages.{i}.blocks.{j}.*"),
            ("norm.*", "head.norm.*"),
            ("head.*", "head.fc.*"),
        ],
    ),
    spelling("the authors'", &[]),
];

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    pub(in crate::weights) const LISTED: [(&str, Family); 5] = [
        ("swin_tiny", Family::Swin),
        ("convnext_tiny", Family::ConvNext),
        ("convnext_atto", Family::ConvNext),
        ("caformer_s18", Family::MetaFormer),
        ("convformer_s18", Family::MetaFormer),
    ];

    /// Rows of names and shapes that timm's and torchvision's own code gave.
    pub(in crate::weights) fn rows(model: &str, program: &str) -> Vec<Vec<Value>> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/weights/names.json");
        let lists: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let rows = lists[model][program].as_array();
        rows.into_iter().flatten().map(|row| row.as_array().unwrap().clone()).collect()
    }

    #[test]
    fn timm_names_are_those_of_timms_own_conversion() {
        for (model, family) in LISTED {
            let rows = rows(model, "timm");
            assert!(rows.len() > 70, "{model}");
            for row in rows {
                assert_eq!(to_timm(family, row[0].as_str().unwrap()), row[2].as_str().unwrap(), "{model}");
            }
        }
    }

    #[test]
    fn torchvision_names_are_all_of_torchvisions() {
        for (model, family) in &LISTED[..2] {
            let spelling = spellings(*family).iter().find(|s| s.name == "torchvision's").unwrap();
            let ours: BTreeSet<_> =
                rows(model, "timm").iter().map(|row| spelling.of(row[0].as_str().unwrap())).collect();
            let theirs = rows(model, "torchvision");
            let theirs = theirs.iter().map(|row| row[0].as_str().unwrap().to_string());
            assert_eq!(ours, theirs.filter(|name| !is_computed(name)).collect(), "{model}");
        }
    }
}
