//! Searches folders for image files.

use std::path::{Path, PathBuf};

use crate::data::source::hidden::is_hidden_name;
use crate::data::source::skipped::{SkipReason, Skipped};
use crate::error::DataError;
use crate::util::endings::{ending, has_image_ending};
use crate::util::regular::is_special;

/// Image files found, and files skipped.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    /// Paths with the label of each folder.
    pub(crate) files: Vec<(PathBuf, u32)>,
    pub(crate) skipped: Skipped,
}

impl Walk {
    /// Finds the images in `dir`, at any depth.
    ///
    /// # Errors
    /// Returns an error if a folder cannot be read.
    pub(crate) fn enter(&mut self, dir: &Path, label: u32) -> Result<(), DataError> {
        for path in entries(dir)? {
            if is_hidden(&path) {
                self.skip(SkipReason::Hidden, &path);
            } else if !path.is_dir() {
                self.take(path, label);
            } else if path.is_symlink() {
                // Enters only real folders, since a link could lead back up.
                self.skip(SkipReason::LinkedFolder, &path);
            } else {
                self.enter(&path, label)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, path: PathBuf, label: u32) {
        let name = path.to_string_lossy();
        if !has_image_ending(ending(&name)) {
            self.skipped.add_ending(&name);
        } else if is_special(&path) {
            self.skip(SkipReason::NotRegular, &path);
        } else {
            self.files.push((path, label));
        }
    }

    /// Counts a file or folder that is skipped.
    pub(crate) fn skip(&mut self, reason: SkipReason, path: &Path) {
        self.skipped.add(reason, &path.to_string_lossy());
    }

    /// Counts a file outside the class folders.
    pub(crate) fn skip_outside(&mut self, path: &Path) {
        let name = path.to_string_lossy();
        match has_image_ending(ending(&name)) {
            true => self.skip(SkipReason::OutsideClass, path),
            false => self.skipped.add_ending(&name),
        }
    }
}

/// Returns the entries of a folder, sorted by name.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = std::fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.path())).collect());
    let mut paths: Vec<PathBuf> = read.map_err(|e| DataError::layout(dir, format!("cannot be read: {e}")))?;
    paths.sort();
    Ok(paths)
}

/// Returns true if a path ends in a hidden file or folder, or one created by an operating system.
pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| is_hidden_name(&name.to_string_lossy()))
}
