//! Complete recipes from a model's row and a preset.

use crate::catalog::Model;
use crate::curriculum::{Curriculum, ShareUnit};
use crate::curve::LrCurve;
use crate::optimizer::{LrOver, LrScaling, Optimizer, OptimizerKind, WarmUp, usual_momentum};
use crate::recipe::{Augmentation, DropPath, Family, Origin, Recipe};
use crate::stage::{Magnitude, Order, Replay, Stage};
use serde::{Deserialize, Serialize};

/// Base size of every recipe of the catalog; [`Recipe::at_base_size`] changes it.
pub(crate) const BASE_SIZE: u32 = 224;

/// Equivalent epochs at which the ++ drop-path rates hold.
const DROP_PATH_EPOCHS: f64 = 200.0;

/// Curricula of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// EfficientTrain++ (arXiv 2405.08768): ten stages of equal compute.
    Etpp,
    /// EfficientTrain++ with the replay buffer of the authors' `wReplay` launchers.
    EtppReplay,
    /// EfficientTrain, first version (arXiv 2211.09703): five stages of equal epochs.
    Et,
    /// 96 pixels for the first half of the epochs, then full size, at the baseline's magnitude: the
    /// papers' first check that low frequencies are enough in early training (they made it with
    /// Swin-T).
    Half96,
    /// Like [`Self::Half96`], with 128 pixels.
    Half128,
    /// Progressive resizing (Howard, 2018; Tan and Le, 2021): five stages of equal epochs, whose
    /// size grows linearly from 96 pixels to full size, at the baseline's magnitude.
    Progressive,
    /// For runs of some tens of passes, where the recipes of the papers regularize too much: 160 pixels
    /// for 60% of the compute, then full size, without RandAugment, random erasing, mixup and cutmix.
    Short,
    /// No curriculum: full size and magnitude 9 throughout.
    Baseline,
}

impl Preset {
    /// All presets.
    pub const ALL: [Self; 8] = [
        Self::Etpp,
        Self::EtppReplay,
        Self::Et,
        Self::Half96,
        Self::Half128,
        Self::Progressive,
        Self::Short,
        Self::Baseline,
    ];

    /// Returns the suffix of a recipe's name.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Etpp => "etpp",
            Self::EtppReplay => "etpp-replay",
            Self::Et => "et",
            Self::Half96 => "half-96",
            Self::Half128 => "half-128",
            Self::Progressive => "progressive",
            Self::Short => "short",
            Self::Baseline => "baseline",
        }
    }

    /// Returns true if the model has such a recipe: replay is known for four models only.
    pub(crate) fn fits(self, model: &Model) -> bool {
        self != Self::EtppReplay || model.replay.is_some()
    }
}

/// The recipe of `model` under `preset`.
pub(crate) fn build(model: &Model, preset: Preset) -> Recipe {
    let curriculum = match preset {
        Preset::Etpp | Preset::EtppReplay => ten_stages(model, preset == Preset::EtppReplay),
        Preset::Et => five_stages(model),
        Preset::Half96 => equal_epochs(model, &[96, BASE_SIZE]),
        Preset::Half128 => equal_epochs(model, &[128, BASE_SIZE]),
        Preset::Progressive => equal_epochs(model, &[96, 128, 160, 192, BASE_SIZE]),
        Preset::Short => two_stages(model),
        Preset::Baseline => one_stage(model),
    };
    Recipe {
        name: format!("{}-{}", model.name, preset.suffix()),
        model: model.registry_name(),
        family: model.family,
        reference_model: model.reference.to_owned(),
        origin: origin(model, preset),
        curriculum,
        optimizer: optimizer(model, preset),
        augmentation: if preset == Preset::Short { crop_and_flip() } else { augmentation() },
        drop_path: drop_path(model, preset),
        ema_decay: model.ema_decay.map(|decay| if large_cswin(model, preset) { 0.9998 } else { decay }),
    }
}

/// The ++ launcher of CSWin-B alone uses other optimizer numbers (those of its ImageNet-22K
/// recipe).
fn large_cswin(model: &Model, preset: Preset) -> bool {
    model.name == "cswin-base" && preset != Preset::Et
}

fn origin(model: &Model, preset: Preset) -> Origin {
    match (model.origin, preset) {
        (Origin::Ours, _) => Origin::Ours,
        // Neither launcher knows these; the first paper reports PVT, the second CAFormer too.
        (_, Preset::Et) if model.family == Family::CaFormer => Origin::Ours,
        (_, Preset::Et) if model.family == Family::Pvt => Origin::Paper,
        // The first version's launcher knows every model of the papers, DeiT-T too.
        (_, Preset::Et) => Origin::AuthorsLauncher,
        (_, Preset::Half96 | Preset::Half128) if model.name == "swin-tiny" => Origin::Paper,
        (_, Preset::Half96 | Preset::Half128 | Preset::Progressive | Preset::Short) => Origin::Ours,
        (_, Preset::Baseline) => Origin::Paper,
        (origin, _) => origin,
    }
}

fn ten_stages(model: &Model, with_replay: bool) -> Curriculum {
    let columns =
        model.tenths.iter().flat_map(|&(tenths, size, column)| (0..tenths).map(move |_| (size, column)));
    let stage = |(index, (size, column)): (u32, (u32, usize))| {
        let (times, buffer_batches) =
            model.replay.filter(|_| with_replay).map_or((1, 0), |replay| replay[column]);
        Stage {
            share: 0.1,
            size,
            magnitude: Magnitude::Fixed(f64::from(index)),
            batch_per_device: model.batch[column],
            accumulation: model.accumulation[column],
            replay: Replay { times, buffer_batches },
            order: Order::default(),
        }
    };
    let stages = (0..).zip(columns).map(stage).collect();
    Curriculum { base_size: BASE_SIZE, share_of: ShareUnit::Compute, stages }
}

/// The first version's launcher: sizes 160 x 3, 192, 224 and magnitudes 1, 3, 5, 7, 9 over fifths
/// of the epochs.
fn five_stages(model: &Model) -> Curriculum {
    let sizes = [160, 160, 160, 192, BASE_SIZE];
    let stage = |(index, &size): (u32, &u32)| {
        let (batch_per_device, accumulation) = match (model.origin, index) {
            (Origin::Ours, _) => (model.batch[2], model.accumulation[2]),
            // Default `final_bs` 256: twice that before the last stage, accumulated to 4096 over 8
            // devices.
            (_, 4) => (256, 2),
            _ => (512, 1),
        };
        let magnitude = Magnitude::Fixed(f64::from(2 * index + 1));
        Stage { accumulation, ..Stage::new(0.2, size, magnitude, batch_per_device) }
    };
    let stages = (0..).zip(&sizes).map(stage).collect();
    Curriculum { base_size: BASE_SIZE, share_of: ShareUnit::Epochs, stages }
}

/// The middle size of the ++ curriculum, then full size.
fn two_stages(model: &Model) -> Curriculum {
    let stage = |(share, size, column): (f64, u32, usize)| {
        let stage = Stage::new(share, size, Magnitude::Fixed(0.0), model.batch[column]);
        Stage { accumulation: model.accumulation[column], ..stage }
    };
    let stages = [(0.6, 160, 1), (0.4, BASE_SIZE, 2)].map(stage).to_vec();
    Curriculum { base_size: BASE_SIZE, share_of: ShareUnit::Compute, stages }
}

fn one_stage(model: &Model) -> Curriculum {
    Curriculum { share_of: ShareUnit::Compute, ..equal_epochs(model, &[BASE_SIZE]) }
}

/// Makes a curriculum in which the size alone changes, after equal numbers of epochs.
fn equal_epochs(model: &Model, sizes: &[u32]) -> Curriculum {
    let stage = |&size: &u32| {
        let stage = Stage::new(1.0 / sizes.len() as f64, size, Magnitude::Fixed(9.0), model.batch[2]);
        Stage { accumulation: model.accumulation[2], ..stage }
    };
    let stages = sizes.iter().map(stage).collect();
    Curriculum { base_size: BASE_SIZE, share_of: ShareUnit::Epochs, stages }
}

fn optimizer(model: &Model, preset: Preset) -> Optimizer {
    let large = large_cswin(model, preset);
    // The batches of the small recipes are far below 4096. There the square-root rule suits Adam
    // better than the linear one.
    let small = model.origin == Origin::Ours && model.batch[2] <= 128 && model.family == Family::ResNet;
    let deit = model.family == Family::DeiT && preset != Preset::Et;
    Optimizer {
        kind: if large { OptimizerKind::Lamb } else { OptimizerKind::AdamW },
        lr: if large { 8e-3 } else { 4e-3 },
        reference_batch: 4096,
        lr_scaling: if small { LrScaling::Sqrt } else { LrScaling::Linear },
        min_lr: 1e-6,
        betas: (0.9, 0.999),
        eps: if large { 1e-6 } else { 1e-8 },
        momentum: usual_momentum(),
        weight_decay: if large { 0.1 } else { 0.05 },
        clip_grad: model.clip_grad,
        warm_up: if deit { WarmUp::Share(0.2) } else { WarmUp::Epochs { epochs: 20.0, at_most_share: 0.2 } },
        lr_over: LrOver::Compute,
        curve: LrCurve::Cosine,
    }
}

fn drop_path(model: &Model, preset: Preset) -> DropPath {
    match preset {
        Preset::Etpp | Preset::EtppReplay | Preset::Short => {
            DropPath::Scaled { rate: model.drop_path, at_epochs: DROP_PATH_EPOCHS }
        }
        Preset::Et | Preset::Half96 | Preset::Half128 | Preset::Progressive | Preset::Baseline => {
            DropPath::Constant(model.drop_path)
        }
    }
}

/// The random crop and the flip alone.
fn crop_and_flip() -> Augmentation {
    Augmentation { ops: 0, erasing: 0.0, mixup: 0.0, cutmix: 0.0, ..augmentation() }
}

fn augmentation() -> Augmentation {
    Augmentation {
        ops: 2,
        op_probability: 0.5,
        magnitude_std: 0.5,
        increasing: true,
        erasing: 0.25,
        mixup: 0.8,
        cutmix: 1.0,
        switch_probability: 0.5,
        label_smoothing: 0.1,
        flip: 0.5,
    }
}
