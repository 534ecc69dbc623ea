//! Pictures of a batch as bytes, with what is still to be done to them.

use candle_core::{Device, Tensor};
use efficienttrain_models::ops::{self, Blend, ErasedBox};
use image::RgbImage;
use randaug::{Erasure, IMAGENET_MEAN, IMAGENET_STD, Mix};

use crate::error::Result;

/// Cropped and augmented pictures, and the draws of what comes after that.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unfinished {
    /// Channels-last: `[count, size, size, 3]`.
    pub bytes: Vec<u8>,
    /// Boxes that are erased, at most one a picture.
    pub boxes: Vec<ErasedBox>,
    /// What they are overwritten with, one after the other.
    pub values: Vec<f32>,
    /// How each picture is blended with its partner.
    pub blend: Blend,
    pub(crate) sent: Sent,
}

/// The bytes on a device, where they were sent ahead.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Option<Tensor>);

/// It says nothing that the bytes do not.
impl PartialEq for Sent {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Unfinished {
    /// Adds the picture of number `number`.
    pub(super) fn push(&mut self, number: usize, picture: &RgbImage, erasures: Vec<Erasure>) {
        self.bytes.extend_from_slice(picture);
        for Erasure { area, values } in erasures {
            let [top, left, height, width] =
                [area.top, area.left, area.height, area.width].map(|x| x as usize);
            self.boxes.push(ErasedBox { image: number, top, left, height, width });
            self.values.extend(values);
        }
    }

    pub(super) fn mix(&mut self, mix: Mix) {
        self.blend = match mix {
            Mix::None => Blend::None,
            Mix::Mixup { lam } => Blend::Share { own: lam as f32 },
            Mix::Cutmix { area, .. } => Blend::Box { y0: area.y0, y1: area.y1, x0: area.x0, x1: area.x1 },
        };
    }

    /// Sends the bytes to a device ahead of [`Self::finish`].
    ///
    /// # Errors
    /// When the device has no room for them.
    pub(super) fn send(&mut self, count: usize, size: usize, device: &Device) -> Result<()> {
        self.sent = Sent(Some(ops::upload(&self.bytes, &[count, size, size, 3], device)?));
        Ok(())
    }

    /// The finished pictures, `[count, size, size, 3]`, on `device`.
    ///
    /// # Errors
    /// When the device has no room for them.
    pub(crate) fn finish(&self, count: usize, size: usize, device: &Device) -> Result<Tensor> {
        let bytes = match &self.sent.0 {
            Some(sent) if sent.device().same_device(device) => sent.clone(),
            _ => ops::upload(&self.bytes, &[count, size, size, 3], device)?,
        };
        let finish = ops::DevicePreprocess {
            mean: IMAGENET_MEAN,
            std: IMAGENET_STD,
            boxes: &self.boxes,
            values: &self.values,
            blend: self.blend,
        };
        Ok(ops::normalize_erase_mix(&bytes, &finish)?)
    }
}
