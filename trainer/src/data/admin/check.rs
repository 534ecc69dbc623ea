//! Checks a data set: decodes every image, counts classes and sizes, lists broken files.

use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;

use crate::data::source::class_names::unique_names;
use crate::data::source::skipped::Skipped;
use crate::data::source::{BadImage, Source, is_multi_label, labels_of};

/// Result of checking a data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Number of images that can be decoded.
    pub images: usize,
    /// Images of each class, broken ones included, in the order of labels.
    pub classes: Vec<ClassCount>,
    /// Images of a multi-label set that have no label, broken ones included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub without_label: Option<usize>,
    /// Widths of the images, in pixels.
    pub width: Range,
    /// Heights of the images, in pixels.
    pub height: Range,
    /// Images that cannot be read or decoded, in order.
    pub broken: Vec<BadImage>,
    /// Images in another format than their file extension says; they are decoded by their content.
    pub misnamed: Vec<String>,
    /// Files that are not images of the set, by reason.
    pub skipped: Skipped,
}

/// Number of images of a class.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClassCount {
    /// Name of the class.
    pub name: String,
    /// Number of its images.
    pub images: usize,
}

/// Smallest, median and largest of a list of numbers; all 0 if it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Range {
    /// Smallest number.
    pub min: u32,
    /// Median.
    pub median: u32,
    /// Largest number.
    pub max: u32,
}

impl Range {
    fn of(mut values: Vec<u32>) -> Self {
        values.sort_unstable();
        let at = |i: usize| values.get(i).copied().unwrap_or_default();
        Self { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}

/// Decodes every image of a set.
pub fn check(source: &dyn Source) -> Check {
    let mut counts = vec![0; source.classes().len()];
    let labels = (0..source.len()).flat_map(|i| labels_of(source, i));
    labels.for_each(|label| counts[label as usize] += 1);
    let none = |&i: &usize| source.label_set(i).is_some_and(<[u32]>::is_empty);
    let without_label = is_multi_label(source).then(|| (0..source.len()).filter(none).count());
    let seen: Vec<_> = (0..source.len())
        .into_par_iter()
        .map(|i| (source.load(i).map(|p| p.dimensions()), is_misnamed(source, i)))
        .collect();
    let (mut widths, mut heights, mut broken, mut misnamed) = (vec![], vec![], vec![], vec![]);
    for (index, (size, wrong_ending)) in seen.into_iter().enumerate() {
        match size {
            Ok((width, height)) => {
                widths.push(width);
                heights.push(height);
                if wrong_ending {
                    misnamed.push(source.name(index));
                }
            }
            Err(error) => broken.push(BadImage::of(source, index, &error)),
        }
    }
    let names = unique_names(source.classes()).into_iter();
    Check {
        images: widths.len(),
        classes: names.zip(counts).map(|(name, images)| ClassCount { name, images }).collect(),
        without_label,
        width: Range::of(widths),
        height: Range::of(heights),
        broken,
        misnamed,
        skipped: source.skipped(),
    }
}

fn is_misnamed(source: &dyn Source, index: usize) -> bool {
    let Ok(Some(bytes)) = source.encoded(index) else { return false };
    let name = source.name(index);
    let said = Path::new(&name).extension().and_then(image::ImageFormat::from_extension);
    let is = image::guess_format(&bytes).ok();
    said.is_some() && is.is_some() && said != is
}
