//! Unreadable images of a run.

use std::collections::BTreeSet;

use crate::data::source::BadImage;
use crate::error::{DataError, Result};
use crate::events::{Event, Observer};

/// Names of the unreadable images so far, and the limit of their number.
#[derive(Debug)]
pub(crate) struct BadImages {
    names: BTreeSet<String>,
    limit: usize,
}

impl BadImages {
    pub(crate) fn new(limit: usize) -> Self {
        Self { names: BTreeSet::new(), limit }
    }

    /// Reports each image once.
    ///
    /// # Errors
    /// Returns an error if there are more than the limit.
    pub(crate) fn report(&mut self, bad: &[BadImage], observer: &mut dyn Observer) -> Result<()> {
        for image in bad {
            if self.names.insert(image.name.clone()) {
                observer.observe(&Event::BadImage(image.clone()))?;
            }
        }
        let (count, limit) = (self.names.len(), self.limit);
        if count > limit {
            let examples = bad.iter().take(3).map(|b| b.reason.clone()).collect::<Vec<_>>().join("; ");
            return Err(DataError::TooManyBad { count, limit, examples }.into());
        }
        Ok(())
    }
}
