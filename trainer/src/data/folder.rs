//! Image folders: `SPLIT/CLASS/IMAGE`, as torchvision's.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::decode::{DEFAULT_IMAGE_LIMIT, ENDINGS, decode, has_image_ending, read_file};
use super::runs::holds_run;
use super::{Decoded, Divisor, Source, decode_reduced};
use crate::error::DataError;

/// Images in one folder a class.
#[derive(Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    files: Vec<(PathBuf, u32)>,
    limit: u64,
}

impl ImageFolder {
    /// Lists `dir/CLASS/**/IMAGE`; classes and files in the order of their names.
    ///
    /// # Errors
    /// When the folder is missing or cannot be read, holds no class folder, or a class has no image.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        Self::with_folders(dir, class_folders(dir)?)
    }

    /// Lists `dir/**/IMAGE`, all of one class that is called `all`: for training that does not look at labels.
    ///
    /// # Errors
    /// When the folder is missing or cannot be read, or has no image.
    pub fn unlabelled(dir: &Path) -> Result<Self, DataError> {
        Self::with_folders(dir, vec![("all".into(), dir.into())])
    }

    /// As [`Self::open`], with the classes of another split, so that labels agree.
    ///
    /// # Errors
    /// As [`Self::open`]; also when a class has no folder here, or a folder is no class.
    pub fn open_like(dir: &Path, classes: &[String]) -> Result<Self, DataError> {
        let mut folders = Vec::new();
        for (name, path) in class_folders(dir)? {
            if classes.contains(&name) || !holds_run(&path)? {
                folders.push((name, path));
            }
        }
        let found: Vec<String> = folders.iter().map(|(name, _)| name.clone()).collect();
        let differs = |a: &[String], b: &[String]| a.iter().find(|c| !b.contains(c)).cloned();
        if let Some(extra) = differs(&found, classes) {
            return Err(layout(
                dir,
                format!(
                    "class folder `{extra}` is not among the training classes; both splits need the same class folders"
                ),
            ));
        }
        if let Some(missing) = differs(classes, &found) {
            return Err(layout(
                dir,
                format!("no folder for class `{missing}`; both splits need the same class folders"),
            ));
        }
        let mut files = Self::with_folders(dir, folders)?;
        files.relabel(classes);
        Ok(files)
    }

    /// The same images, each of which may take at most `limit` bytes when decoded.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    fn with_folders(dir: &Path, folders: Vec<(String, PathBuf)>) -> Result<Self, DataError> {
        let (mut classes, mut files) = (Vec::new(), Vec::new());
        for (class, folder) in folders {
            let before = files.len();
            collect(&folder, classes.len() as u32, &mut files)?;
            if files.len() == before {
                if folder != dir && holds_run(&folder)? {
                    continue;
                }
                let endings = ENDINGS.join(", ");
                let what = match folder == dir {
                    true => format!("has no image ({endings})"),
                    false => {
                        format!("class folder `{class}` has no image ({endings}); add some or remove it")
                    }
                };
                return Err(layout(dir, what));
            }
            classes.push(class);
        }
        if classes.is_empty() {
            return Err(layout(dir, format!("holds no class folder, only runs; {CLASS_FOLDERS}")));
        }
        Ok(Self { classes, files, limit: DEFAULT_IMAGE_LIMIT })
    }

    /// Another order of the same classes: that of a set whose classes are not sorted.
    fn relabel(&mut self, classes: &[String]) {
        let places: Vec<u32> = (self.classes.iter())
            .map(|c| classes.iter().position(|other| other == c).unwrap_or_default() as u32)
            .collect();
        self.files.iter_mut().for_each(|(_, label)| *label = places[*label as usize]);
        self.classes = classes.to_vec();
    }
}

pub(crate) fn layout(path: &Path, what: impl Into<String>) -> DataError {
    DataError::Layout { path: path.into(), what: what.into() }
}

/// Entries of a folder, in the order of their names.
pub(crate) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = std::fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.path())).collect());
    let mut paths: Vec<PathBuf> = read.map_err(|e| layout(dir, format!("cannot be read: {e}")))?;
    paths.sort();
    Ok(paths)
}

pub(crate) fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

const CLASS_FOLDERS: &str = "expected one folder a class with its images: CLASS/IMAGE";

/// Name and path of each class folder, in the order of their names.
fn class_folders(dir: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    if !dir.is_dir() {
        return Err(layout(dir, format!("no such folder; {CLASS_FOLDERS}")));
    }
    let mut classes: Vec<(String, PathBuf)> = Vec::new();
    for path in entries(dir)?.into_iter().filter(|p| p.is_dir() && !is_hidden(p)) {
        refuse_loop(dir, &path)?;
        // A name that is not UTF-8 is shown with stand-ins; the folder is still found by its path.
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if classes.iter().any(|(other, _)| *other == name) {
            return Err(layout(dir, format!("two class folders read `{name}` in UTF-8; rename one of them")));
        }
        classes.push((name, path));
    }
    if classes.is_empty() {
        return Err(layout(dir, format!("holds no class folder; {CLASS_FOLDERS}")));
    }
    Ok(classes)
}

/// A class folder may be a link, but not one to a folder that holds it: all images would be of that class, too.
fn refuse_loop(dir: &Path, class: &Path) -> Result<(), DataError> {
    if !class.is_symlink() {
        return Ok(());
    }
    match (dir.canonicalize(), class.canonicalize()) {
        (Ok(dir), Ok(target)) if dir.starts_with(&target) => {
            Err(layout(class, "is a link to a folder that holds it; remove the link"))
        }
        _ => Ok(()),
    }
}

pub(super) fn collect(dir: &Path, label: u32, files: &mut Vec<(PathBuf, u32)>) -> Result<(), DataError> {
    for path in entries(dir)? {
        let ending = path.extension().map(|e| e.to_string_lossy().into_owned());
        if path.is_dir() {
            // A link to a folder could lead back up: only real folders are entered.
            if !path.is_symlink() {
                collect(&path, label, files)?;
            }
        } else if is_hidden(&path) {
            // Such as the `._` companions that some systems write beside every file.
        } else if ending.is_some_and(|e| has_image_ending(&e)) {
            files.push((path, label));
        }
    }
    Ok(())
}

impl Source for ImageFolder {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.files[index].1
    }

    fn name(&self, index: usize) -> String {
        self.files[index].0.display().to_string()
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        decode(&read_file(&self.files[index].0)?, &self.name(index), self.limit)
    }

    fn load_reduced(&self, index: usize, divisor: Divisor) -> Result<Decoded, DataError> {
        decode_reduced(&read_file(&self.files[index].0)?, &self.name(index), self.limit, divisor)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        read_file(&self.files[index].0).map(Some)
    }
}
