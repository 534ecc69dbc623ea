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
#[cfg(any(feature = "parquet", test))]
pub(crate) mod parquet;
pub(crate) mod runs;
pub(crate) mod shard;
pub(crate) mod skipped;
pub(crate) mod splits;
pub(crate) mod stratified;
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

    /// Returns the label of an image. In a multi-label set it has no meaning: see
    /// [`Self::label_set`].
    fn label(&self, index: usize) -> u32;

    /// Returns all labels of an image of a multi-label set, in ascending order and each once; empty
    /// for an image of no class. None for a set whose images have one label each; a set answers
    /// the same for all images. A source that wraps another one must forward this.
    fn label_set(&self, _index: usize) -> Option<&[u32]> {
        None
    }

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

/// Returns true if the images of a set may have several labels, or none.
pub fn is_multi_label(source: &dyn Source) -> bool {
    !source.is_empty() && source.label_set(0).is_some()
}

/// Returns the labels of an image: one, or any number in a multi-label set.
pub(crate) fn labels_of(source: &dyn Source, index: usize) -> impl Iterator<Item = u32> {
    let set = source.label_set(index);
    let single = set.is_none().then(|| source.label(index));
    single.into_iter().chain(set.unwrap_or_default().iter().copied())
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::cached::Cached;
    use super::subset::Subset;
    use super::*;

    /// Images of no class, of one and of two.
    struct Several(Vec<String>);

    impl Source for Several {
        fn len(&self) -> usize {
            30
        }

        fn classes(&self) -> &[String] {
            &self.0
        }

        fn label(&self, _: usize) -> u32 {
            unreachable!("a multi-label set has label sets")
        }

        fn label_set(&self, index: usize) -> Option<&[u32]> {
            Some([&[][..], &[1], &[0, 2]][index % 3])
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn load(&self, _: usize) -> Result<RgbImage, DataError> {
            Ok(RgbImage::new(1, 1))
        }
    }

    #[test]
    fn sources_that_wrap_others_keep_all_labels() {
        let whole: Arc<dyn Source> = Arc::new(Several(["a", "b", "c"].map(String::from).into()));
        let (kept, held) = Subset::hold_out(&whole, 0.3).unwrap();
        let cached = Cached::new(Arc::new(kept.clone()), 0);
        for wrapped in [&kept as &dyn Source, &held, &cached] {
            assert!(is_multi_label(wrapped));
            for index in 0..wrapped.len() {
                let inner: usize = wrapped.name(index).parse().unwrap();
                assert_eq!(wrapped.label_set(index), whole.label_set(inner));
                assert!(labels_of(wrapped, index).eq(labels_of(&*whole, inner)));
            }
        }
    }

    #[test]
    fn the_digest_covers_all_labels() {
        use crate::data::source::digest::DataDigest;

        struct Changed(Several, usize, &'static [u32]);

        impl Source for Changed {
            fn len(&self) -> usize {
                self.0.len()
            }

            fn classes(&self) -> &[String] {
                self.0.classes()
            }

            fn label(&self, index: usize) -> u32 {
                self.0.label(index)
            }

            fn label_set(&self, index: usize) -> Option<&[u32]> {
                if index == self.1 { Some(self.2) } else { self.0.label_set(index) }
            }

            fn name(&self, index: usize) -> String {
                self.0.name(index)
            }

            fn load(&self, index: usize) -> Result<RgbImage, DataError> {
                self.0.load(index)
            }
        }

        let several = || Several(["a", "b", "c"].map(String::from).into());
        let before = DataDigest::of(&several(), None);
        // One label more, one less, another one, and a first one.
        for (index, labels, said) in [
            (1, &[0u32, 1][..], "`a` had 10 images and now has 11"),
            (2, &[0], "`c` had 10 images and now has 9"),
            (1, &[2], "`b` had 10 images and now has 9, `c` had 10 images and now has 11"),
            (0, &[1], "`b` had 10 images and now has 11, no class had 10 images and now has 9"),
        ] {
            let now = DataDigest::of(&Changed(several(), index, labels), None);
            assert_eq!(now.changed_since(&before, several().classes()).as_deref(), Some(said));
        }
        assert_eq!(DataDigest::of(&several(), None), before);
    }
}
