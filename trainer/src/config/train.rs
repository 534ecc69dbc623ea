//! Options that decide the outcome of a run.

use std::path::PathBuf;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::config::batch::BatchSize;
use crate::config::channels::{InputChannels, PerChannel};
use crate::config::class_weights::ClassWeights;
use crate::config::cost::CostRule;
use crate::config::images::ImagesPerClass;
use crate::config::interval::{Interval, Length};
use crate::config::magnitude::MagnitudeRange;
use crate::config::options::SEVERAL;
use crate::config::policy::PolicyName;
use crate::config::precision::Precision;
use crate::config::pretraining::{DecoderShape, TargetName};
use crate::config::recipe_source::RecipeSource;
use crate::config::values::{
    BatchNormMode, CropMethod, CropOrder, CurveName, Interpolation, LossName, NonFinitePolicy, OptimizerName,
    SamplerName, ScalingName, SumMethod, SumType,
};
use crate::config::{DEFAULT_BATCH, DEFAULT_IMAGE_MIB};

const DATA: &str = "Data";
const RUN: &str = "Run";
const OPTIMIZATION: &str = "Optimization";
const AUGMENTATION: &str = "Augmentation";
const REPLAY_BUFFER: &str = "Replay buffer";
const PRETRAINING: &str = "Pre-training";

/// Options that decide the outcome of a run. They are stored in every checkpoint; a run resumes
/// with the same values.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Data set: image folders (`train/CLASS/IMAGE` and `val/CLASS/IMAGE`), tar shards, CIFAR
    /// binaries or, in builds with the feature `parquet`, Parquet files. Without it a built-in
    /// synthetic set is used
    #[arg(long, value_name = "DIR", help_heading = DATA)]
    pub data: Option<PathBuf>,

    /// Fraction of each class to hold out for evaluation if the data set has no val split, such as
    /// 0.1; DIR may then be `CLASS/IMAGE`. The held-out images depend on the data set alone, not on
    /// --seed
    #[arg(long, value_name = "SHARE", help_heading = DATA)]
    pub val_share: Option<f64>,

    /// Largest memory of one decoded image, in MiB; larger images count as unreadable
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_IMAGE_MIB, help_heading = DATA)]
    pub max_image_mib: u32,

    /// Train on only this many images of each class, for quick studies. --seed selects them, or a
    /// seed of their own after an `@`, such as `50@3` [default: all]
    #[arg(long, value_name = "N", help_heading = DATA)]
    pub images_per_class: Option<ImagesPerClass>,

    /// Several labels an image, or none: in lists (`train.csv` and `val.csv`), labels of a row are
    /// separated by `|` or `;`, as in `cat|dog`, and an empty label is an image of no class. The
    /// loss is then `--loss bce`, and runs are judged by mean average precision (mAP)
    #[arg(long, help_heading = DATA)]
    pub multi_label: bool,

    /// Training images of the synthetic set
    #[arg(long, value_name = "N", default_value_t = 4096, help_heading = DATA)]
    pub synthetic_images: usize,

    /// Training images of a pass
    #[arg(long, value_enum, default_value_t = SamplerName::Uniform, help_heading = DATA)]
    pub sampler: SamplerName,

    /// Channels of the images that the network takes: 3, or 1 for gray images, to which color images
    /// are converted. The first layer of --init weights is adapted, as by timm's `in_chans` [default:
    /// that of --init weights, or 3]
    #[arg(long, value_name = "1|3", help_heading = DATA)]
    pub input_channels: Option<InputChannels>,

    /// Mean of the pixel values (0 to 1) of red, green and blue by which images are normalized, such
    /// as `0.5,0.5,0.5`, or one number for all; kept with the weights [default: ImageNet's,
    /// `0.485,0.456,0.406`, or `0.449` for gray images]
    #[arg(long, value_name = "R,G,B", help_heading = DATA)]
    pub mean: Option<PerChannel>,

    /// Standard deviation of the pixel values, like --mean [default: ImageNet's,
    /// `0.229,0.224,0.225`, or `0.226` for gray images]
    #[arg(long, value_name = "R,G,B", help_heading = DATA)]
    pub std: Option<PerChannel>,

    /// Model to train; `efficienttrain models` lists them [default: the model of a full recipe
    /// name, otherwise resnet18]
    #[arg(long, value_name = "NAME", help_heading = RUN)]
    pub model: Option<String>,

    /// Curriculum: `etpp`, `et`, `half-96`, `half-128`, `progressive`, `short` or `baseline` of the
    /// model; a full name such as `resnet50-etpp`; or a file (JSON or TOML), which also sets base
    /// size and batches unless they are given
    #[arg(long, value_name = "NAME", default_value = "etpp", help_heading = RUN)]
    pub recipe: RecipeSource,

    /// Initial weights: a checkpoint of this program, or a timm, torchvision or authors' file
    /// (safetensors or .pth). A head with other classes is re-initialized; position embeddings are
    /// resampled to the input size
    #[arg(long, value_name = "FILE", help_heading = RUN)]
    pub init: Option<PathBuf>,

    /// Start from the moving average (EMA) in the --init file
    #[arg(long, help_heading = RUN)]
    pub init_ema: bool,

    /// Compute budget, in compute epochs: the cost of a pass over the data at base size, in the unit
    /// of --cost
    #[arg(long, value_name = "E", default_value_t = 30.0, allow_negative_numbers = true, help_heading = RUN)]
    pub epochs: f64,

    /// Cost of an image by its size, in which the budget is counted: `square` for (size / base
    /// size)^2, as the authors count; `macs` for the model's multiply-accumulates; `time` for the
    /// time of a step on this machine, measured before the run and stored with it
    #[arg(long, value_name = "UNIT", default_value_t = CostRule::Square, help_heading = RUN)]
    pub cost: CostRule,

    /// Full training and evaluation size, in pixels; the sizes of the curriculum keep their ratio
    /// to it
    #[arg(long, value_name = "PIXELS", default_value_t = 224, help_heading = RUN)]
    pub base_size: u32,

    /// Images per forward and backward pass: a number such as `64`; one number per size of the
    /// curriculum, such as `256,128,64`; `recipe` for those of the recipe; or `auto` for the
    /// fastest on this machine
    #[arg(long, value_name = "N", default_value_t = BatchSize::Images(DEFAULT_BATCH), help_heading = OPTIMIZATION)]
    pub batch: BatchSize,

    /// Gradient accumulation: micro-batches per optimizer step
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = OPTIMIZATION)]
    pub accumulation: u32,

    /// Devices that the run is planned for, each of which has its own micro-batches, and its own
    /// replay buffer. Up to as many processes compute their passes, with the same result [default:
    /// the number of processes at the start of the run]
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true, help_heading = SEVERAL)]
    pub devices: u32,

    /// Images whose statistics a batch norm normalizes by. `synchronized` requires one process for
    /// each device of the plan, on the CPU
    #[arg(long, value_enum, default_value_t = BatchNormMode::Local, help_heading = SEVERAL)]
    pub batch_norm: BatchNormMode,

    /// Way of adding up gradients of several processes on GPUs. On the CPU both are the same
    #[arg(long, value_enum, default_value_t = SumMethod::Fast, help_heading = SEVERAL)]
    pub sums: SumMethod,

    /// Type of the numbers in which gradients are sent to other processes. With `bf16` the result is
    /// not bitwise that of another number of processes
    #[arg(long, value_enum, default_value_t = SumType::F32, help_heading = SEVERAL)]
    pub sum_type: SumType,

    /// Optimizer [default: that of the recipe]; another one needs its own --lr and --weight-decay
    #[arg(long, value_enum, help_heading = OPTIMIZATION)]
    pub opt: Option<OptimizerName>,

    /// Momentum of SGD [default: that of the recipe, 0.9]
    #[arg(long, value_name = "M", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub momentum: Option<f64>,

    /// Peak learning rate at this batch size [default: that of the recipe, scaled to the batch]
    #[arg(long, value_name = "LR", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub lr: Option<f64>,

    /// Scaling of the recipe's learning rate with the batch size, unless --lr is given [default:
    /// that of the recipe]
    #[arg(long, value_enum, help_heading = OPTIMIZATION)]
    pub lr_scaling: Option<ScalingName>,

    /// Learning-rate schedule after warm-up [default: that of the recipe, cosine]
    #[arg(long, value_enum, help_heading = OPTIMIZATION)]
    pub lr_curve: Option<CurveName>,

    /// With `--lr-curve step`: interval between decays, as `30ep` (passes over the data), `500st`
    /// (steps) or `30%` (of the compute)
    #[arg(long, value_name = "SPAN", help_heading = OPTIMIZATION)]
    pub lr_step_every: Option<Interval>,

    /// With `--lr-curve step`: factor of each decay
    #[arg(long, value_name = "FACTOR", default_value_t = 0.1, help_heading = OPTIMIZATION)]
    pub lr_step_factor: f64,

    /// Final learning rate [default: that of the recipe]
    #[arg(long, value_name = "LR", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub min_lr: Option<f64>,

    /// Length of the linear learning-rate warm-up, as `20ep` (passes over the data), `500st`
    /// (steps) or `5%` (of the compute); `0st` for none [default: that of the recipe]
    #[arg(long, value_name = "SPAN", help_heading = OPTIMIZATION)]
    pub warmup: Option<Length>,

    /// Learning rate of each layer relative to the next one towards the head, like timm's
    /// `--layer-decay`; 1 for none
    #[arg(long, value_name = "DECAY", default_value_t = 1.0, help_heading = OPTIMIZATION)]
    pub layer_decay: f64,

    /// Parameters to freeze: name patterns, where `*` matches any text, such as `layer1.*`. A batch
    /// norm whose running statistics match runs like in PyTorch's `eval()`; stochastic depth is not
    /// affected
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = OPTIMIZATION)]
    pub freeze: Vec<String>,

    /// Parameters to exempt from weight decay, in addition to biases, norms and the model's own
    /// list: name patterns, where `*` matches any text. Swin's `*.relative_position_bias_table`
    /// matches timm; the default follows the authors' code, which decays it
    #[arg(long, value_name = "PATTERN", value_delimiter = ',', help_heading = OPTIMIZATION)]
    pub no_decay: Vec<String>,

    /// Training loss; with --multi-label `bce` is the default
    #[arg(long, value_enum, default_value_t = LossName::CrossEntropy, help_heading = OPTIMIZATION)]
    pub loss: LossName,

    /// With `--loss bce`: count targets above this as 1 and the others as 0 [default: use targets
    /// as they are]
    #[arg(long, value_name = "SHARE", help_heading = OPTIMIZATION)]
    pub bce_threshold: Option<f64>,

    /// Weights of the classes in the cross entropy: `balanced` for images / (classes * images of the
    /// class), or a CSV file with rows CLASS,WEIGHT [default: 1 for all]
    #[arg(long, value_name = "balanced|FILE", help_heading = OPTIMIZATION)]
    pub class_weights: Option<ClassWeights>,

    /// Precision of activations. `bf16` halves their memory; weights, gradients, statistics and
    /// evaluation stay in single precision. On a GPU also `tf32` (matrix products rounded to 10-bit
    /// mantissas) and `f16`
    #[arg(long, value_enum, default_value_t = Precision::F32, help_heading = OPTIMIZATION)]
    pub precision: Precision,

    /// Policy for steps with a non-finite loss or gradient
    #[arg(long, alias = "on-bad-numbers", value_enum, default_value_t = NonFinitePolicy::Stop,
          help_heading = OPTIMIZATION)]
    #[serde(alias = "on_bad_numbers")]
    pub on_nonfinite: NonFinitePolicy,

    /// With `--on-nonfinite skip` or `lower-lr`: stop the run once more than this many steps have
    /// been skipped
    #[arg(long, value_name = "N", default_value_t = 10, help_heading = OPTIMIZATION)]
    pub max_bad_steps: u32,

    /// Weight decay [default: that of the recipe]
    #[arg(long, value_name = "WD", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub weight_decay: Option<f64>,

    /// Stochastic depth rate of the last block [default: that of the recipe]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub drop_path: Option<f64>,

    /// Dropout rate of the pooled features before the head
    #[arg(long, value_name = "RATE", default_value_t = 0.0, allow_negative_numbers = true,
          help_heading = OPTIMIZATION)]
    pub drop_rate: f64,

    /// Decay of the moving average (EMA) of the weights, 0 for none [default: that of the recipe]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub ema_decay: Option<f64>,

    /// Warm up the EMA decay like timm's `--model-ema-warmup`: after n updates it is at most 1 - (1
    /// + n)^(-2/3), so that short runs do not average in the untrained weights
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", default_value_t = false,
          action = clap::ArgAction::Set, help_heading = OPTIMIZATION)]
    pub ema_warmup: bool,

    /// Gradient clipping: largest norm of all gradients together, 0 for no limit [default: that of
    /// the recipe]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true, help_heading = OPTIMIZATION)]
    pub clip_grad: Option<f64>,

    /// Augmentation policy in timm's spelling: `rand-m9-mstd0.5-inc1`, `original`, `v0`, `3a`,
    /// `augmix-m3`, `ta_wide`, ..., or `none`. Its magnitude is scaled by m / 9, where m is the
    /// magnitude of the stage; at m = 9 it is applied as written [default: the recipe's
    /// RandAugment]
    #[arg(long, visible_alias = "aa", value_name = "POLICY", help_heading = AUGMENTATION)]
    pub auto_augment: Option<PolicyName>,

    /// Magnitude of the augmentation policy, 0 to 10: a number such as `9` throughout, or `0-9` for
    /// a linear growth over the run [default: that of the recipe's stages]
    #[arg(long, value_name = "M", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub magnitude: Option<MagnitudeRange>,

    /// Mixup alpha, 0 for none [default: that of the recipe]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub mixup: Option<f64>,

    /// CutMix alpha, 0 for none [default: that of the recipe]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub cutmix: Option<f64>,

    /// Label smoothing [default: that of the recipe]
    #[arg(long, value_name = "S", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub label_smoothing: Option<f64>,

    /// Probability of a horizontal flip; 0 if sides matter, as in digits and text [default: that of
    /// the recipe, 0.5]
    #[arg(long, value_name = "P", help_heading = AUGMENTATION)]
    pub hflip: Option<f64>,

    /// Probability of a vertical flip, for images without an upper side
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = AUGMENTATION)]
    pub vflip: f64,

    /// Color jitter after the policy: brightness, contrast and saturation each times a random factor
    /// between 1 - S and 1 + S
    #[arg(long, value_name = "S", default_value_t = 0.0, help_heading = AUGMENTATION)]
    pub color_jitter: f64,

    /// Probability of turning an image gray, after the policy
    #[arg(long, value_name = "P", default_value_t = 0.0, help_heading = AUGMENTATION)]
    pub grayscale: f64,

    /// Probability of random erasing [default: that of the recipe]
    #[arg(long, value_name = "P", allow_negative_numbers = true, help_heading = AUGMENTATION)]
    pub erasing: Option<f64>,

    /// Smallest fraction of the image area that the random crop takes
    #[arg(long, value_name = "SHARE", default_value_t = 0.08, help_heading = AUGMENTATION)]
    pub min_crop_area: f64,

    /// Filter by which the random crop is resized; evaluation is bicubic
    #[arg(long, value_enum, default_value_t = Interpolation::Bicubic, help_heading = AUGMENTATION)]
    pub interpolation: Interpolation,

    /// Order of low-frequency crop and augmentation policy
    #[arg(long, value_enum, default_value_t = CropOrder::CropThenAugment, help_heading = AUGMENTATION)]
    pub order: CropOrder,

    /// Method of resizing images to the size of the stage
    #[arg(long, value_enum, default_value_t = CropMethod::Fourier, help_heading = AUGMENTATION)]
    pub crop: CropMethod,

    /// Do not fuse the resize to base size with the low-frequency crop: resize, round to 8 bits,
    /// then crop
    #[arg(long, help_heading = AUGMENTATION)]
    pub stepwise_crop: bool,

    /// Decode JPEGs at 1/2, 1/4 or 1/8 of their size if the crop box is then still at least twice
    /// the size of the stage along each edge
    #[arg(long, help_heading = AUGMENTATION)]
    pub reduced_decode: bool,

    /// Replay: how often each prepared image is trained on while images are smaller than the base
    /// size; 1 for no replay buffer [default: that of the recipe]
    #[arg(long, value_name = "R", help_heading = REPLAY_BUFFER)]
    pub replay: Option<u32>,

    /// Capacity of the replay buffer, in prepared batches [default: that of the recipe, or 256]
    #[arg(long, value_name = "N", help_heading = REPLAY_BUFFER)]
    pub replay_batches: Option<u32>,

    /// Prediction target for masked patches; makes the run pre-train a masked autoencoder
    #[arg(long, value_enum, help_heading = PRETRAINING)]
    pub target: Option<TargetName>,

    /// Fraction of the patches to mask
    #[arg(long, value_name = "SHARE", default_value_t = 0.75, help_heading = PRETRAINING)]
    pub mask_ratio: f64,

    /// Decoder shape: channels, heads and blocks, such as `256x8x4` [default: a light one for the
    /// encoder]
    #[arg(long, value_name = "CxHxB", help_heading = PRETRAINING)]
    pub decoder: Option<DecoderShape>,

    /// Seed of weights, order and augmentation
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = RUN)]
    pub seed: u64,
}
