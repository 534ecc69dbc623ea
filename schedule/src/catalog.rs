//! The table of models: the numbers in which the authors' launch scripts differ, and the additions
//! of this project.

use crate::recipe::{Family, Origin};

/// The stages of a ++ curriculum as (tenths of the run, size at base 224, index into the batch
/// columns).
pub(crate) type Tenths = &'static [(u32, u32, usize)];

const MOST: Tenths = &[(2, 96, 0), (4, 160, 1), (4, 224, 2)];
const CONVNEXT: Tenths = &[(2, 160, 0), (4, 160, 1), (4, 224, 2)];
const DEIT: Tenths = &[(2, 96, 0), (4, 160, 1), (2, 192, 2), (2, 224, 2)];

/// Row of one model.
pub(crate) struct Model {
    /// First part of the names of its recipes.
    pub(crate) name: &'static str,
    /// Name in timm or in the authors' code.
    pub(crate) reference: &'static str,
    /// Other spellings of the name, lower case, with `-` in place of `_`.
    pub(crate) aliases: &'static [&'static str],
    pub(crate) family: Family,
    /// Origin of the ++ numbers.
    pub(crate) origin: Origin,
    pub(crate) tenths: Tenths,
    pub(crate) batch: [u32; 3],
    pub(crate) accumulation: [u32; 3],
    /// At 200 compute epochs for ++; constant for the first version and the baseline.
    pub(crate) drop_path: f64,
    pub(crate) clip_grad: Option<f64>,
    pub(crate) ema_decay: Option<f64>,
    /// (times, buffer batches) of the launchers with replay.
    pub(crate) replay: Option<[(u32, u32); 3]>,
}

/// Values shared by most rows.
const PLAIN: Model = Model {
    name: "",
    reference: "",
    aliases: &[],
    family: Family::ResNet,
    origin: Origin::AuthorsLauncher,
    tenths: MOST,
    batch: [512, 512, 512],
    accumulation: [1, 1, 1],
    drop_path: 0.0,
    clip_grad: None,
    ema_decay: None,
    replay: None,
};

/// Batch columns of the small transformers, and of the small and base ones.
const TINY: ([u32; 3], [u32; 3]) = ([512, 512, 256], [1, 1, 2]);
const LARGE: ([u32; 3], [u32; 3]) = ([512, 256, 128], [1, 2, 4]);

const REPLAY_FAST: Option<[(u32, u32); 3]> = Some([(4, 1920), (2, 256), (1, 0)]);
const REPLAY_SLOW: Option<[(u32, u32); 3]> = Some([(2, 1024), (1, 0), (1, 0)]);

/// A small ResNet for one small device, chosen by this project.
const SMALL_RESNET: Model = Model { origin: Origin::Ours, batch: [128, 128, 128], ..PLAIN };

const DEIT_ROW: Model = Model {
    family: Family::DeiT,
    tenths: DEIT,
    batch: TINY.0,
    accumulation: TINY.1,
    drop_path: 0.1,
    clip_grad: Some(5.0),
    ..PLAIN
};

const SWIN: Model =
    Model { family: Family::Swin, batch: LARGE.0, accumulation: LARGE.1, clip_grad: Some(5.0), ..PLAIN };

const CSWIN: Model =
    Model { family: Family::CSwin, batch: LARGE.0, accumulation: LARGE.1, ema_decay: Some(0.9999), ..PLAIN };

/// The CAFormer paper's own recipe (Yu et al., 2022, appendix) under the ++ curriculum: the authors
/// of the curriculum have no launcher.
const CAFORMER: Model =
    Model { family: Family::CaFormer, origin: Origin::Paper, batch: LARGE.0, accumulation: LARGE.1, ..PLAIN };

/// The PVT paper's own recipe (Wang et al., 2021), which is DeiT's: learning rate 1e-3 at a batch
/// of 1024.
const PVT: Model = Model {
    family: Family::Pvt,
    origin: Origin::Paper,
    batch: TINY.0,
    accumulation: TINY.1,
    drop_path: 0.1,
    ..PLAIN
};

/// timm's variants below ConvNeXt-T, for which the authors have no launcher: its recipe.
const SMALL_CONVNEXT: Model = Model {
    origin: Origin::Ours,
    batch: [256, 256, 128],
    accumulation: [2, 2, 4],
    drop_path: 0.1,
    ..CONVNEXT_ROW
};

const CONVNEXT_ROW: Model = Model {
    family: Family::ConvNext,
    tenths: CONVNEXT,
    batch: [128, 128, 64],
    accumulation: [4, 4, 8],
    ema_decay: Some(0.9999),
    ..PLAIN
};

impl Model {
    /// Name in the registry of `efficienttrain-models`.
    pub(crate) fn registry_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// Replaces the spelling with hyphens, which earlier versions stored, by the registry's; keeps any
/// other name.
pub(crate) fn current_model_name(stored: String) -> String {
    MODELS.iter().find(|row| row.name == stored).map_or(stored, Model::registry_name)
}

/// Every model, by canonical name.
pub(crate) const MODELS: &[Model] = &[
    Model { name: "resnet10", reference: "resnet10", aliases: &["resnet-10", "res10"], ..SMALL_RESNET },
    Model { name: "resnet18", reference: "resnet18", aliases: &["resnet-18", "res18"], ..SMALL_RESNET },
    Model { name: "resnet34", reference: "resnet34", aliases: &["resnet-34", "res34"], ..SMALL_RESNET },
    Model {
        name: "resnet50",
        reference: "resnet50",
        aliases: &["resnet-50", "res50"],
        replay: REPLAY_FAST,
        ..PLAIN
    },
    Model {
        name: "resnet101",
        reference: "resnet101",
        aliases: &["resnet-101", "res101"],
        origin: Origin::Ours,
        ..PLAIN
    },
    Model {
        name: "resnet152",
        reference: "resnet152",
        aliases: &["resnet-152", "res152"],
        origin: Origin::Ours,
        ..PLAIN
    },
    Model {
        name: "deit-tiny",
        reference: "deit_tiny_patch16_224",
        aliases: &["deit-t", "deit-tiny-patch16-224"],
        origin: Origin::Paper,
        ..DEIT_ROW
    },
    Model {
        name: "deit-small",
        reference: "deit_small_patch16_224",
        aliases: &["deit-s", "deit-small-patch16-224"],
        replay: REPLAY_FAST,
        ..DEIT_ROW
    },
    Model {
        name: "deit-base",
        reference: "deit_base_patch16_224",
        aliases: &["deit-b", "deit-base-patch16-224"],
        origin: Origin::Ours,
        batch: LARGE.0,
        accumulation: LARGE.1,
        ..DEIT_ROW
    },
    Model {
        name: "deit-tiny-distilled",
        reference: "deit_tiny_distilled_patch16_224",
        aliases: &["deit-tiny-distilled-patch16-224"],
        origin: Origin::Ours,
        ..DEIT_ROW
    },
    Model {
        name: "deit-small-distilled",
        reference: "deit_small_distilled_patch16_224",
        aliases: &["deit-small-distilled-patch16-224"],
        origin: Origin::Ours,
        ..DEIT_ROW
    },
    Model {
        name: "deit-base-distilled",
        reference: "deit_base_distilled_patch16_224",
        aliases: &["deit-base-distilled-patch16-224"],
        origin: Origin::Ours,
        batch: LARGE.0,
        accumulation: LARGE.1,
        ..DEIT_ROW
    },
    Model {
        name: "swin-tiny",
        reference: "swin_tiny",
        aliases: &["swin-t", "swin-tiny-patch4-window7-224"],
        batch: TINY.0,
        accumulation: TINY.1,
        drop_path: 0.2,
        replay: REPLAY_SLOW,
        ..SWIN
    },
    Model {
        name: "swin-small",
        reference: "swin_small",
        aliases: &["swin-s", "swin-small-patch4-window7-224"],
        drop_path: 0.3,
        ..SWIN
    },
    Model {
        name: "swin-base",
        reference: "swin_base",
        aliases: &["swin-b", "swin-base-patch4-window7-224"],
        drop_path: 0.5,
        ..SWIN
    },
    Model {
        name: "cswin-tiny",
        reference: "CSWin_64_12211_tiny_224",
        aliases: &["cswin-t", "cswin-64-12211-tiny-224"],
        batch: TINY.0,
        accumulation: TINY.1,
        drop_path: 0.2,
        replay: REPLAY_SLOW,
        ..CSWIN
    },
    Model {
        name: "cswin-small",
        reference: "CSWin_64_24322_small_224",
        aliases: &["cswin-s", "cswin-64-24322-small-224"],
        drop_path: 0.4,
        ..CSWIN
    },
    Model {
        name: "cswin-base",
        reference: "CSWin_96_24322_base_224",
        aliases: &["cswin-b", "cswin-96-24322-base-224"],
        drop_path: 0.5,
        ..CSWIN
    },
    Model {
        name: "cswin-large",
        reference: "CSWin_144_24322_large_224",
        aliases: &["cswin-l", "cswin-144-24322-large-224"],
        origin: Origin::Ours,
        drop_path: 0.5,
        ..CSWIN
    },
    Model { name: "convnext-atto", reference: "convnext_atto", aliases: &["convnext-a"], ..SMALL_CONVNEXT },
    Model { name: "convnext-femto", reference: "convnext_femto", aliases: &["convnext-f"], ..SMALL_CONVNEXT },
    Model { name: "convnext-pico", reference: "convnext_pico", aliases: &["convnext-p"], ..SMALL_CONVNEXT },
    Model { name: "convnext-nano", reference: "convnext_nano", aliases: &["convnext-n"], ..SMALL_CONVNEXT },
    Model {
        name: "convnext-tiny",
        reference: "convnext_tiny",
        aliases: &["convnext-t"],
        batch: [256, 256, 128],
        accumulation: [2, 2, 4],
        drop_path: 0.1,
        ..CONVNEXT_ROW
    },
    Model {
        name: "convnext-small",
        reference: "convnext_small",
        aliases: &["convnext-s"],
        drop_path: 0.4,
        ..CONVNEXT_ROW
    },
    Model {
        name: "convnext-base",
        reference: "convnext_base",
        aliases: &["convnext-b"],
        drop_path: 0.5,
        ..CONVNEXT_ROW
    },
    Model {
        name: "convnext-large",
        reference: "convnext_large",
        aliases: &["convnext-l"],
        origin: Origin::Ours,
        drop_path: 0.5,
        ..CONVNEXT_ROW
    },
    Model {
        name: "caformer-s18",
        reference: "caformer_s18",
        aliases: &[],
        batch: TINY.0,
        accumulation: TINY.1,
        drop_path: 0.15,
        ..CAFORMER
    },
    Model { name: "caformer-s36", reference: "caformer_s36", aliases: &[], drop_path: 0.3, ..CAFORMER },
    Model { name: "caformer-m36", reference: "caformer_m36", aliases: &[], drop_path: 0.4, ..CAFORMER },
    Model {
        name: "caformer-b36",
        reference: "caformer_b36",
        aliases: &[],
        origin: Origin::Ours,
        drop_path: 0.6,
        ..CAFORMER
    },
    Model {
        name: "convformer-s18",
        reference: "convformer_s18",
        aliases: &[],
        origin: Origin::Ours,
        batch: TINY.0,
        accumulation: TINY.1,
        drop_path: 0.2,
        ..CAFORMER
    },
    Model {
        name: "convformer-s36",
        reference: "convformer_s36",
        aliases: &[],
        origin: Origin::Ours,
        drop_path: 0.3,
        ..CAFORMER
    },
    Model {
        name: "convformer-m36",
        reference: "convformer_m36",
        aliases: &[],
        origin: Origin::Ours,
        drop_path: 0.4,
        ..CAFORMER
    },
    Model {
        name: "convformer-b36",
        reference: "convformer_b36",
        aliases: &[],
        origin: Origin::Ours,
        drop_path: 0.6,
        ..CAFORMER
    },
    Model { name: "pvt-tiny", reference: "pvt_tiny", aliases: &["pvt-t"], ..PVT },
    Model { name: "pvt-small", reference: "pvt_small", aliases: &["pvt-s"], ..PVT },
    Model {
        name: "pvt-medium",
        reference: "pvt_medium",
        aliases: &["pvt-m"],
        batch: LARGE.0,
        accumulation: LARGE.1,
        drop_path: 0.3,
        ..PVT
    },
    Model {
        name: "pvt-large",
        reference: "pvt_large",
        aliases: &["pvt-l"],
        batch: LARGE.0,
        accumulation: LARGE.1,
        drop_path: 0.3,
        ..PVT
    },
];
