//! Decoded images that are kept in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use image::RgbImage;

use crate::data::decode::reduced::{Decoded, Divisor};
use crate::data::source::Source;
use crate::data::source::skipped::Skipped;
use crate::error::DataError;

/// A source whose images are decoded once, as far as there is room for their pixels. Images are the
/// same as without; those decoded at a reduced size are not kept.
pub(crate) struct Cached {
    of: Arc<dyn Source>,
    images: Vec<OnceLock<RgbImage>>,
    /// Room that is left, in bytes.
    room: AtomicU64,
}

impl Cached {
    /// Keeps up to `bytes` of the images of a source.
    pub(crate) fn new(of: Arc<dyn Source>, bytes: u64) -> Self {
        let images = (0..of.len()).map(|_| OnceLock::new()).collect();
        Self { of, images, room: AtomicU64::new(bytes) }
    }

    /// Takes room for an image, if there is any left.
    fn reserve(&self, bytes: u64) -> bool {
        let take = |room: u64| room.checked_sub(bytes);
        self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

impl Source for Cached {
    fn len(&self) -> usize {
        self.of.len()
    }

    fn classes(&self) -> &[String] {
        self.of.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.of.label(index)
    }

    fn label_set(&self, index: usize) -> Option<&[u32]> {
        self.of.label_set(index)
    }

    fn skipped(&self) -> Skipped {
        self.of.skipped()
    }

    fn name(&self, index: usize) -> String {
        self.of.name(index)
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let place = self.images.get(index);
        if let Some(image) = place.and_then(OnceLock::get) {
            return Ok(image.clone());
        }
        let image = self.of.load(index)?;
        let bytes = image.as_raw().len() as u64;
        if let Some(place) = place
            && self.reserve(bytes)
            && place.set(image.clone()).is_err()
        {
            // Another worker has decoded it meanwhile.
            self.room.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(image)
    }

    fn load_reduced(&self, index: usize, divisor: Divisor) -> Result<Decoded, DataError> {
        self.of.load_reduced(index, divisor)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        self.of.encoded(index)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Images of 4 x 4 pixels, which count how often they are decoded.
    struct Counting(AtomicUsize);

    impl Source for Counting {
        fn len(&self) -> usize {
            3
        }

        fn classes(&self) -> &[String] {
            &[]
        }

        fn label(&self, index: usize) -> u32 {
            index as u32
        }

        fn name(&self, index: usize) -> String {
            index.to_string()
        }

        fn load(&self, index: usize) -> Result<RgbImage, DataError> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(RgbImage::from_pixel(4, 4, image::Rgb([index as u8; 3])))
        }
    }

    #[test]
    fn images_are_decoded_once_as_far_as_there_is_room() {
        let source = Arc::new(Counting(AtomicUsize::new(0)));
        // Two images of 48 bytes.
        let cached = Cached::new(source.clone(), 100);
        for _ in 0..3 {
            for index in 0..3 {
                assert_eq!(cached.load(index).unwrap().as_raw()[0], index as u8);
            }
        }
        assert_eq!(source.0.load(Ordering::Relaxed), 2 + 3);
    }
}
