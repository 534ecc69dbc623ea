//! Images and targets of one forward pass.

use candle_core::{Device, Tensor};
use efficienttrain_models::Model;
use efficienttrain_models::ops::{self, Blend, ErasedBox};
use image::RgbImage;
use randaug::{Erasure, Mix, luma};

use crate::config::channels::{InputChannels, Normalization};
use crate::data::source::BadImage;
use crate::error::Result;

/// Images and targets of one forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The images, channels-last: `[count, size, size, channels]`.
    pub images: BatchImages,
    /// Class probabilities, `[count, classes]`: smoothed and mixed in training, one-hot in
    /// evaluation, with any number of ones a row in a multi-label set.
    pub targets: Vec<f32>,
    /// The labels before mixing, one an image; without a meaning in a multi-label set.
    pub labels: Vec<u32>,
    /// All labels of each image of a multi-label set, before mixing; empty for another set.
    pub label_sets: Vec<Box<[u32]>>,
    /// Indices of the images in their source.
    pub samples: Vec<usize>,
    /// Edge of the images, in pixels.
    pub size: usize,
    /// Channels of the images: 3, or 1 of gray ones.
    pub channels: usize,
    /// Images that could not be read and were replaced by the next in order.
    pub bad: Vec<BadImage>,
}

/// Images of a batch, channels-last: `[count, size, size, channels]`.
#[derive(Clone, Debug, PartialEq)]
pub enum BatchImages {
    /// Values that a network takes: normalized, erased and mixed.
    Normalized(Vec<f32>),
    /// Bytes that the device normalizes, erases and mixes: a quarter of the size to copy there.
    Raw(RawBatch),
}

/// Cropped and augmented images as bytes, with the random draws of the transforms that are left to
/// the device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RawBatch {
    /// The images.
    pub bytes: RawBytes,
    /// Boxes to erase, at most one per image.
    pub boxes: Vec<ErasedBox>,
    /// Values that the boxes are overwritten with, one box after the other.
    pub values: Vec<f32>,
    /// How each image is blended with its partner.
    pub blend: Blend,
    /// Numbers by which the device normalizes.
    pub normalization: Normalization,
}

/// Bytes of the images of a [`RawBatch`].
#[derive(Clone, Debug)]
pub enum RawBytes {
    /// In host memory.
    Host(Vec<u8>),
    /// Copied to a device ahead of their step, `[count, size, size, channels]`.
    Staged(Tensor),
}

impl Default for RawBytes {
    fn default() -> Self {
        Self::Host(Vec::new())
    }
}

/// Staged bytes are equal if they are the same tensor.
impl PartialEq for RawBytes {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Host(ours), Self::Host(theirs)) => ours == theirs,
            (Self::Staged(ours), Self::Staged(theirs)) => ours.id() == theirs.id(),
            _ => false,
        }
    }
}

impl Batch {
    /// Allocates a batch for `count` images; their values are zero.
    pub(crate) fn with_values(count: usize, size: usize, classes: usize, channels: usize) -> Self {
        let values = vec![0.0; count * size * size * channels];
        Self { channels, ..Self::new(count, size, classes, BatchImages::Normalized(values)) }
    }

    /// Allocates a batch for the bytes of `count` images.
    pub(crate) fn with_bytes(
        count: usize,
        size: usize,
        classes: usize,
        normalization: Normalization,
    ) -> Self {
        let bytes = RawBytes::Host(Vec::with_capacity(count * normalization.image_len(size)));
        let images = BatchImages::Raw(RawBatch { bytes, normalization, ..RawBatch::default() });
        Self { channels: normalization.channels.count(), ..Self::new(count, size, classes, images) }
    }

    fn new(count: usize, size: usize, classes: usize, images: BatchImages) -> Self {
        Self {
            images,
            targets: Vec::with_capacity(count * classes),
            labels: Vec::with_capacity(count),
            label_sets: Vec::new(),
            samples: Vec::with_capacity(count),
            size,
            channels: 3,
            bad: Vec::new(),
        }
    }

    /// Returns random images for a model with labels spread over its classes, in the form in which
    /// training copies them to `device`.
    pub(crate) fn random(count: usize, model: &dyn Model, device: &Device) -> Result<Self> {
        let ([size, _], channels) = (model.input_size(), model.in_channels());
        let numbers = count * size * size * channels;
        let images = if device.is_cpu() {
            BatchImages::Normalized(Tensor::randn(0f32, 1., numbers, &Device::Cpu)?.to_vec1()?)
        } else {
            // Bytes without a visible pattern (Knuth's multiplicative hash).
            let bytes = (0..numbers as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
            BatchImages::Raw(RawBatch { bytes: RawBytes::Host(bytes), ..RawBatch::default() })
        };
        // An autoencoder has no classes.
        let classes = model.num_classes().max(1);
        let labels: Vec<u32> = (0..count).map(|i| (i * 7 % classes) as u32).collect();
        let mut targets = vec![0.0; count * classes];
        for (row, &label) in targets.chunks_exact_mut(classes).zip(&labels) {
            row[label as usize] = 1.0;
        }
        let (label_sets, samples) = (Vec::new(), Vec::new());
        Ok(Self { images, targets, labels, label_sets, samples, size, channels, bad: Vec::new() })
    }

    /// Returns the values of the images, if the batch holds values and not bytes.
    pub fn normalized(&self) -> Option<&[f32]> {
        match &self.images {
            BatchImages::Normalized(values) => Some(values),
            BatchImages::Raw(_) => None,
        }
    }

    /// Copies bytes to a device ahead of their step. A batch that holds values stays as it is.
    ///
    /// # Errors
    /// Returns an error if the device is out of memory; the batch is then unchanged.
    pub(crate) fn stage(&mut self, device: &Device) -> Result<()> {
        let shape = [self.labels.len(), self.size, self.size, self.channels];
        if let BatchImages::Raw(RawBatch { bytes, .. }) = &mut self.images
            && let RawBytes::Host(host) = bytes
        {
            *bytes = RawBytes::Staged(ops::upload(host, &shape, device)?);
        }
        Ok(())
    }

    /// Returns the images as a network takes them, `f32` `[N, H, W, C]`, on `device`.
    ///
    /// # Errors
    /// Returns an error if the device is out of memory.
    pub fn tensor(&self, device: &Device) -> Result<Tensor> {
        let shape = [self.labels.len(), self.size, self.size, self.channels];
        match &self.images {
            BatchImages::Normalized(values) => Ok(ops::upload(values, &shape, device)?),
            BatchImages::Raw(raw) => raw.finish(&shape, device),
        }
    }
}

impl RawBatch {
    /// Appends image `index` of the batch, with the boxes to erase.
    pub(crate) fn push(&mut self, index: usize, image: &RgbImage, erasures: Vec<Erasure>) {
        if let RawBytes::Host(bytes) = &mut self.bytes {
            match self.normalization.channels {
                InputChannels::Rgb => bytes.extend_from_slice(image),
                InputChannels::Gray => bytes.extend(image.as_chunks().0.iter().map(|&rgb| luma(rgb))),
            }
        }
        for Erasure { area, values } in erasures {
            let [top, left, height, width] =
                [area.top, area.left, area.height, area.width].map(|x| x as usize);
            self.boxes.push(ErasedBox { image: index, top, left, height, width });
            self.values.extend(values);
        }
    }

    /// Sets how images are blended with their partners.
    pub(crate) fn set_mix(&mut self, mix: Mix) {
        self.blend = match mix {
            Mix::None => Blend::None,
            Mix::Mixup { lam } => Blend::Share { own: lam as f32 },
            Mix::Cutmix { area, .. } => Blend::Box { y0: area.y0, y1: area.y1, x0: area.x0, x1: area.x1 },
        };
    }

    /// Normalizes, erases and mixes on `device`.
    fn finish(&self, shape: &[usize; 4], device: &Device) -> Result<Tensor> {
        let bytes = match &self.bytes {
            RawBytes::Host(bytes) => ops::upload(bytes, shape, device)?,
            RawBytes::Staged(bytes) => bytes.to_device(device)?,
        };
        let preprocess = ops::DevicePreprocess {
            mean: self.normalization.mean,
            std: self.normalization.std,
            boxes: &self.boxes,
            values: &self.values,
            blend: self.blend,
        };
        Ok(ops::normalize_erase_mix(&bytes, &preprocess)?)
    }
}
