//! What a person should know of a set before its images are used.

use serde::{Deserialize, Serialize};

use crate::data::source::Source;
use crate::data::source::class_names::{empty_classes, some};
use crate::data::source::skipped::Skipped;

/// Files of one split that are not taken, and classes that it has no image of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitNotes {
    /// Files that lie in the set and are not among its images, by reason.
    #[serde(default, skip_serializing_if = "Skipped::is_empty")]
    pub skipped: Skipped,
    /// Names of the classes without an image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub empty_classes: Vec<String>,
}

impl SplitNotes {
    /// Returns the notes of a set.
    pub fn of(source: &dyn Source) -> Self {
        Self { skipped: source.skipped(), empty_classes: empty_classes(source) }
    }

    /// Returns whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the notes in words, a line each; `split` is the name of the split.
    pub fn lines(&self, split: &str) -> Vec<String> {
        let mut lines = Vec::new();
        if !self.skipped.is_empty() {
            lines.push(format!("note: {split}: left out {}", self.skipped));
        }
        if !self.empty_classes.is_empty() {
            let (count, names) = (self.empty_classes.len(), some(&self.empty_classes));
            let classes = if count == 1 { "class" } else { "classes" };
            lines.push(format!("note: {split}: no image of {count} {classes}: {names}"));
        }
        lines
    }
}
