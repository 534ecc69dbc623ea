//! From a decoded image to a normalised picture: the order of steps in training and evaluation.

use efficienttrain_schedule::{Augmentation, Order};
use freqcrop::{FrequencyCrop, Lanczos};
use image::RgbImage;
use rand::RngExt;
use randaug::{
    EvalTransform, Layout, Normalize, Purpose, RandAugment, RandomErasing, RandomResizedCrop, Scratch,
    flip_horizontal, sample_rng,
};

use super::stages::{Stage, StageClock};
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
    /// Counts the time of each stage where it is set.
    pub clock: Option<StageClock>,
    scratch: Scratch,
    normalize: Normalize,
    shrink: Option<Shrink>,
    /// The picture at base size.
    base: RgbImage,
    /// The picture at the size of the stage.
    small: RgbImage,
}

impl Workspace {
    /// The plan for a method and sizes, made anew only when they change.
    fn plan(&mut self, crop: CropMethod, edges: (usize, usize)) -> Result<&Shrink, DataError> {
        let shrink = match self.shrink.take() {
            Some(shrink) if shrink.plan == (crop, edges) => shrink,
            _ => Shrink::new(crop, edges)?,
        };
        Ok(self.shrink.insert(shrink))
    }

    /// Books the time since the last mark to `stage`, if anyone counts.
    pub fn mark(&mut self, stage: Stage) {
        if let Some(clock) = &mut self.clock {
            clock.mark(stage);
        }
    }
}

/// Gives `picture` the size asked for; its pixels are then unspecified.
fn sized(picture: &mut RgbImage, size: u32) {
    if picture.dimensions() != (size, size) {
        *picture = RgbImage::new(size, size);
    }
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
        // Taken out, so that the rest of the workspace can be lent beside it; an error merely costs a new one.
        let mut picture = std::mem::take(&mut w.base);
        self.take_crop(image, (epoch, index), w, &mut picture)?;
        w.mark(Stage::Geometry);
        if view.order == Order::AugmentThenCrop {
            self.augment(&mut picture, view.magnitude, (epoch, index), w)?;
        }
        if view.size != self.base_size {
            let mut small = std::mem::take(&mut w.small);
            self.shrink(&picture, view.size, w, &mut small)?;
            w.base = std::mem::replace(&mut picture, small);
        }
        if view.order == Order::CropThenAugment {
            self.augment(&mut picture, view.magnitude, (epoch, index), w)?;
        }
        self.pack(&picture, (epoch, index), w, out)?;
        let home = if view.size == self.base_size { &mut w.base } else { &mut w.small };
        *home = picture;
        Ok(())
    }

    fn rng(&self, (epoch, index): (u64, usize), purpose: Purpose) -> impl rand::Rng + use<> {
        sample_rng(self.seed, epoch, index as u64, purpose)
    }

    /// The random resized crop at base size, flipped or not.
    fn take_crop(
        &self,
        image: &RgbImage,
        sample: (u64, usize),
        w: &mut Workspace,
        picture: &mut RgbImage,
    ) -> Result<(), DataError> {
        let crop = RandomResizedCrop { scale: (self.min_crop_area, 1.0), ..RandomResizedCrop::default() };
        sized(picture, self.base_size);
        crop.apply_into(image, picture, &mut self.rng(sample, Purpose::Crop), &mut w.scratch)
            .map_err(setting)?;
        if self.rng(sample, Purpose::Flip).random_bool(self.augmentation.flip) {
            flip_horizontal(picture);
        }
        Ok(())
    }

    fn augment(
        &self,
        picture: &mut RgbImage,
        magnitude: f64,
        sample: (u64, usize),
        w: &mut Workspace,
    ) -> Result<(), DataError> {
        let augment = RandAugment {
            num_layers: self.augmentation.ops as usize,
            prob: self.augmentation.op_probability,
            magnitude_std: self.augmentation.magnitude_std,
            ..RandAugment::default()
        };
        let mut rng = self.rng(sample, Purpose::Augment);
        augment.apply(picture, magnitude, &mut rng, &mut w.scratch).map_err(setting)?;
        w.mark(Stage::Augment);
        Ok(())
    }

    fn shrink(
        &self,
        picture: &RgbImage,
        size: u32,
        w: &mut Workspace,
        small: &mut RgbImage,
    ) -> Result<(), DataError> {
        sized(small, size);
        w.plan(self.crop, (self.base_size as usize, size as usize))?.apply(picture, small)?;
        w.mark(Stage::Crop);
        Ok(())
    }

    /// Normalises and erases.
    fn pack(
        &self,
        picture: &RgbImage,
        sample: (u64, usize),
        w: &mut Workspace,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        w.normalize.apply(picture, Layout::Hwc, out).map_err(setting)?;
        let erasing = RandomErasing { probability: self.augmentation.erasing, ..RandomErasing::default() };
        let shape = (3, picture.height(), picture.width());
        erasing
            .apply(out, shape, Layout::Hwc, &mut self.rng(sample, Purpose::Erase))
            .map_err(setting)?;
        w.mark(Stage::Pack);
        Ok(())
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
