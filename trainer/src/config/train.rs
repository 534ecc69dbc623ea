//! Options that decide the outcome of a run.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::batch::BatchSize;
use crate::config::images::ImagesPerClass;
use crate::config::interval::{Interval, Length};
use crate::config::policy::PolicyName;
use crate::config::precision::Precision;
use crate::config::pretraining::{DecoderShape, TargetName};
use crate::config::recipe_source::RecipeSource;
use crate::config::values::{
    CropMethod, CropOrder, CurveName, LossName, NonFinitePolicy, OptimizerName, ScalingName,
};
use crate::config::{DEFAULT_BATCH, DEFAULT_IMAGE_MIB};

const DATA: &str = "Data";
const RUN: &str = "Run";
const OPTIMIZATION: &str = "Optimization";
const AUGMENTATION: &str = "Augmentation";
const REPLAY_BUFFER: &str = "Replay buffer";
const PRETRAINING: &str = "Pre-training";

/// What decides the outcome of a run. Stored in every checkpoint; a run is resumed with the same values.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Data set: image folders (`train/CLASS/IMAGE`, `val/CLASS/IMAGE`), tar shards, CIFAR binaries or, in builds with them,
    /// Parquet files; without it, a built-in synthetic set is used
    #[arg(long, value_name = "DIR", help_heading = DATA)]
    pub data: Option<PathBuf>,

    /// Without a val split: part of each class to hold out for evaluation, such as 0.1; DIR may be `CLASS/IMAGE` then. Which
    /// images follows from the set alone, not from --seed
    #[arg(long, value_name = "SHARE", help_heading = DATA)]
    pub val_share: Option<f64>,

    /// Memory that one decoded image may take, in MiB; larger ones count as unreadable
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_IMAGE_MIB, help_heading = DATA)]
    pub max_image_mib: u32,

    /// Train on this many images of each class alone, for quick studies; --seed says which, or a seed of their own behind an
    /// `@`, such as `50@3` [default: all]
    #[arg(long, value_name = "N", help_heading = DATA)]
    pub images_per_class: Option<ImagesPerClass>,

    /// Training images of the synthetic set
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = DATA)]
    pub synthetic_images: usize,

    /// Model to train, as `efficienttrain models` lists them [default: that of a full recipe name, else resnet18]
    #[arg(long, value_name = "NAME", help_heading = RUN)]
    pub model: Option<String>,

    /// Curriculum: `etpp`, `et`, `half-96`, `half-128`, `progressive` or `baseline` of the model; a full name such as
    /// `resnet50-etpp`; or a file (JSON or TOML), which also gives base size and batches where they are not set
    #[arg(long, value_name = "NAME", default_value = "etpp", help_heading = RUN)]
    pub recipe: RecipeSource,

    /// Weights to begin with: a run's, or timm's, torchvision's or the authors' (safetensors or .pth); a head for other
    /// classes stays as drawn from the seed, tables of positions follow the size
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub init: Option<PathBuf>,

    /// With --init: begin with the moving average in it
    #[arg(long, help_heading = RUN)]
    pub init_ema: bool,

    /// Compute to spend, in epochs at base size
    #[arg(long, value_name = "E", default_value_t = 30.0, allow_negative_numbers = true, help_heading = RUN)]
    pub epochs: f64,

    /// Full training and evaluation size, in pixels; the curriculum's sizes keep their ratio to it
    #[arg(long, value_name = "PIXELS", default_value_t = 224, help_heading = RUN)]
    pub base_size: u32,

    /// Images of a forward and backward pass: `64`; one number for each size of the curriculum, such as `256,128,64`;
    /// `recipe` for the recipe's own; or `auto` for what is fastest on this machine
    #[arg(long, value_name = "N", default_value_t = BatchSize::Images(DEFAULT_BATCH), help_heading = OPTIMIZATION)]
    pub batch: BatchSize,

    /// Passes whose gradients are summed before an optimizer step
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = OPTIMIZATION)]
    pub accumulation: u32,

    /// Optimizer [default: the recipe's]; another one wants its own --lr and --weight-decay
    #[arg(long, value_enum, help_heading = OPTIMIZATION)]
    pub opt: Option<OptimizerName>,

    /// What gradient descent keeps of its momentum [default: the recipe's, 0.9]
    #[arg(long, value_name = "M", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub momentum: Option<f64>,

    /// Peak learning rate at this batch [default: the recipe's, scaled to the batch]
    #[arg(long, value_name = "LR", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub lr: Option<f64>,

    /// How the learning rate follows the batch where --lr is not given [default: the recipe's]
    #[arg(long, value_enum, help_heading = OPTIMIZATION)]
    pub lr_scaling: Option<ScalingName>,

    /// How the learning rate falls behind its warm-up [default: the recipe's, cosine]
    #[arg(long, value_enum, help_heading = OPTIMIZATION)]
    pub lr_curve: Option<CurveName>,

    /// With `--lr-curve step`: lower it every `30ep` (passes over the data), `500st` (steps) or `30%` (of the compute)
    #[arg(long, value_name = "SPAN", help_heading = OPTIMIZATION)]
    pub lr_step_every: Option<Interval>,

    /// With `--lr-curve step`: what is left each time
    #[arg(long, value_name = "FACTOR", default_value_t = 0.1, help_heading = OPTIMIZATION)]
    pub lr_step_factor: f64,

    /// Where the learning rate ends [default: the recipe's]
    #[arg(long, value_name = "LR", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub min_lr: Option<f64>,

    /// Linear warm-up over `20ep` (passes over the data), `500st` (steps) or `5%` (of the compute); `0st` for none
    /// [default: the recipe's]
    #[arg(long, value_name = "SPAN", help_heading = OPTIMIZATION)]
    pub warmup: Option<Length>,

    /// Learning rate of a layer over that of the layer above it; 1 for the same everywhere
    #[arg(long, value_name = "DECAY", default_value_t = 1.0, help_heading = OPTIMIZATION)]
    pub layer_decay: f64,

    /// Parameters that stay as they are: names, with `*` for any text, such as `layer1.*`. A batch norm whose running
    /// statistics match normalizes by them in training too; stochastic depth stays on
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = OPTIMIZATION)]
    pub freeze: Vec<String>,

    /// Parameters without weight decay besides those of the recipe (biases, norms, the model's own list): names, with `*` for
    /// any text. timm exempts Swin's `*.relative_position_bias_table`, which the authors' code does not
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = OPTIMIZATION)]
    pub no_decay: Vec<String>,

    /// What training brings down
    #[arg(long, value_enum, default_value_t = LossName::CrossEntropy, help_heading = OPTIMIZATION)]
    pub loss: LossName,

    /// With `--loss bce`: targets above this count as 1, the others as 0 [default: as they are]
    #[arg(long, value_name = "SHARE", help_heading = OPTIMIZATION)]
    pub bce_threshold: Option<f64>,

    /// What activations are stored as: `bf16` halves their memory; weights, gradients and statistics are single precision
    /// in any case, and so is evaluation. On a GPU also `tf32` (products rounded to eleven places) and `f16`
    #[arg(long, value_enum, default_value_t = Precision::F32, help_heading = OPTIMIZATION)]
    pub precision: Precision,

    /// What to do when a loss or a gradient is not a number
    #[arg(long, alias = "on-bad-numbers", value_enum, default_value_t = NonFinitePolicy::Stop,
          help_heading = OPTIMIZATION)]
    #[serde(alias = "on_bad_numbers")]
    pub on_nonfinite: NonFinitePolicy,

    /// Steps with bad numbers to leave out before the run stops all the same
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = OPTIMIZATION)]
    pub max_bad_steps: u32,

    /// Weight decay [default: the recipe's]
    #[arg(long, value_name = "WD", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub weight_decay: Option<f64>,

    /// Stochastic depth of the last block [default: the recipe's]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub drop_path: Option<f64>,

    /// Decay of the moving average of the weights, 0 for none [default: the recipe's]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub ema_decay: Option<f64>,

    /// Warm up the decay of the moving average as timm's `--model-ema-warmup` does: after n updates it is at most
    /// 1 - (1 + n)^(-2/3), so that in a short run it does not hang on the untrained weights
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
          action = clap::ArgAction::Set, help_heading = OPTIMIZATION)]
    pub ema_warmup: bool,

    /// Largest norm of all gradients together, 0 for no limit [default: the recipe's]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub clip_grad: Option<f64>,

    /// Augmentation policy, as timm spells them: `rand-m9-mstd0.5-inc1`, `original`, `v0`, `3a`, `augmix-m3`, `ta_wide`, ..., or
    /// `none`. A magnitude of 9 in the plan is the policy as written, less is as much less of it [default: the recipe's
    /// RandAugment]
    #[arg(long, visible_alias = "aa", value_name = "POLICY", help_heading = AUGMENTATION)]
    pub auto_augment: Option<PolicyName>,

    /// Alpha of mixup, 0 for none [default: the recipe's]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub mixup: Option<f64>,

    /// Alpha of cutmix, 0 for none [default: the recipe's]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub cutmix: Option<f64>,

    /// Label smoothing [default: the recipe's]
    #[arg(long, value_name = "S", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub label_smoothing: Option<f64>,

    /// Probability of mirroring left and right; 0 where sides matter, as in digits and text [default: the recipe's, 0.5]
    #[arg(long, value_name = "P", help_heading = AUGMENTATION)]
    pub hflip: Option<f64>,

    /// Probability of random erasing [default: the recipe's]
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub erasing: Option<f64>,

    /// Smallest share of the image's area that the random crop takes
    #[arg(long, value_name = "SHARE", default_value_t = 0.08, help_heading = AUGMENTATION)]
    pub min_crop_area: f64,

    /// Whether the low-frequency crop comes before or after the augmentation policy
    #[arg(long, value_enum, default_value_t = CropOrder::CropThenAugment, help_heading = AUGMENTATION)]
    pub order: CropOrder,

    /// How images are brought to the size of the stage
    #[arg(long, value_enum, default_value_t = CropMethod::Fourier, help_heading = AUGMENTATION)]
    pub crop: CropMethod,

    /// Resize to base size and low-frequency crop one after the other, with 8-bit pixels in between, where one operator
    /// could do both
    #[arg(long, help_heading = AUGMENTATION)]
    pub stepwise_crop: bool,

    /// Decode JPEGs at 1/2, 1/4 or 1/8 of their size where the crop box keeps twice the pixels of the stage's size
    #[arg(long, help_heading = AUGMENTATION)]
    pub reduced_decode: bool,

    /// Times each prepared image is trained on while pictures are smaller than the base size; 1 for no replay buffer
    /// [default: the recipe's]
    #[arg(long, value_name = "R", help_heading = REPLAY_BUFFER)]
    pub replay: Option<u32>,

    /// Prepared batches that the replay buffer keeps [default: the recipe's, or 256]
    #[arg(long, value_name = "N", help_heading = REPLAY_BUFFER)]
    pub replay_batches: Option<u32>,

    /// What the decoder predicts of the patches that the encoder does not see; the run pre-trains a masked autoencoder then
    #[arg(long, value_enum, help_heading = PRETRAINING)]
    pub target: Option<TargetName>,

    /// Part of the patches that the encoder does not see
    #[arg(long, value_name = "SHARE", default_value_t = 0.75, help_heading = PRETRAINING)]
    pub mask_ratio: f64,

    /// Channels, heads and blocks of the decoder, such as `256x8x4` [default: a light one for the encoder]
    #[arg(long, value_name = "CxHxB", help_heading = PRETRAINING)]
    pub decoder: Option<DecoderShape>,

    /// Seed of weights, order and augmentation
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = RUN)]
    pub seed: u64,
}
