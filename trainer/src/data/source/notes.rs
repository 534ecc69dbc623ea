//! Notes for the user about a data set.

use serde::{Deserialize, Serialize};

use crate::data::source::Source;
use crate::data::source::class_names::{empty_classes, some};
use crate::data::source::skipped::Skipped;

/// Skipped files of a split, and classes without an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitNotes {
    /// Files of the set that are not among its images, by reason.
    #[serde(default, skip_serializing_if = "Skipped::is_empty")]
    pub skipped: Skipped,
    /// Names of the classes without an image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_classes: Vec<String>,
}

impl SplitNotes {
    /// Collects the notes of a set.
    pub fn of(source: &dyn Source) -> Self {
        Self { skipped: source.skipped(), empty_classes: empty_classes(source) }
    }

    /// Returns true if there are no notes.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Formats the notes, one per line; `split` is the name of the split.
    pub fn lines(&self, split: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.skipped.is_empty() {
            lines.push(format!("note: {split}: skipped {}", self.skipped));
        }
        if !self.empty_classes.is_empty() {
            let (count, names) = (self.empty_classes.len(), some(&self.empty_classes));
            let classes = if count == 1 { "class" } else { "classes" };
            lines.push(format!("note: {split}: no image of {count} {classes}: {names}"));
        }
        lines
    }
}
