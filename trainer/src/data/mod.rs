//! Images in: sources, the order of samples, the transforms, and the loader that prepares batches ahead of the step.

mod check;
mod cifar;
mod class_names;
mod decode;
mod digest;
mod endings;
mod files;
mod find;
mod folder;
mod fused;
mod hidden;
mod loader;
mod locate;
mod notes;
mod numbered;
mod order;
mod ordered;
mod pack;
#[cfg(feature = "parquet")]
mod parquet;
mod pipeline;
mod replay;
mod runs;
mod shard;
mod skipped;
mod splits;
mod stages;
mod stats;
mod subset;
mod synthetic;
mod unfinished;
mod walk;

pub use check::{Check, ClassCount, Range, check};
pub use cifar::Cifar;
pub(crate) use class_names::difference;
pub use class_names::{empty_classes, unique_names};
pub use decode::{
    DEFAULT_IMAGE_LIMIT, Decoded, Divisor, decode, decode_reduced, keep_decoder_panics_quiet, read_image,
    read_image_within,
};
pub(crate) use decode::{decode_stored, read_file};
pub use digest::DataDigest;
pub use files::ImageFiles;
pub use find::{NamedSource, open_all, open_for_evaluation, open_split};
pub(crate) use find::{has_split, open_plain, open_unlabeled};
pub use folder::ImageFolder;
pub use loader::{Loader, Request};
pub use notes::SplitNotes;
pub use order::SampleOrder;
pub use pack::{PackOptions, Packed, pack, write_classes};
#[cfg(feature = "parquet")]
pub use parquet::ParquetFiles;
pub use pipeline::{EvalPipeline, REDUCED_MARGIN, TrainPipeline, View, Workspace};
pub use shard::{ShardImage, ShardIndex, ShardLabel, TarShards};
pub use skipped::{SkipReason, Skipped, SkippedFiles};
pub use stages::{Stage, StageClock};
pub use stats::{Stats, stats};
pub use subset::Subset;
pub use synthetic::{Split, Synthetic};
pub use unfinished::Unfinished;

use candle_core::{Device, Tensor};
use efficienttrain_models::ops;
use image::RgbImage;

use crate::error::DataError;

/// A labelled set of images that can be read in any order by many threads.
pub trait Source: Send + Sync {
    /// Number of images.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names of the classes; labels are positions in it.
    fn classes(&self) -> &[String];

    /// Label of an image.
    fn label(&self, index: usize) -> u32;

    /// Files that lie in the data set and are not among its images, by reason.
    fn skipped(&self) -> Skipped {
        Skipped::default()
    }

    /// What to call an image in messages: its path, for files.
    fn name(&self, index: usize) -> String;

    /// Reads and decodes an image.
    ///
    /// # Errors
    /// When it cannot be read or decoded; the message names it.
    fn load(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Reads an image that may come smaller than it is stored, if it is a JPEG and `divisor` allows it. A source that holds
    /// no JPEGs need not care.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn load_reduced(&self, index: usize, _divisor: Divisor) -> Result<Decoded, DataError> {
        self.load(index).map(Decoded::from)
    }

    /// The image as it is stored, in a file format; none where it is stored as pixels.
    ///
    /// # Errors
    /// When it cannot be read; the message names it.
    fn encoded(&self, _index: usize) -> Result<Option<Vec<u8>>, DataError> {
        Ok(None)
    }
}

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
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BadImage {
    /// Its name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

impl BadImage {
    fn of(source: &dyn Source, index: usize, error: &DataError) -> Self {
        Self { name: source.name(index), reason: error.to_string() }
    }
}
