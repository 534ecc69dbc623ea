//! Digest of a training set, in a few bytes per class.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::source::{Source, is_multi_label, labels_of};

/// Largest number of classes to name.
const NAMED: usize = 3;

/// Digest of the names and labels of a set's images. Shows if a resumed run has the images that it
/// started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDigest {
    /// Number of images of each class, and the CRC-32 of their names; those without a label come
    /// last in a multi-label set.
    classes: Vec<(u64, u32)>,
    /// CRC-32 of all names and labels, in order.
    order: u32,
}

impl DataDigest {
    /// Digests a set. Names are relative to `root`, so that the folder may be moved.
    pub fn of(source: &dyn Source, root: Option<&Path>) -> Self {
        let root = root.map(|root| root.display().to_string()).unwrap_or_default();
        let several = is_multi_label(source);
        let rows = source.classes().len() + usize::from(several);
        let mut classes = vec![(0, crc32fast::Hasher::new()); rows];
        let mut order = crc32fast::Hasher::new();
        for index in 0..source.len() {
            let name = source.name(index);
            let name = name.strip_prefix(&root).unwrap_or(&name).trim_start_matches(['/', '\\']);
            // The zero byte separates a name from the next one.
            let parts = [name.as_bytes(), b"\0"];
            let mut labels: Vec<u32> = labels_of(source, index).collect();
            if several {
                // Tells the labels of an image from those of the next one.
                order.update(&(labels.len() as u64).to_le_bytes());
            }
            labels.iter().for_each(|label| order.update(&label.to_le_bytes()));
            parts.iter().for_each(|part| order.update(part));
            if labels.is_empty() {
                labels.push(source.classes().len() as u32);
            }
            for label in labels {
                if let Some((images, digest)) = classes.get_mut(label as usize) {
                    *images += 1;
                    parts.iter().for_each(|part| digest.update(part));
                }
            }
        }
        let classes = classes.into_iter().map(|(images, digest)| (images, digest.finalize())).collect();
        Self { classes, order: order.finalize() }
    }

    /// Describes how the set differs from the one that a run started with; none if it is the same.
    pub fn changed_since(&self, before: &Self, classes: &[String]) -> Option<String> {
        let names = classes.iter().map(|class| format!("`{class}`")).chain(["no class".into()]);
        let pairs = names.zip(before.classes.iter().zip(&self.classes));
        let differing = pairs.filter(|(_, (before, now))| before != now).map(|(class, (before, now))| {
            if before.0 == now.0 {
                format!("{class} has {} images with other names", now.0)
            } else {
                format!("{class} had {} images and now has {}", before.0, now.0)
            }
        });
        let mut differing: Vec<String> = differing.collect();
        if differing.is_empty() {
            return (self != before).then(|| "the images are in another order".into());
        }
        let more = differing.len().saturating_sub(NAMED);
        differing.truncate(NAMED);
        let and = if more > 0 { format!(", and {more} more classes differ") } else { String::new() };
        Some(differing.join(", ") + &and)
    }
}
