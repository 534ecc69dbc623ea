//! Purposes of the random draws of training, in addition to those in [`Purpose`].
//!
//! The stream numbers define the outcome of stored runs, so they never change.

use randaug::Purpose;

/// Pixels of a synthetic image.
pub(crate) const SYNTHETIC_IMAGE: Purpose = Purpose::Custom(0);
/// Dropout and stochastic depth of a micro-batch.
pub(crate) const REGULARIZATION: Purpose = Purpose::Custom(1);
/// Chunks of the replay buffer that complete a training batch.
pub(crate) const REPLAY: Purpose = Purpose::Custom(2);
/// Patches that a masked autoencoder does not see. The number is that of [`REPLAY`], but its seed
/// is a draw of [`REGULARIZATION`] and not the run's seed, so the two streams differ.
pub(crate) const MASKED_PATCHES: Purpose = Purpose::Custom(2);
/// Images of a subset of the training images.
pub(crate) const SUBSET: Purpose = Purpose::Custom(3);
/// Images that are held out for validation.
pub(crate) const HELD_OUT: Purpose = Purpose::Custom(4);
