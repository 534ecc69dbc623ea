//! Image augmentation with the numbers of timm and Pillow: RandAugment, random resized crop, erasing, mixup and cutmix.

mod affine;
mod enhance;
mod error;
mod level;
mod lut;
mod op;
mod resample;
mod rng;
mod scratch;

pub use affine::Interpolation;
pub use error::{Error, Result};
pub use level::{Arg, LevelScale, MAX_LEVEL};
pub use op::{Op, OpConfig};
pub use resample::{CropBox, Filter, resize, resize_crop, resize_crop_into};
pub use rng::{Purpose, sample_rng};
pub use scratch::Scratch;
