//! Prefetches the next batch to a GPU while it works on the current one.

use candle_core::Device;

use crate::data::batch::Batch;
use crate::data::loader::Loader;
use crate::error::{DataError, Result};

/// A loader, and the batch that was taken from it ahead of its step.
pub(crate) struct Prefetcher {
    loader: Loader,
    /// None if no batch was taken, or there are no more.
    ahead: Option<std::result::Result<Batch, DataError>>,
}

impl Prefetcher {
    pub(crate) fn new(loader: Loader) -> Self {
        Self { loader, ahead: None }
    }

    /// Returns the next batch.
    pub(crate) fn next(&mut self) -> Result<Batch> {
        let next = self.ahead.take().or_else(|| self.loader.next());
        Ok(next.ok_or_else(|| DataError::Worker("the loader ended early".into()))??)
    }

    /// Returns the next batch and keeps it for [`Self::next`].
    pub(crate) fn peek(&mut self) -> Result<&Batch> {
        let batch = self.next()?;
        let kept = self.ahead.insert(Ok(batch)).as_ref();
        kept.map_err(|_| DataError::Worker("the loader ended early".into()).into())
    }

    /// Takes the next batch and copies its images to a GPU; does nothing on the CPU. Errors are
    /// reported in the batch's own step: images that do not fit yet are copied again then.
    pub(crate) fn prefetch(&mut self, device: &Device) {
        if device.is_cpu() || self.ahead.is_some() {
            return;
        }
        self.ahead = self.loader.next();
        if let Some(Ok(batch)) = &mut self.ahead {
            let _ = batch.stage(device);
        }
    }

    /// Like [`Loader::busy_seconds`].
    pub(crate) fn busy_seconds(&self) -> f64 {
        self.loader.busy_seconds()
    }
}
