//! Labeled image sets.

pub(crate) mod cached;
pub(crate) mod cifar;
pub(crate) mod class_names;
pub(crate) mod digest;
pub(crate) mod files;
pub(crate) mod folder;
pub(crate) mod hidden;
pub(crate) mod list;
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
    /// Returns the number of images.
    fn len(&self) -> usize;

    /// Returns true if there are no images.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the names of the classes; labels are positions in this list.
    fn classes(&self) -> &[String];

    /// Returns the label of an image.
    fn label(&self, index: usize) -> u32;

    /// Returns the files of the data set that are not among its images, by reason.
    fn skipped(&self) -> Skipped {
        Skipped::default()
    }

    /// Returns the name of an image for messages; for files, the path.
    fn name(&self, index: usize) -> String;

    /// Reads and decodes an image.
    ///
    /// # Errors
    /// Returns an error that names the image if it cannot be read or decoded.
    fn load(&self, index: usize) -> Result<RgbImage, DataError>;

    /// Reads an image, at a reduced size if it is a JPEG and `divisor` allows it. A source without
    /// JPEGs can keep this default.
    ///
    /// # Errors
    /// Same as [`Self::load`].
    fn load_reduced(&self, index: usize, _divisor: Divisor) -> Result<Decoded, DataError> {
        self.load(index).map(Decoded::from)
    }

    /// Returns the encoded image as stored; none if the source stores pixels.
    ///
    /// # Errors
    /// Returns an error that names the image if it cannot be read.
    fn encoded(&self, _index: usize) -> Result<Option<Vec<u8>>, DataError> {
        Ok(None)
    }
}

/// An image that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BadImage {
    /// Name of the image.
    pub name: String,
    /// Reason.
    pub reason: String,
}

impl BadImage {
    pub(crate) fn of(source: &dyn Source, index: usize, error: &DataError) -> Self {
        Self { name: source.name(index), reason: error.to_string() }
    }
}
