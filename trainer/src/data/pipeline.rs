//! From a decoded image to a normalised picture: the order of steps in training and evaluation.

use efficienttrain_schedule::{Augmentation, Order};
use freqcrop::FrequencyCrop;
use image::RgbImage;
use rand::RngExt;
use randaug::{
    BatchShape, CropBox, EvalTransform, Filter, Layout, Mix, Mixup, Normalize, Op, Purpose, RandAugment,
    RandomErasing, RandomResizedCrop, Scratch, flip_horizontal, resize_crop_into, sample_rng,
    soft_targets_each,
};

use super::decode::{Decoded, divisor_for};
use super::fused::{Fused, fits};
use super::stages::{Stage, StageClock};
use super::{Batch, Source, Unfinished};
use crate::config::{CropMethod, PolicyName};
use crate::error::{DataError, Error};

/// Pixels that a reduced image keeps for each pixel of the view, along an edge.
pub const REDUCED_MARGIN: u32 = 2;

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
    /// Decode JPEGs at a fraction of their size where the crop box keeps [`REDUCED_MARGIN`] times the pixels of the view.
    pub reduced_decode: bool,
    /// Smallest share of the image's area that the random crop takes.
    pub min_crop_area: f64,
    /// What is applied in place of the recipe's RandAugment, if anything.
    pub policy: Option<PolicyName>,
    /// Numbers of the recipe.
    pub augmentation: Augmentation,
    /// Leave normalising, erasing and mixing to the device: [`Batch::unfinished`].
    pub unfinished: bool,
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

/// The box of the image at the size of `picture`, flipped or not.
fn take_crop(
    pixels: &RgbImage,
    area: CropBox,
    flip: bool,
    w: &mut Workspace,
    picture: &mut RgbImage,
) -> Result<(), DataError> {
    resize_crop_into(pixels, area, Filter::Bicubic, picture, &mut w.scratch).map_err(setting)?;
    if flip {
        flip_horizontal(picture);
    }
    w.mark(Stage::Geometry);
    Ok(())
}

impl TrainPipeline {
    /// Turns an image into `size * size * 3` normalised values, channels-last: [`Self::prepare`], then [`Self::pack`].
    ///
    /// # Errors
    /// When the image is empty or a setting is out of range.
    pub fn apply(
        &self,
        image: &Decoded,
        view: View,
        sample: (u64, usize),
        w: &mut Workspace,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        // Taken out, so that the rest of the workspace can be lent beside it; an error merely costs a new one.
        let mut picture = std::mem::take(&mut w.small);
        self.prepare(image, view, sample, w, &mut picture)?;
        self.pack(&picture, sample, w, out)?;
        w.small = picture;
        Ok(())
    }

    /// Crops and augments an image: `picture` gets the size of the view. The sample's epoch and index decide all draws.
    ///
    /// Crop box, resize, flip and low-frequency crop are linear. With [`Self::fused`], in the order crop then augment and with
    /// [`CropMethod::Fourier`], they are applied as one operator from the image's pixels to the small picture, unless the
    /// box is much wider than the base size. That is the stepwise result without its two roundings to 8 bits and its
    /// clipping at base size; the small picture is rounded and clipped as ever.
    ///
    /// # Errors
    /// When the image is empty or a setting is out of range.
    pub fn prepare(
        &self,
        image: &Decoded,
        view: View,
        sample: (u64, usize),
        w: &mut Workspace,
        picture: &mut RgbImage,
    ) -> Result<(), DataError> {
        sized(picture, view.size);
        let (area, flip) = self.draw_crop(image.full, sample)?;
        let area = image.scaled(area);
        let pixels = &image.pixels;
        let augment_last = view.order == Order::CropThenAugment;
        let one_operator = self.fused && augment_last && self.crop == CropMethod::Fourier;
        if view.size == self.base_size {
            take_crop(pixels, area, flip, w, picture)?;
            return self.augment(picture, view.magnitude, sample, w);
        }
        if one_operator
            && fits(area, self.base_size)
            && w.crop_fused(pixels, area, flip, self.base_size, picture)?
        {
            w.mark(Stage::Geometry);
            return self.augment(picture, view.magnitude, sample, w);
        }
        let mut base = std::mem::take(&mut w.base);
        sized(&mut base, self.base_size);
        take_crop(pixels, area, flip, w, &mut base)?;
        if !augment_last {
            self.augment(&mut base, view.magnitude, sample, w)?;
        }
        self.shrink(&base, view.size, w, picture)?;
        w.base = base;
        if augment_last {
            self.augment(picture, view.magnitude, sample, w)?;
        }
        Ok(())
    }

    /// Reads an image of a source for [`Self::prepare`]: with [`Self::reduced_decode`], a JPEG no larger than its crop box
    /// needs.
    ///
    /// # Errors
    /// When it cannot be read or decoded; the message names it.
    pub fn load(&self, source: &dyn Source, sample: (u64, usize), view: View) -> Result<Decoded, DataError> {
        if !self.reduced_decode {
            return source.load(sample.1).map(Decoded::from);
        }
        let needed = view.size.saturating_mul(REDUCED_MARGIN);
        // A box that cannot be drawn is an error later on, where the image is known.
        let divisor = |full| self.draw_crop(full, sample).map_or(1, |(area, _)| divisor_for(area, needed));
        source.load_reduced(sample.1, &divisor)
    }

    /// Adds a picture to a batch, normalised and erased, or with what is left to do.
    pub(super) fn add(
        &self,
        picture: &RgbImage,
        (label, sample): (u32, (u64, usize)),
        w: &mut Workspace,
        batch: &mut Batch,
    ) -> Result<(), DataError> {
        let number = batch.labels.len();
        if let Some(unfinished) = &mut batch.unfinished {
            let mut rng = self.rng(sample, Purpose::Erase);
            let erasures = self.erasing().sample(picture.dimensions(), 3, &mut rng).map_err(setting)?;
            unfinished.push(number, picture, erasures);
            w.mark(Stage::Pack);
        } else {
            let values = batch.size * batch.size * 3;
            self.pack(picture, sample, w, &mut batch.pixels[number * values..][..values])?;
        }
        batch.labels.push(label);
        batch.samples.push(sample.1);
        Ok(())
    }

    /// An empty batch for `count` pictures.
    pub(super) fn batch(&self, count: usize, size: u32, classes: usize) -> Batch {
        if !self.unfinished {
            return Batch::empty(count, size as usize, classes);
        }
        let bytes = Vec::with_capacity(count * size as usize * size as usize * 3);
        Batch {
            unfinished: Some(Unfinished { bytes, ..Unfinished::default() }),
            size: size as usize,
            ..Batch::empty(0, 0, classes)
        }
    }

    /// Mixes the pictures of a batch, and makes its targets.
    ///
    /// # Errors
    /// When a setting is out of range.
    pub(super) fn mix(&self, batch: &mut Batch, classes: usize, first_sample: u64) -> Result<(), DataError> {
        let a = &self.augmentation;
        let mixup = Mixup {
            mixup_alpha: a.mixup,
            cutmix_alpha: a.cutmix,
            switch_prob: a.switch_probability,
            label_smoothing: a.label_smoothing,
            ..Mixup::default()
        };
        let (height, width) = (batch.size, batch.size);
        let shape = BatchShape { batch: batch.labels.len(), channels: 3, height, width, layout: Layout::Hwc };
        let mut rng = sample_rng(self.seed, 0, first_sample, Purpose::Mix);
        if let Some(unfinished) = &mut batch.unfinished {
            // One draw for all pictures: the mode of the recipes.
            let mixes = mixup.sample_batch(&shape, &mut rng).map_err(setting)?;
            unfinished.mix(mixes.first().copied().unwrap_or(Mix::None));
            let targets = soft_targets_each(&batch.labels, classes, &mixes, mixup.label_smoothing);
            batch.targets = targets.map_err(setting)?;
            return Ok(());
        }
        let mixed = mixup.apply(&mut batch.pixels, &shape, &batch.labels, classes, &mut rng);
        batch.targets = mixed.map_err(setting)?.0;
        Ok(())
    }

    fn erasing(&self) -> RandomErasing {
        RandomErasing { probability: self.augmentation.erasing, ..RandomErasing::default() }
    }

    fn rng(&self, (epoch, index): (u64, usize), purpose: Purpose) -> impl rand::Rng + use<> {
        sample_rng(self.seed, epoch, index as u64, purpose)
    }

    /// Draws the box, and whether it is mirrored.
    fn draw_crop(
        &self,
        (width, height): (u32, u32),
        sample: (u64, usize),
    ) -> Result<(CropBox, bool), DataError> {
        let crop = RandomResizedCrop { scale: (self.min_crop_area, 1.0), ..RandomResizedCrop::default() };
        let mut rng = self.rng(sample, Purpose::Crop);
        let area = crop.sample(width, height, &mut rng).map_err(setting)?;
        Ok((area, self.rng(sample, Purpose::Flip).random_bool(self.augmentation.flip)))
    }

    fn augment(
        &self,
        picture: &mut RgbImage,
        magnitude: f64,
        sample: (u64, usize),
        w: &mut Workspace,
    ) -> Result<(), DataError> {
        let mut rng = self.rng(sample, Purpose::Augment);
        let done = match &self.policy {
            Some(policy) => policy.apply(picture, magnitude, &mut rng, &mut w.scratch),
            None => self.rand_augment().apply(picture, magnitude, &mut rng, &mut w.scratch),
        };
        done.map_err(setting)?;
        w.mark(Stage::Augment);
        Ok(())
    }

    /// The recipe's.
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

    /// Normalises a picture and erases, as the sample's draws say, into channels-last values.
    ///
    /// # Errors
    /// When `out` does not have the length of the picture, or a setting is out of range.
    pub fn pack(
        &self,
        picture: &RgbImage,
        sample: (u64, usize),
        w: &mut Workspace,
        out: &mut [f32],
    ) -> Result<(), DataError> {
        w.normalize.apply(picture, Layout::Hwc, out).map_err(setting)?;
        let shape = (3, picture.height(), picture.width());
        self.erasing()
            .apply(out, shape, Layout::Hwc, &mut self.rng(sample, Purpose::Erase))
            .map_err(setting)?;
        w.mark(Stage::Pack);
        Ok(())
    }
}

impl EvalPipeline {
    /// The reference's evaluation at a size: short edge to size / 0.875, then the centre.
    pub fn new(size: usize) -> Self {
        Self { size, crop_pct: Self::CROP_PCT }
    }

    /// The share of the short edge that the reference's centre crop keeps.
    pub const CROP_PCT: f64 = 0.875;

    /// The same with another share of the short edge kept, as timm's `crop_pct`: short edge to size / share.
    ///
    /// # Errors
    /// When it is not above 0 and at most 1.
    pub fn with_crop_pct(self, crop_pct: f64) -> Result<Self, Error> {
        if crop_pct > 0.0 && crop_pct <= 1.0 {
            return Ok(Self { crop_pct, ..self });
        }
        Err(Error::config("crop-pct", format!("expected above 0 and at most 1, got {crop_pct}")))
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
