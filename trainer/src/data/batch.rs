//! Images and targets of one forward pass.

use candle_core::{Device, Tensor};
use efficienttrain_models::ops;

use crate::data::raw_batch::Unfinished;
use crate::data::source::BadImage;

/// Pictures and targets of one forward pass, ready for the device.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Normalised pictures, channels-last: `[count, size, size, 3]`. Empty where the device is to finish them.
    pub pixels: Vec<f32>,
    /// Pictures that the device normalises, erases and mixes: a quarter of the bytes to send there.
    pub unfinished: Option<Unfinished>,
    /// Class probabilities, `[count, classes]`: smoothed and mixed in training, one-hot in evaluation.
    pub targets: Vec<f32>,
    /// The labels before mixing.
    pub labels: Vec<u32>,
    /// Positions of the images in their source.
    pub samples: Vec<usize>,
    /// Edge of the pictures, in pixels.
    pub size: usize,
    /// Images that could not be read and were replaced by the next in order.
    pub bad: Vec<BadImage>,
}

impl Batch {
    /// Sends pictures that the device is to finish there, ahead of [`Self::pictures`].
    ///
    /// # Errors
    /// When the device has no room for them.
    pub(crate) fn send(&mut self, device: &Device) -> crate::error::Result<()> {
        let (count, size) = (self.labels.len(), self.size);
        self.unfinished.as_mut().map_or(Ok(()), |unfinished| unfinished.send(count, size, device))
    }

    /// The pictures as a network gets them, `f32` `[N, H, W, 3]`, on `device`.
    ///
    /// # Errors
    /// When the device has no room for them.
    pub fn pictures(&self, device: &Device) -> crate::error::Result<Tensor> {
        let count = self.labels.len();
        match &self.unfinished {
            Some(unfinished) => unfinished.finish(count, self.size, device),
            None => Ok(ops::upload(&self.pixels, &[count, self.size, self.size, 3], device)?),
        }
    }

    /// Room for `count` pictures.
    pub(crate) fn empty(count: usize, size: usize, classes: usize) -> Self {
        Self {
            pixels: vec![0.0; count * size * size * 3],
            unfinished: None,
            targets: Vec::with_capacity(count * classes),
            labels: Vec::with_capacity(count),
            samples: Vec::with_capacity(count),
            size,
            bad: Vec::new(),
        }
    }
}
