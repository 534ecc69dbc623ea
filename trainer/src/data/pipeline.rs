//! From a decoded image to a normalised picture: the order of steps in training and evaluation.

use efficienttrain_schedule::{Augmentation, Order};
use freqcrop::{FrequencyCrop, Lanczos};
use image::RgbImage;
use rand::RngExt;
use randaug::{
    EvalTransform, Layout, Normalize, Purpose, RandAugment, RandomErasing, RandomResizedCrop, Scratch,
    flip_horizontal, sample_rng,
};

use crate::config::CropMethod;
use crate::error::DataError;

/// What training does to every image; size, magnitude and order come with each request.
#[derive(Clone, Debug)]
pub struct TrainPipeline {
    /// Seed of all draws.
    pub seed: u64,
    /// Edge of the random crop, before the low-frequency crop, in pixels.
    pub base_size: u32,
    /// How images are brought to the size of the stage.
    pub crop: CropMethod,
    /// Smallest share of the image's area that the random crop takes.
    pub min_crop_area: f64,
    /// Numbers of the recipe.
    pub augmentation: Augmentation,
}

/// What the schedule asks for at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// Edge of the picture, in pixels.
    pub size: u32,
    /// RandAugment magnitude, 0 to 10.
    pub magnitude: f64,
    /// Order of low-frequency crop and RandAugment.
    pub order: Order,
}

/// What evaluation does to every image.
#[derive(Clone, Debug)]
pub struct EvalPipeline {
    /// Edge of the pictures, in pixels.
    pub size: usize,
    /// Share of the short edge that the centre crop keeps.
    pub crop_pct: f64,
}

/// Buffers and plans that a worker keeps from image to image.
#[derive(Default)]
pub struct Workspace {
    scratch: Scratch,
    normalize: Normalize,
    shrink: Option<Shrink>,
}

impl TrainPipeline {
    /// Turns an image into `size * size * 3` normalised values, channels-last. `epoch` and `index` name the sample.
    ///
    /// # Errors
    /// When the image is empty or a setting is out of range.
    pub fn apply(
        &self,
        image: &RgbImage,
        view: View,
        (epoch, index): (u64, usize),
        w: &mut Workspace,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        let rng = |purpose| sample_rng(self.seed, epoch, index as u64, purpose);
        let crop = RandomResizedCrop { scale: (self.min_crop_area, 1.0), ..RandomResizedCrop::default() };
        let mut picture =
            crop.apply(image, self.base_size, &mut rng(Purpose::Crop), &mut w.scratch).map_err(setting)?;
        if rng(Purpose::Flip).random_bool(self.augmentation.flip) {
            flip_horizontal(&mut picture);
        }
        let augment = RandAugment {
            num_layers: self.augmentation.ops as usize,
            prob: self.augmentation.op_probability,
            magnitude_std: self.augmentation.magnitude_std,
            ..RandAugment::default()
        };
        let strengthen = |picture: &mut RgbImage, w: &mut Workspace| {
            augment
                .apply(picture, view.magnitude, &mut rng(Purpose::Augment), &mut w.scratch)
                .map_err(setting)
        };
        if view.order == Order::AugmentThenCrop {
            strengthen(&mut picture, w)?;
        }
        picture = self.to_size(picture, view.size, w)?;
        if view.order == Order::CropThenAugment {
            strengthen(&mut picture, w)?;
        }
        w.normalize.apply(&picture, Layout::Hwc, out).map_err(setting)?;
        let erasing = RandomErasing { probability: self.augmentation.erasing, ..RandomErasing::default() };
        let shape = (3, view.size, view.size);
        erasing.apply(out, shape, Layout::Hwc, &mut rng(Purpose::Erase)).map_err(setting)?;
        Ok(())
    }

    fn to_size(&self, picture: RgbImage, size: u32, w: &mut Workspace) -> Result<RgbImage, DataError> {
        if size == self.base_size {
            return Ok(picture);
        }
        let edges = (self.base_size as usize, size as usize);
        if w.shrink.as_ref().is_none_or(|s| s.plan != (self.crop, edges)) {
            w.shrink = Some(Shrink::new(self.crop, edges)?);
        }
        let mut small = RgbImage::new(size, size);
        if let Some(shrink) = &w.shrink {
            shrink.apply(&picture, &mut small)?;
        }
        Ok(small)
    }
}

/// The plan that brings pictures from base size to the size of a stage.
struct Shrink {
    plan: (CropMethod, (usize, usize)),
    method: ShrinkMethod,
}

enum ShrinkMethod {
    Fourier(Box<FrequencyCrop>),
    Lanczos(Lanczos),
}

impl Shrink {
    fn new(crop: CropMethod, (from, to): (usize, usize)) -> Result<Self, DataError> {
        let method = match crop {
            CropMethod::Fourier => {
                ShrinkMethod::Fourier(Box::new(FrequencyCrop::new((from, from), (to, to)).map_err(setting)?))
            }
            CropMethod::Lanczos => {
                ShrinkMethod::Lanczos(Lanczos::new((from, from), (to, to)).map_err(setting)?)
            }
        };
        Ok(Self { plan: (crop, (from, to)), method })
    }

    fn apply(&self, picture: &[u8], small: &mut [u8]) -> Result<(), DataError> {
        match &self.method {
            ShrinkMethod::Fourier(crop) => crop.apply_rgb8_into(picture, small),
            ShrinkMethod::Lanczos(resize) => resize.apply_u8_into(3, picture, small),
        }
        .map_err(setting)
    }
}

impl EvalPipeline {
    /// The reference's evaluation at a size: short edge to size / 0.875, then the centre.
    pub fn new(size: usize) -> Self {
        Self { size, crop_pct: 0.875 }
    }

    /// Turns an image into `size * size * 3` normalised values, channels-last.
    ///
    /// # Errors
    /// When the image is empty or a setting is out of range.
    pub fn apply(&self, image: &RgbImage, w: &mut Workspace, out: &mut [f32]) -> Result<(), DataError> {
        let transform = EvalTransform { crop_pct: self.crop_pct, ..EvalTransform::new(self.size as u32) };
        let picture = transform.apply(image, &mut w.scratch).map_err(setting)?;
        w.normalize.apply(&picture, Layout::Hwc, out).map_err(setting)
    }
}

fn setting(error: impl std::fmt::Display) -> DataError {
    DataError::Setting(error.to_string())
}
