//! Working memory, kept from image to image.

use std::sync::{Mutex, PoisonError};

use crate::fft::FourierScratch;
use crate::real::Real;
use crate::separable::SeparableScratch;

/// Working memory of a plan: make one per thread and use it for all images.
///
/// It grows to the needs of the first image; nothing is allocated afterwards. Any scratch works
/// with any plan of the same number type. Calls that take none borrow one from a pool inside the
/// plan.
#[derive(Debug)]
pub struct Scratch<T> {
    pub(crate) separable: SeparableScratch<T>,
    pub(crate) fourier: FourierScratch<T>,
    /// Copies of views whose memory is in some other order.
    pub(crate) input: Vec<T>,
    pub(crate) output: Vec<T>,
}

impl<T: Real> Scratch<T> {
    /// Creates empty working memory.
    #[must_use]
    pub fn new() -> Self {
        Self {
            separable: SeparableScratch::default(),
            fourier: FourierScratch::default(),
            input: Vec::new(),
            output: Vec::new(),
        }
    }
}

impl<T: Real> Default for Scratch<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Idle scratches of a plan; as many as there ever were concurrent calls.
#[derive(Debug)]
pub(crate) struct ScratchPool<T>(Mutex<Vec<Scratch<T>>>);

impl<T: Real> ScratchPool<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Vec::new()))
    }

    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Scratch<T>) -> R) -> R {
        // The lock is held only for a push or a pop. A scratch has no state that a panic could make
        // inconsistent.
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = idle.unwrap_or_default();
        let result = work(&mut scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }
}
