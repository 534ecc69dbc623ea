//! Transforms of training: from a decoded image to a normalized and erased one.

use std::sync::Arc;

use crate::config::channels::{InputChannels, Normalization};
use crate::config::train::TrainConfig;
use efficienttrain_schedule::{Augmentation, Order, Recipe};
use image::RgbImage;
use rand::RngExt;
use randaug::{
    ColorJitter, CropBox, Filter, Layout, Op, Purpose, RandAugment, RandomErasing, RandomResizedCrop,
    flip_horizontal, flip_vertical, grayscale, resize_crop_into, sample_rng,
};

use crate::config::policy::PolicyName;
use crate::config::values::{CropMethod, Interpolation, SamplerName};
use crate::data::decode::reduced::Decoded;
use crate::data::decode::reduced::divisor_for;
use crate::data::pipeline::resize_crop::{ResizedBox, fused_is_faster};
use crate::data::pipeline::sample::{SampleId, ViewSpec};
use crate::data::pipeline::timer::PipelineStage;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::Source;
use crate::error::DataError;

/// Pixels along an edge that a reduced image keeps per pixel of the view.
pub const REDUCED_MARGIN: u32 = 2;

/// Preprocessing of images for training; each request adds size, magnitude and order.
#[derive(Clone, Debug)]
pub struct TrainPipeline {
    /// Seed of all random draws.
    pub seed: u64,
    /// Edge of the random crop, before the low-frequency crop, in pixels.
    pub base_size: u32,
    /// Method of resizing images to the size of the stage.
    pub crop: CropMethod,
    /// Apply the resize to base size and the low-frequency crop as one operator if possible; see
    /// [`Self::prepare`].
    pub fused: bool,
    /// Decode JPEGs at a fraction of their size if the crop box keeps [`REDUCED_MARGIN`] times the
    /// pixels of the view.
    pub reduced_decode: bool,
    /// Smallest fraction of the image area that the random crop takes.
    pub min_crop_area: f64,
    /// Filter by which the random crop is resized.
    pub interpolation: Interpolation,
    /// Probability of a vertical flip.
    pub vflip: f64,
    /// Color jitter after the policy.
    pub color_jitter: ColorJitter,
    /// Probability of turning an image gray after the policy.
    pub grayscale: f64,
    /// Choice of the images of a pass.
    pub sampler: SamplerName,
    /// Weights of the classes, by which targets are multiplied.
    pub class_weights: Option<Arc<[f32]>>,
    /// Numbers by which images are normalized.
    pub normalization: Normalization,
    /// Policy to apply instead of the recipe's RandAugment, if any.
    pub policy: Option<PolicyName>,
    /// Augmentation settings of the recipe.
    pub augmentation: Augmentation,
    /// Leave normalization, erasing and mixing to the device: see [`BatchImages::Raw`].
    ///
    /// [`BatchImages::Raw`]: crate::data::batch::BatchImages::Raw
    pub raw_batches: bool,
}

/// Resizes the buffer of `output`; its pixels are then unspecified.
fn sized(output: &mut RgbImage, size: u32) {
    if output.dimensions() != (size, size) {
        *output = RgbImage::new(size, size);
    }
}

/// What is drawn for the geometry of an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CropDraw {
    /// Box of the image.
    pub(crate) area: CropBox,
    /// Filter of the resize.
    pub(crate) filter: Filter,
    /// Mirror horizontally.
    pub(crate) hflip: bool,
    /// Mirror vertically.
    pub(crate) vflip: bool,
}

/// Crops and resizes a box of the image to the size of `output`, flipped or not.
fn take_crop(
    pixels: &RgbImage,
    draw: CropDraw,
    w: &mut Workspace,
    output: &mut RgbImage,
) -> Result<(), DataError> {
    resize_crop_into(pixels, draw.area, draw.filter, output, &mut w.scratch)?;
    if draw.hflip {
        flip_horizontal(output);
    }
    if draw.vflip {
        flip_vertical(output);
    }
    w.mark(PipelineStage::Geometry);
    Ok(())
}

impl TrainPipeline {
    /// Creates the transforms of a configuration and its recipe.
    pub fn new(config: &TrainConfig, recipe: &Recipe) -> Self {
        Self {
            seed: config.seed,
            base_size: config.base_size,
            crop: config.crop,
            fused: !config.stepwise_crop,
            reduced_decode: config.reduced_decode,
            min_crop_area: config.min_crop_area,
            interpolation: config.interpolation,
            vflip: config.vflip,
            // Its range was checked with the configuration.
            color_jitter: ColorJitter::symmetric(config.color_jitter).unwrap_or_default(),
            grayscale: config.grayscale,
            sampler: config.sampler,
            class_weights: None,
            normalization: config.normalization(),
            policy: config.auto_augment.clone(),
            augmentation: recipe.augmentation.clone(),
            raw_batches: false,
        }
    }

    /// Converts an image to `size * size * channels` normalized values, channels-last: [`Self::prepare`],
    /// then [`Self::normalize_into`].
    ///
    /// # Errors
    /// Returns an error if the image is empty or a setting is out of range.
    pub fn apply(
        &self,
        image: &Decoded,
        view: ViewSpec,
        sample: SampleId,
        w: &mut Workspace,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        // Taken out, so that the rest of the workspace can be borrowed too; after an error, only a
        // new buffer is allocated.
        let mut output = std::mem::take(&mut w.small);
        self.prepare(image, view, sample, w, &mut output)?;
        self.normalize_into(&output, sample, w, out)?;
        w.small = output;
        Ok(())
    }

    /// Crops and augments an image into `output`, which gets the size of the view. The sample's
    /// epoch and index determine all random draws.
    ///
    /// Crop box, resize, flip and low-frequency crop are linear. With [`Self::fused`], in the order
    /// crop then augment and with [`CropMethod::Fourier`], they are applied as one operator to the
    /// image's pixels, unless the box is much wider than the base size. The result is that of the
    /// single steps without their two roundings to 8 bits and their clipping at base size; the
    /// small image itself is rounded and clipped in both cases.
    ///
    /// # Errors
    /// Returns an error if the image is empty or a setting is out of range.
    pub fn prepare(
        &self,
        image: &Decoded,
        view: ViewSpec,
        sample: SampleId,
        w: &mut Workspace,
        output: &mut RgbImage,
    ) -> Result<(), DataError> {
        sized(output, view.size);
        let draw = self.draw_crop(image.full, sample)?;
        let draw = CropDraw { area: image.scaled(draw.area), ..draw };
        let pixels = &image.pixels;
        let augment_last = view.order == Order::CropThenAugment;
        let one_operator = self.fused && augment_last && self.crop == CropMethod::Fourier;
        if view.size == self.base_size {
            take_crop(pixels, draw, w, output)?;
            return self.augment(output, view.magnitude, sample, w);
        }
        if one_operator
            && fused_is_faster(draw.area, self.base_size)
            && w.resize_and_crop(&ResizedBox { image: pixels, draw, base_size: self.base_size }, output)?
        {
            w.mark(PipelineStage::Geometry);
            return self.augment(output, view.magnitude, sample, w);
        }
        let mut base = std::mem::take(&mut w.base);
        sized(&mut base, self.base_size);
        take_crop(pixels, draw, w, &mut base)?;
        if !augment_last {
            self.augment(&mut base, view.magnitude, sample, w)?;
        }
        self.shrink(&base, view.size, w, output)?;
        w.base = base;
        if augment_last {
            self.augment(output, view.magnitude, sample, w)?;
        }
        Ok(())
    }

    /// Reads an image of a source for [`Self::prepare`]; with [`Self::reduced_decode`], a JPEG is
    /// decoded no larger than its crop box needs.
    ///
    /// # Errors
    /// Returns an error that names the image if it cannot be read or decoded.
    pub fn load(&self, source: &dyn Source, sample: SampleId, view: ViewSpec) -> Result<Decoded, DataError> {
        if !self.reduced_decode {
            return source.load(sample.index).map(Decoded::from);
        }
        let needed = view.size.saturating_mul(REDUCED_MARGIN);
        // A box that cannot be drawn is reported later, where the name of the image is known.
        let divisor = |full| self.draw_crop(full, sample).map_or(1, |draw| divisor_for(draw.area, needed));
        source.load_reduced(sample.index, &divisor)
    }

    pub(super) fn erasing(&self) -> RandomErasing {
        RandomErasing { probability: self.augmentation.erasing, ..RandomErasing::default() }
    }

    pub(super) fn rng(
        &self,
        SampleId { epoch, index }: SampleId,
        purpose: Purpose,
    ) -> impl rand::Rng + use<> {
        sample_rng(self.seed, epoch, index as u64, purpose)
    }

    /// Draws the crop box, its filter and the flips.
    fn draw_crop(&self, (width, height): (u32, u32), sample: SampleId) -> Result<CropDraw, DataError> {
        let crop = RandomResizedCrop { scale: (self.min_crop_area, 1.0), ..RandomResizedCrop::default() };
        let mut rng = self.rng(sample, Purpose::Crop);
        let area = crop.sample(width, height, &mut rng)?;
        let filter = match self.interpolation {
            Interpolation::Bicubic => Filter::Bicubic,
            Interpolation::Bilinear => Filter::Bilinear,
            Interpolation::Lanczos => Filter::Lanczos,
            Interpolation::Nearest => Filter::Nearest,
            Interpolation::Random if rng.random_bool(0.5) => Filter::Bilinear,
            Interpolation::Random => Filter::Bicubic,
        };
        let mut rng = self.rng(sample, Purpose::Flip);
        let hflip = rng.random_bool(self.augmentation.flip);
        Ok(CropDraw { area, filter, hflip, vflip: rng.random_bool(self.vflip) })
    }

    fn augment(
        &self,
        image: &mut RgbImage,
        magnitude: f64,
        sample: SampleId,
        w: &mut Workspace,
    ) -> Result<(), DataError> {
        if self.normalization.channels == InputChannels::Gray {
            // First, as timm decodes to gray: what an operation measures is then of the gray image.
            grayscale(image);
        }
        let mut rng = self.rng(sample, Purpose::Augment);
        let done = match &self.policy {
            Some(policy) => policy.apply(image, magnitude, &mut rng, &mut w.scratch),
            None => self.rand_augment().apply(image, magnitude, &mut rng, &mut w.scratch),
        };
        done?;
        if self.color_jitter != ColorJitter::default() || self.grayscale > 0.0 {
            let mut rng = self.rng(sample, Purpose::Jitter);
            self.color_jitter.apply(image, &mut rng)?;
            if rng.random_bool(self.grayscale) {
                grayscale(image);
            }
        }
        w.mark(PipelineStage::Augment);
        Ok(())
    }

    /// Creates the RandAugment of the recipe.
    fn rand_augment(&self) -> RandAugment {
        let ops = if self.augmentation.increasing { &Op::INCREASING } else { &Op::PLAIN };
        RandAugment {
            ops: ops.into(),
            num_layers: self.augmentation.ops as usize,
            prob: self.augmentation.op_probability,
            magnitude_std: self.augmentation.magnitude_std,
            ..RandAugment::default()
        }
    }

    fn shrink(
        &self,
        image: &RgbImage,
        size: u32,
        w: &mut Workspace,
        small: &mut RgbImage,
    ) -> Result<(), DataError> {
        sized(small, size);
        match self.crop {
            CropMethod::Fourier => {
                let edges = (self.base_size as usize, size as usize);
                w.fourier(edges)?.apply_rgb8_into(image, small)?;
            }
            CropMethod::Lanczos => {
                let whole = CropBox::whole(image);
                resize_crop_into(image, whole, Filter::Lanczos, small, &mut w.lanczos)?;
            }
        }
        w.mark(PipelineStage::Crop);
        Ok(())
    }

    /// Normalizes and erases an image into channels-last values. The sample determines the random
    /// draws.
    ///
    /// # Errors
    /// Returns an error if `out` does not have the length of the image, or a setting is out of
    /// range.
    pub fn normalize_into(
        &self,
        image: &RgbImage,
        sample: SampleId,
        w: &mut Workspace,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        w.normalize(self.normalization).apply(image, Layout::Hwc, out)?;
        let channels = self.normalization.channels.count();
        let shape = (channels as u32, image.height(), image.width());
        self.erasing().apply(out, shape, Layout::Hwc, &mut self.rng(sample, Purpose::Erase))?;
        w.mark(PipelineStage::Normalize);
        Ok(())
    }
}
