//! Counter-based randomness: a draw is a function of (seed, epoch, sample index, purpose) alone.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. Streams of different purposes are independent, so that adding a
/// draw to one step of the pipeline leaves all the others as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Purpose {
    /// The box of the random resized crop.
    Crop,
    /// Whether the picture is mirrored.
    Flip,
    /// Choice and strength of the augmentation operations.
    Augment,
    /// Random erasing.
    Erase,
    /// Mixup and cutmix; the index is then that of the batch.
    Mix,
    /// The order of the samples.
    Order,
    /// Color jitter, gray and blur outside of a policy.
    Jitter,
    /// Anything else; the number is the stream's own. Numbers below 2^32 never meet a named purpose.
    Other(u32),
}

impl From<Purpose> for u64 {
    fn from(purpose: Purpose) -> u64 {
        const NAMED: u64 = 1 << 32;
        match purpose {
            Purpose::Crop => NAMED,
            Purpose::Flip => NAMED + 1,
            Purpose::Augment => NAMED + 2,
            Purpose::Erase => NAMED + 3,
            Purpose::Mix => NAMED + 4,
            Purpose::Order => NAMED + 5,
            Purpose::Jitter => NAMED + 6,
            Purpose::Other(number) => u64::from(number),
        }
    }
}

/// The generator of one sample, epoch and purpose.
///
/// The four numbers, little endian, are the 32-byte key of ChaCha8. Whatever the order in which samples are
/// augmented, and by however many workers, each one gets the same numbers.
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
