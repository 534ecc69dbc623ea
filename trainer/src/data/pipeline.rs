//! From a decoded image to a normalised picture: the order of steps in training and evaluation.

use efficienttrain_schedule::{Augmentation, Order};
use freqcrop::FrequencyCrop;
use image::RgbImage;
use rand::RngExt;
use randaug::{
    CropBox, EvalTransform, Filter, Layout, Normalize, Purpose, RandAugment, RandomErasing,
    RandomResizedCrop, Scratch, flip_horizontal, resize_crop_into, sample_rng,
};

use super::fused::{Fused, fits};
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
    /// Where it is possible, resize to base size and low-frequency crop as one operator: see [`Self::apply`].
    pub fused: bool,
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
    pub(super) scratch: Scratch,
    normalize: Normalize,
    fourier: Option<FrequencyCrop>,
    pub(super) fused: Fused,
    /// The picture at base size.
    base: RgbImage,
    /// The picture at the size of the stage.
    small: RgbImage,
}

impl Workspace {
    /// The low-frequency crop between two edges, planned anew only when they change.
    pub(super) fn fourier(&mut self, (from, to): (usize, usize)) -> Result<&FrequencyCrop, DataError> {
        let crop = match self.fourier.take() {
            Some(crop) if crop.input_size() == (from, from) && crop.output_size() == (to, to) => crop,
            _ => FrequencyCrop::new((from, from), (to, to)).map_err(setting)?,
        };
        Ok(self.fourier.insert(crop))
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
    /// Crop box, resize, flip and low-frequency crop are linear. With [`Self::fused`], in the order crop then augment and with
    /// [`CropMethod::Fourier`], they are applied as one operator from the image's pixels to the small picture, unless the
    /// box is much wider than the base size. That is the stepwise result without its two roundings to 8 bits and its
    /// clipping at base size; the small picture is rounded and clipped as ever.
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
        if self.fused && view.order == Order::CropThenAugment && self.crop == CropMethod::Fourier {
            let (area, flip) = self.draw_crop(image, (epoch, index))?;
            if view.size < self.base_size && fits(area, self.base_size) {
                let mut small = std::mem::take(&mut w.small);
                sized(&mut small, view.size);
                if w.crop_fused(image, area, flip, self.base_size, &mut small)? {
                    w.mark(Stage::Geometry);
                    self.augment(&mut small, view.magnitude, (epoch, index), w)?;
                    self.pack(&small, (epoch, index), w, out)?;
                    w.small = small;
                    return Ok(());
                }
            }
        }
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

    /// Draws the box, and whether it is mirrored.
    fn draw_crop(&self, image: &RgbImage, sample: (u64, usize)) -> Result<(CropBox, bool), DataError> {
        let crop = RandomResizedCrop { scale: (self.min_crop_area, 1.0), ..RandomResizedCrop::default() };
        let mut rng = self.rng(sample, Purpose::Crop);
        let area = crop.sample(image.width(), image.height(), &mut rng).map_err(setting)?;
        Ok((area, self.rng(sample, Purpose::Flip).random_bool(self.augmentation.flip)))
    }

    /// The random resized crop at base size, flipped or not.
    fn take_crop(
        &self,
        image: &RgbImage,
        sample: (u64, usize),
        w: &mut Workspace,
        picture: &mut RgbImage,
    ) -> Result<(), DataError> {
        sized(picture, self.base_size);
        let (area, flip) = self.draw_crop(image, sample)?;
        resize_crop_into(image, area, Filter::Bicubic, picture, &mut w.scratch).map_err(setting)?;
        if flip {
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
        match self.crop {
            CropMethod::Fourier => {
                let edges = (self.base_size as usize, size as usize);
                w.fourier(edges)?.apply_rgb8_into(picture, small).map_err(setting)?;
            }
            CropMethod::Lanczos => {
                let whole = CropBox::whole(picture);
                resize_crop_into(picture, whole, Filter::Lanczos, small, &mut w.scratch).map_err(setting)?;
            }
        }
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
        erasing.apply(out, shape, Layout::Hwc, &mut self.rng(sample, Purpose::Erase)).map_err(setting)?;
        w.mark(Stage::Pack);
        Ok(())
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

pub(super) fn setting(error: impl std::fmt::Display) -> DataError {
    DataError::Setting(error.to_string())
}
