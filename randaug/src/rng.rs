//! Counter-based randomness: a draw is a function of (seed, epoch, sample index, purpose) and
//! nothing else.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// Subject of a stream of random numbers. Streams of different purposes are independent, so that
/// adding a draw to one step of the pipeline leaves all others as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// Box of the random resized crop.
    Crop,
    /// Horizontal flip.
    Flip,
    /// Choice and strength of the augmentation operations.
    Augment,
    /// Boxes and values of random erasing.
    Erase,
    /// Mixup and cutmix; the index is that of the batch.
    Mix,
    /// Order of the samples.
    Order,
    /// Color jitter, grayscale and blur outside of a policy.
    Jitter,
    /// A stream of the caller's own, by number. It never meets one of the streams above.
    Custom(u32),
}

/// Streams of the named purposes follow all custom ones.
const FIRST_NAMED: u64 = 1 << 32;

impl From<Purpose> for u64 {
    fn from(purpose: Purpose) -> u64 {
        match purpose {
            Purpose::Crop => FIRST_NAMED,
            Purpose::Flip => FIRST_NAMED + 1,
            Purpose::Augment => FIRST_NAMED + 2,
            Purpose::Erase => FIRST_NAMED + 3,
            Purpose::Mix => FIRST_NAMED + 4,
            Purpose::Order => FIRST_NAMED + 5,
            Purpose::Jitter => FIRST_NAMED + 6,
            Purpose::Custom(stream) => u64::from(stream),
        }
    }
}

/// Returns the generator of one sample, epoch and purpose.
///
/// The four numbers, little endian, are the 32-byte key of ChaCha8. Each sample gets the same
/// numbers, in whatever order and by however many workers the samples are augmented.
///
/// ```
/// use rand::Rng;
/// use randaug::{Purpose, sample_rng};
/// let first = sample_rng(42, 0, 7, Purpose::Crop).next_u64();
/// let _other = sample_rng(42, 0, 8, Purpose::Crop).next_u64();
/// assert_eq!(sample_rng(42, 0, 7, Purpose::Crop).next_u64(), first);
/// ```
#[must_use]
pub fn sample_rng(seed: u64, epoch: u64, index: u64, purpose: impl Into<u64>) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, epoch, index, purpose.into()]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
