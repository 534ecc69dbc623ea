//! What a training set consists of, in a few bytes a class.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::data::source::Source;

/// Classes that are named at most.
const NAMED: usize = 3;

/// The names and labels of a set's images, digested: enough to tell whether a run goes on with the images it began with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataDigest {
    /// Number of images of each class, and the CRC-32 of their names.
    classes: Vec<(u64, u32)>,
    /// CRC-32 of all names and labels, in order.
    order: u32,
}

impl DataDigest {
    /// Digests a set; names count from `root` on, so that the whole may be moved.
    pub fn of(source: &dyn Source, root: Option<&Path>) -> Self {
        let root = root.map(|root| root.display().to_string()).unwrap_or_default();
        let mut classes = vec![(0, crc32fast::Hasher::new()); source.classes().len()];
        let mut order = crc32fast::Hasher::new();
        for index in 0..source.len() {
            let (name, label) = (source.name(index), source.label(index));
            let name = name.strip_prefix(&root).unwrap_or(&name).trim_start_matches(['/', '\\']);
            // The end of a name is told from the beginning of the next.
            let parts = [name.as_bytes(), b"\0"];
            order.update(&label.to_le_bytes());
            parts.iter().for_each(|part| order.update(part));
            if let Some((images, digest)) = classes.get_mut(label as usize) {
                *images += 1;
                parts.iter().for_each(|part| digest.update(part));
            }
        }
        let classes = classes.into_iter().map(|(images, digest)| (images, digest.finalize())).collect();
        Self { classes, order: order.finalize() }
    }

    /// Says what differs from the set that a run began with; none where it is the same.
    pub fn changed_since(&self, before: &Self, classes: &[String]) -> Option<String> {
        let pairs = classes.iter().zip(before.classes.iter().zip(&self.classes));
        let differing = pairs.filter(|(_, (before, now))| before != now).map(|(class, (before, now))| {
            if before.0 == now.0 {
                format!("`{class}` has {} images with other names", now.0)
            } else {
                format!("`{class}` had {} images and now has {}", before.0, now.0)
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
