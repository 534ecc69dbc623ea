//! Image augmentation with the numbers of timm, torchvision and Pillow.
//!
//! One image in, one image out: crops, flips, color jitter, and the automatic schemes behind
//! [`Policy`] (RandAugment, AutoAugment, AugMix, TrivialAugment, 3-Augment) with a magnitude that
//! is an argument of every call; normalization and random erasing; then mixup and cutmix on
//! batches. The 8-bit operations give the bytes of Pillow, so a recipe that was tuned there keeps
//! its meaning.
//!
//! ```
//! use image::RgbImage;
//! use randaug::*;
//!
//! let photo = RgbImage::from_fn(400, 300, |x, y| image::Rgb([(x / 2) as u8, (y / 2) as u8, 128]));
//! let (seed, epoch, index) = (42, 0, 7);
//! let rng = |purpose| sample_rng(seed, epoch, index, purpose);
//! let mut scratch = Scratch::new();
//!
//! let crop = RandomResizedCrop::default();
//! let mut image = crop.apply(&photo, 96, &mut rng(Purpose::Crop), &mut scratch)?;
//! let policy: Policy = "rand-m9-mstd0.5-inc1".parse()?;
//! policy.apply(&mut image, Some(4.5), &mut rng(Purpose::Augment), &mut scratch)?;
//!
//! let mut tensor = vec![0.0; 3 * 96 * 96];
//! Normalize::default().apply(&image, Layout::Chw, &mut tensor)?;
//! RandomErasing::default().apply(&mut tensor, (3, 96, 96), Layout::Chw, &mut rng(Purpose::Erase))?;
//! # Ok::<(), randaug::Error>(())
//! ```
//!
//! # Randomness
//! Every function that draws takes the generator as an argument. [`sample_rng`] makes one from
//! (seed, epoch, sample index, purpose), so that a sample is augmented the same way whatever the
//! order and the number of workers.
//!
//! # Allocation
//! A [`Scratch`] holds the working memory of all calls; once it has grown, the in-place functions
//! and those named `..._into` allocate nothing.
//!
//! # Sources
//! timm 0.4.12 and 1.0.31 (`auto_augment.py`, `random_erasing.py`, `mixup.py`, `transforms.py`),
//! torchvision 0.29 (`transforms.py`, `autoaugment.py`) and Pillow (`Resample.c`, `Geometry.c`,
//! `BoxBlur.c`, `Convert.c`, `ImageOps.py`, `ImageEnhance.py`), as used by EfficientTrain++ (arXiv
//! 2405.08768) and others.

mod affine;
mod apply;
mod blur;
mod crop;
mod crop_or_pad;
mod enhance;
mod erase;
mod error;
mod eval;
mod flip;
mod hue;
mod jitter;
mod keep_ratio;
mod level;
mod lut;
mod mix;
mod op;
mod pixel_format;
mod policy;
mod resample;
mod rng;
mod scratch;
mod simd;
mod tensor;

pub use affine::Interpolation;
pub use apply::OpConfig;
pub use crop::RandomResizedCrop;
pub use crop_or_pad::{Padding, RandomCropOrPad, SimpleRandomCrop, crop_or_pad};
pub use enhance::luma;
pub use erase::{EraseMode, Erasure, RandomErasing};
pub use error::{Error, Result};
pub use eval::EvalTransform;
pub use flip::{flip_horizontal, flip_vertical};
pub use jitter::{Adjustment, ColorJitter, grayscale};
pub use keep_ratio::ResizeKeepRatio;
pub use level::{Arg, LevelScale, MAX_LEVEL};
pub use mix::{
    BatchShape, Mix, MixBox, MixMode, Mixup, mix_batch, multi_hot_targets_each, soft_targets,
    soft_targets_each,
};
pub use op::Op;
pub use pixel_format::to_rgb8;
pub use policy::{
    AugMix, AutoAugment, AutoPolicy, DrawnAugMix, DrawnOp, Policy, RandAugment, Scheme, SubOp, SubPolicy,
    TrivialAugmentWide,
};
pub use resample::{CropBox, Filter, resize, resize_crop, resize_crop_into};
pub use rng::{Purpose, sample_rng};
pub use scratch::Scratch;
pub use tensor::{IMAGENET_MEAN, IMAGENET_STD, Layout, Normalize};

/// Compiles and runs the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
