//! Image files without labels.

use std::collections::HashSet;
use std::path::PathBuf;

use image::RgbImage;

use crate::data::decode::{DEFAULT_IMAGE_LIMIT, read_image_within};
use crate::data::source::Source;
use crate::data::source::skipped::Skipped;
use crate::data::source::walk::Walk;
use crate::error::DataError;

/// Image files in the order of a list. They have no labels; each counts as an image of the first
/// class.
#[derive(Debug)]
pub struct ImageFiles {
    paths: Vec<PathBuf>,
    classes: Vec<String>,
    skipped: Skipped,
}

impl ImageFiles {
    /// Collects the files of a list, whatever their names, and the image files in its folders, at
    /// any depth.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be read or has no image.
    pub fn new(list: &[PathBuf], classes: &[String]) -> Result<Self, DataError> {
        let (mut paths, mut skipped) = (Vec::new(), Skipped::default());
        for path in list {
            if !path.is_dir() {
                paths.push(path.clone());
                continue;
            }
            let mut walk = Walk::default();
            walk.enter(path, 0)?;
            skipped.merge(&walk.skipped);
            if walk.files.is_empty() {
                let left_out =
                    if skipped.is_empty() { String::new() } else { format!("; skipped {skipped}") };
                return Err(DataError::layout(path, format!("contains no image{left_out}")));
            }
            paths.extend(walk.files.into_iter().map(|(path, _)| path));
        }
        Ok(Self { paths, classes: classes.to_vec(), skipped })
    }

    /// Leaves out the images with these names.
    #[must_use]
    pub fn without(mut self, names: &HashSet<String>) -> Self {
        self.paths.retain(|path| !names.contains(&path.display().to_string()));
        self
    }
}

impl Source for ImageFiles {
    fn len(&self) -> usize {
        self.paths.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, _: usize) -> u32 {
        0
    }

    fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }

    fn name(&self, index: usize) -> String {
        self.paths[index].display().to_string()
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        read_image_within(&self.paths[index], DEFAULT_IMAGE_LIMIT)
    }
}
