//! The trait of labeled image sets.

pub(crate) mod cifar;
pub(crate) mod class_names;
pub(crate) mod digest;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod hidden;
pub(crate) mod locate;
pub(crate) mod notes;
pub(crate) mod numbered;
pub(crate) mod open;
#[cfg(feature = "parquet")]
pub(crate) mod parquet;
pub(crate) mod runs;
pub(crate) mod shard;
pub(crate) mod skipped;
pub(crate) mod splits;
pub(crate) mod subset;
pub(crate) mod synthetic;
pub(crate) mod walk;

use image::RgbImage;

use crate::data::decode::reduced::Decoded;
use crate::data::decode::reduced::Divisor;
use crate::data::source::skipped::Skipped;
use crate::error::DataError;

/// A labeled set of images that can be read in any order by many threads.
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

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BadImage {
    /// Its name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

impl BadImage {
    pub(crate) fn of(source: &dyn Source, index: usize, error: &DataError) -> Self {
        Self { name: source.name(index), reason: error.to_string() }
    }
}
