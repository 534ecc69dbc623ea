//! Options of a run: one definition each for flag, stored key, help and default.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use efficienttrain_models::{Options, create};
use efficienttrain_schedule::{Batch, Family, LrScaling, OptimiserKind, Order, Plan, PlanOptions, Recipe};
use serde::{Deserialize, Serialize};

use crate::data::{DEFAULT_IMAGE_LIMIT, NEEDS_FEATURE, TrainPipeline};
use crate::duration::Every;
use crate::error::{Error, Result};

pub(crate) const DEFAULT_IMAGE_MIB: u32 = (DEFAULT_IMAGE_LIMIT >> 20) as u32;

/// Batches in the replay buffer where neither recipe nor option says how many.
const DEFAULT_REPLAY_BATCHES: u32 = 256;

/// For checkpoints from before the option.
fn default_image_mib() -> u32 {
    DEFAULT_IMAGE_MIB
}

/// What decides the outcome of a run. Stored in every checkpoint; a run is resumed with the same values.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Data set: image folders (`train/CLASS/IMAGE`, `val/CLASS/IMAGE`), tar shards or CIFAR binaries; without it, a
    /// built-in synthetic set is used
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    /// Memory that one decoded image may take, in MiB; larger ones count as unreadable
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_IMAGE_MIB)]
    #[serde(default = "default_image_mib")]
    pub max_image_mib: u32,

    /// Training images of the synthetic set
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub synthetic_images: usize,

    /// Model to train, as `efficienttrain models` lists them [default: that of a full recipe name, else resnet18]
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,

    /// Curriculum: `etpp`, `et` or `baseline` of the model, or a full name such as `resnet50-etpp`
    #[arg(long, value_name = "NAME", default_value = "etpp")]
    pub recipe: String,

    /// Compute to spend, in epochs at base size
    #[arg(long, value_name = "E", default_value_t = 30.0, allow_negative_numbers = true)]
    pub epochs: f64,

    /// Full training and evaluation size, in pixels; the curriculum's sizes keep their ratio to it
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    pub base_size: u32,

    /// Images of a forward and backward pass
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch: u32,

    /// Passes whose gradients are summed before an optimiser step
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub accumulation: u32,

    /// Optimiser [default: the recipe's]; another one wants its own --lr and --weight-decay
    #[arg(long, value_enum)]
    #[serde(default)]
    pub opt: Option<OptimiserName>,

    /// What gradient descent keeps of its momentum [default: the recipe's, 0.9]
    #[arg(long, value_name = "M", allow_negative_numbers = true)]
    #[serde(default)]
    pub momentum: Option<f64>,

    /// Peak learning rate at this batch [default: the recipe's, scaled to the batch]
    #[arg(long, value_name = "LR", allow_negative_numbers = true)]
    pub lr: Option<f64>,

    /// Weight decay [default: the recipe's]
    #[arg(long, value_name = "WD", allow_negative_numbers = true)]
    pub weight_decay: Option<f64>,

    /// Stochastic depth of the last block [default: the recipe's]
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    pub drop_path: Option<f64>,

    /// Decay of the moving average of the weights, 0 for none [default: the recipe's]
    #[arg(long, value_name = "DECAY", allow_negative_numbers = true)]
    pub ema_decay: Option<f64>,

    /// Largest norm of all gradients together, 0 for no limit [default: the recipe's]
    #[arg(long, value_name = "NORM", allow_negative_numbers = true)]
    pub clip_grad: Option<f64>,

    /// Alpha of mixup, 0 for none [default: the recipe's]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub mixup: Option<f64>,

    /// Alpha of cutmix, 0 for none [default: the recipe's]
    #[arg(long, value_name = "ALPHA", allow_negative_numbers = true)]
    pub cutmix: Option<f64>,

    /// Label smoothing [default: the recipe's]
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub label_smoothing: Option<f64>,

    /// Probability of random erasing [default: the recipe's]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub erasing: Option<f64>,

    /// Smallest share of the image's area that the random crop takes
    #[arg(long, value_name = "SHARE", default_value_t = 0.08)]
    pub min_crop_area: f64,

    /// Whether the low-frequency crop comes before or after RandAugment
    #[arg(long, value_enum, default_value_t = CropOrder::CropThenAugment)]
    pub order: CropOrder,

    /// How images are brought to the size of the stage
    #[arg(long, value_enum, default_value_t = CropMethod::Fourier)]
    pub crop: CropMethod,

    /// Resize to base size and low-frequency crop one after the other, with 8-bit pixels in between, where one operator
    /// could do both
    #[arg(long)]
    #[serde(default)]
    pub stepwise_crop: bool,

    /// Decode JPEGs at 1/2, 1/4 or 1/8 of their size where the crop box keeps twice the pixels of the stage's size (in
    /// builds with the feature `turbojpeg`)
    #[arg(long)]
    #[serde(default)]
    pub reduced_decode: bool,

    /// Times each prepared image is trained on while pictures are smaller than the base size; 1 for no replay buffer
    /// [default: the recipe's]
    #[arg(long, value_name = "R")]
    #[serde(default)]
    pub replay: Option<u32>,

    /// Prepared batches that the replay buffer keeps [default: the recipe's, or 256]
    #[arg(long, value_name = "N")]
    #[serde(default)]
    pub replay_batches: Option<u32>,

    /// Seed of weights, order and augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

/// Rule by which the weights follow their gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "lower")]
pub enum OptimiserName {
    /// Adam with decoupled weight decay.
    AdamW,
    /// Adam whose step is measured against the size of each parameter.
    Lamb,
    /// Gradient descent with Nesterov's momentum.
    Sgd,
}

impl OptimiserName {
    fn kind(self) -> OptimiserKind {
        match self {
            Self::AdamW => OptimiserKind::AdamW,
            Self::Lamb => OptimiserKind::Lamb,
            Self::Sgd => OptimiserKind::Sgd,
        }
    }
}

/// Order of low-frequency crop and RandAugment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropOrder {
    /// RandAugment works on the small image: cheap.
    CropThenAugment,
    /// RandAugment works at base size: as the authors' code.
    AugmentThenCrop,
}

/// How images are brought to the size of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CropMethod {
    /// The exact low-frequency crop of the paper.
    Fourier,
    /// Lanczos down-sampling, as the authors' code.
    Lanczos,
}

/// What a run may change between stop and resume: it does not touch the outcome.
#[derive(Args, Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// Folder for checkpoints, log and chart
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,

    /// Threads that decode and augment [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Evaluate every `1ep` (pass over the data), `500st` (steps) or `10%` (of the compute), and at the end
    #[arg(long, value_name = "SPAN", default_value = "1ep")]
    pub eval_every: Every,

    /// Save every `1ep`, `500st` or `10%`, and at the end
    #[arg(long, value_name = "SPAN", default_value = "1ep")]
    pub checkpoint_every: Every,

    /// Stop after this many optimiser steps of the run, saving a checkpoint to resume from
    #[arg(long, value_name = "N")]
    pub stop_after: Option<u64>,

    /// Keep of each block its input alone and run it again in the backward pass: less memory, more time, the same
    /// numbers
    #[arg(long)]
    pub checkpoint_activations: bool,

    /// Memory that the replay buffer may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    pub max_replay_mib: u32,

    /// Unreadable images to tolerate before the run stops; each is named once and replaced by the next
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_bad_images: usize,
}

/// The defaults of the flags, so that there is one definition of each.
fn flag_defaults<T: Args>() -> T {
    let command = T::augment_args(clap::Command::new("defaults"));
    let parsed = command.try_get_matches_from(["defaults"]).and_then(|m| T::from_arg_matches(&m));
    parsed.expect("every option has a default or may be absent")
}

impl Default for TrainConfig {
    fn default() -> Self {
        flag_defaults()
    }
}

impl Default for RunOptions {
    fn default() -> Self {
        flag_defaults()
    }
}

impl RunOptions {
    /// That the replay buffer of every stage has room in [`Self::max_replay_mib`].
    ///
    /// # Errors
    /// Names the first stage whose buffer has not, and what it would take.
    pub fn check_replay(&self, plan: &Plan) -> Result<()> {
        let limit = u128::from(self.max_replay_mib) << 20;
        let Some(stage) = (0..plan.stages().len()).find(|&stage| plan.replay_bytes(stage) > limit) else {
            return Ok(());
        };
        let s = &plan.stages()[stage];
        let what = format!(
            "the replay buffer of stage {} takes {} MiB ({} batches of {} images of {} x {} pixels), more than the {} \
             allowed; raise it, or lower --replay-batches or --batch",
            stage + 1,
            plan.replay_bytes(stage).div_ceil(1 << 20),
            plan.replay_batches(stage),
            s.batch_per_device / s.replay.times,
            s.size,
            s.size,
            self.max_replay_mib
        );
        Err(Error::config("max-replay-mib", what))
    }

    /// Number of loader threads.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.unwrap_or_else(cores).max(1)
    }
}

impl TrainConfig {
    /// Memory that one decoded image may take, in bytes.
    pub fn image_limit(&self) -> u64 {
        u64::from(self.max_image_mib) << 20
    }

    /// The recipe with this configuration's changes.
    ///
    /// # Errors
    /// When the recipe is unknown or a value is out of range; the message names the option.
    pub fn recipe(&self) -> Result<Recipe> {
        self.check_ranges()?;
        let name = match self.recipe.to_lowercase().as_str() {
            preset @ ("etpp" | "et" | "baseline" | "none") => {
                format!("{}-{preset}", self.model.as_deref().unwrap_or("resnet18"))
            }
            _ => self.recipe.clone(),
        };
        let mut recipe = Recipe::named(&name)?;
        if let Some(model) = &self.model {
            recipe.model.clone_from(model);
        }
        // What edges of pictures must be multiples of.
        let cell = match recipe.family {
            Family::DeiT => 16,
            Family::Swin | Family::CSwin | Family::Pvt => 32,
            Family::ResNet | Family::ConvNext | Family::CaFormer => 8,
        };
        recipe = recipe.at_base_size(self.base_size, cell)?;
        recipe = recipe.with_order(match self.order {
            CropOrder::CropThenAugment => Order::CropThenAugment,
            CropOrder::AugmentThenCrop => Order::AugmentThenCrop,
        });
        recipe = self.with_replay(recipe)?;
        self.check_optimiser(&recipe)?;
        self.apply_overrides(&mut recipe);
        recipe.validate()?;
        Ok(recipe)
    }

    /// That recipe, model and sizes go together, before any data is read.
    ///
    /// # Errors
    /// As [`Self::recipe`]; also when the model is unknown or cannot take a size of the curriculum.
    pub fn check(&self) -> Result<()> {
        if self.reduced_decode && cfg!(not(feature = "turbojpeg")) {
            return Err(Error::config("reduced-decode", NEEDS_FEATURE));
        }
        let recipe = self.recipe()?;
        let sizes = recipe.curriculum.stages.iter().map(|stage| stage.size).chain([self.base_size]);
        for size in sizes {
            create(
                &recipe.model,
                &Options { num_classes: 1, input_size: [size as usize; 2], ..Options::default() },
            )?;
        }
        Ok(())
    }

    /// That another optimiser than the recipe's comes with numbers of its own.
    fn check_optimiser(&self, recipe: &Recipe) -> Result<()> {
        let other = self.opt.is_some_and(|opt| opt.kind() != recipe.optimiser.kind);
        if other && (self.lr.is_none() || self.weight_decay.is_none()) {
            let kind = recipe.optimiser.kind;
            let what =
                format!("the recipe's numbers are for {kind:?}; give --lr and --weight-decay for this one");
            return Err(Error::config("opt", what));
        }
        Ok(())
    }

    /// The recipe with the replay buffer asked for.
    fn with_replay(&self, mut recipe: Recipe) -> Result<Recipe> {
        if let Some(times) = self.replay {
            recipe = recipe.with_batch(self.batch, self.accumulation)?;
            recipe = recipe.with_replay(times, self.replay_batches.unwrap_or(DEFAULT_REPLAY_BATCHES))?;
        } else if let Some(batches) = self.replay_batches {
            for stage in recipe.curriculum.stages.iter_mut().filter(|stage| stage.replay.times > 1) {
                stage.replay.buffer_batches = batches;
            }
        }
        Ok(recipe)
    }

    fn apply_overrides(&self, recipe: &mut Recipe) {
        let nonzero = |value: f64| (value > 0.0).then_some(value);
        if let Some(lr) = self.lr {
            recipe.optimiser.lr = lr;
            recipe.optimiser.min_lr = recipe.optimiser.min_lr.min(lr);
            recipe.optimiser.lr_scaling = LrScaling::None;
        }
        if let Some(opt) = self.opt {
            recipe.optimiser.kind = opt.kind();
        }
        recipe.optimiser.momentum = self.momentum.unwrap_or(recipe.optimiser.momentum);
        if let Some(rate) = self.drop_path {
            recipe.drop_path = efficienttrain_schedule::DropPath::Constant(rate);
        }
        if let Some(decay) = self.ema_decay {
            recipe.ema_decay = nonzero(decay);
        }
        if let Some(norm) = self.clip_grad {
            recipe.optimiser.clip_grad = nonzero(norm);
        }
        let augmentation = &mut recipe.augmentation;
        for (value, target) in [
            (self.weight_decay, &mut recipe.optimiser.weight_decay),
            (self.mixup, &mut augmentation.mixup),
            (self.cutmix, &mut augmentation.cutmix),
            (self.label_smoothing, &mut augmentation.label_smoothing),
            (self.erasing, &mut augmentation.erasing),
        ] {
            if let Some(value) = value {
                *target = value;
            }
        }
    }

    fn check_ranges(&self) -> Result<()> {
        let within = |option, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                Ok(())
            } else {
                Err(Error::config(option, format!("expected {low} to {high}, got {value}")))
            }
        };
        within("min-crop-area", self.min_crop_area, 1e-4, 1.0)?;
        within("epochs", self.epochs, f64::MIN_POSITIVE, 1e6)?;
        for (option, value, high) in [
            ("lr", self.lr, 1e3),
            ("weight-decay", self.weight_decay, 1e3),
            ("momentum", self.momentum, 0.999_999),
            ("drop-path", self.drop_path, 0.99),
            ("ema-decay", self.ema_decay, 0.999_999_999),
            ("clip-grad", self.clip_grad, 1e12),
            ("mixup", self.mixup, 1e3),
            ("cutmix", self.cutmix, 1e3),
            ("label-smoothing", self.label_smoothing, 1.0),
            ("erasing", self.erasing, 1.0),
        ] {
            value.map_or(Ok(()), |value| within(option, value, 0.0, high))?;
        }
        Ok(())
    }

    /// What happens to every training image under `recipe`.
    pub fn pipeline(&self, recipe: &Recipe) -> TrainPipeline {
        TrainPipeline {
            seed: self.seed,
            base_size: self.base_size,
            crop: self.crop,
            fused: !self.stepwise_crop,
            reduced_decode: self.reduced_decode,
            min_crop_area: self.min_crop_area,
            augmentation: recipe.augmentation.clone(),
        }
    }

    /// The plan of this configuration over `images` training images.
    ///
    /// # Errors
    /// As [`Self::recipe`]; also when a batch is larger than the data set, or the budget too small.
    pub fn plan(&self, images: usize) -> Result<Plan> {
        let batch = Batch::Fixed { per_device: self.batch, accumulation: self.accumulation };
        let options = PlanOptions::new(self.epochs, images as u64, 1).with_batch(batch);
        Ok(Plan::new(&self.recipe()?, options)?)
    }
}
