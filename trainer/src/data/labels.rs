//! Labels of an image on its way to a batch.

use crate::data::batch::Batch;
use crate::data::source::Source;

/// Labels of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageLabels {
    label: u32,
    /// All labels, in a multi-label set.
    set: Option<Box<[u32]>>,
}

impl ImageLabels {
    /// Returns the labels of image `index` of a source.
    pub(crate) fn of(source: &dyn Source, index: usize) -> Self {
        Self { label: source.label(index), set: source.label_set(index).map(Into::into) }
    }

    /// Appends the labels to those of a batch.
    pub(crate) fn append_to(&self, batch: &mut Batch) {
        batch.labels.push(self.label);
        batch.label_sets.extend(self.set.clone());
    }
}
