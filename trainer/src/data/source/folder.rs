//! Image folders like torchvision's: `SPLIT/CLASS/IMAGE`.

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::data::decode::decode_reduced;
use crate::data::decode::reduced::Decoded;
use crate::data::decode::reduced::Divisor;
use crate::data::decode::{DEFAULT_IMAGE_LIMIT, decode, read_file};
use crate::data::source::Source;
use crate::data::source::class_names::{empty_classes, spelled};
use crate::data::source::list::{Listed, read_list};
use crate::data::source::runs::holds_run;
use crate::data::source::shard::classes::{ClassList, Label};
use crate::data::source::skipped::{SkipReason, Skipped};
use crate::data::source::walk::{Walk, entries, is_hidden};
use crate::error::DataError;
use crate::util::endings::ENDINGS;

/// Images with one folder per class.
#[derive(Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    files: Vec<(PathBuf, u32)>,
    /// All labels of each image, for a multi-label list.
    label_sets: Option<Vec<Box<[u32]>>>,
    skipped: Skipped,
    limit: u64,
}

impl ImageFolder {
    /// Lists `dir/CLASS/**/IMAGE`; classes and files are sorted by name.
    ///
    /// # Errors
    /// Returns an error if the folder is missing, cannot be read or has no class folder, or a class
    /// has no image.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        Self::open_without(dir, &[])
    }

    /// Skips the given folders of runs. If a class has no image, searches for further ones.
    fn open_without(dir: &Path, runs: &[PathBuf]) -> Result<Self, DataError> {
        let (mut folders, mut walk) = class_folders(dir)?;
        folders.retain(|(_, path)| !runs.contains(path));
        if folders.is_empty() {
            return Err(DataError::layout(
                dir,
                format!("contains no class folder, only runs; {CLASS_FOLDERS}"),
            ));
        }
        runs.iter().for_each(|path| walk.skip(SkipReason::Run, path));
        let paths: Vec<PathBuf> = folders.iter().map(|(_, path)| path.clone()).collect();
        let images = Self::with_folders((folders, walk))?;
        let empty = empty_classes(&images);
        let Some(first) = empty.first() else { return Ok(images) };
        let mut more = runs.to_vec();
        for (class, path) in images.classes.iter().zip(paths) {
            if empty.contains(class) && holds_run(&path)? {
                more.push(path);
            }
        }
        match more.len() > runs.len() {
            true => Self::open_without(dir, &more),
            false => Err(images.no_image(dir, &format!("class folder {} ", spelled(first)))),
        }
    }

    /// Lists `dir/**/IMAGE` as images of one class named `all`, for training without labels.
    ///
    /// # Errors
    /// Returns an error if the folder is missing, cannot be read, or has no image.
    pub fn unlabeled(dir: &Path) -> Result<Self, DataError> {
        let images = Self::with_folders((vec![("all".into(), dir.into())], Walk::default()))?;
        if images.is_empty() { Err(images.no_image(dir, "")) } else { Ok(images) }
    }

    /// Lists the images of a CSV file with rows `path,label`; with `classes`, labels are positions in
    /// that list.
    ///
    /// # Errors
    /// Returns an error that names the line if a row is not a path and a label, an image is missing,
    /// or a label is not among `classes`.
    pub fn listed(list: &Path, classes: Option<&[String]>) -> Result<Self, DataError> {
        Ok(Self::of_list(read_list(list, classes, false)?))
    }

    /// Lists the images of a CSV file like [`Self::listed`], each with any number of labels: `|` or
    /// `;` separates the labels of a row, and an empty label is an image of no class.
    ///
    /// # Errors
    /// Same as [`Self::listed`]; also if no image has a label and `classes` is none.
    pub fn listed_multi_label(list: &Path, classes: Option<&[String]>) -> Result<Self, DataError> {
        Ok(Self::of_list(read_list(list, classes, true)?))
    }

    fn of_list(listed: Listed) -> Self {
        let Listed { classes, files, label_sets } = listed;
        Self { classes, files, label_sets, skipped: Skipped::default(), limit: DEFAULT_IMAGE_LIMIT }
    }

    /// Like [`Self::open`], with the classes of another split, so that labels agree: classes are
    /// matched by name, and those without images here keep their position.
    ///
    /// # Errors
    /// Returns an error if the folder is missing, cannot be read or has no image, or a folder is
    /// not a class.
    pub fn open_like(dir: &Path, classes: &[String]) -> Result<Self, DataError> {
        let (mut folders, mut walk) = (Vec::new(), Walk::default());
        let (found, beside) = class_folders(dir)?;
        walk.skipped.merge(&beside.skipped);
        for (name, path) in found {
            match classes.contains(&name) || !holds_run(&path)? {
                true => folders.push((name, path)),
                false => walk.skip(SkipReason::Run, &path),
            }
        }
        let list = ClassList::new(classes, None);
        let position = |(name, _): &(String, PathBuf)| list.position(Label::Folder(name));
        let labels: Result<Vec<u32>, String> = folders.iter().map(position).collect();
        let labels = labels.map_err(|what| DataError::layout(dir, what))?;
        let mut images = Self::with_folders((folders, walk))?;
        if images.is_empty() {
            return Err(images.no_image(dir, ""));
        }
        images.files.iter_mut().for_each(|(_, label)| *label = labels[*label as usize]);
        images.classes = classes.to_vec();
        Ok(images)
    }

    /// Sets the largest memory for decoding an image, in bytes.
    #[must_use]
    pub fn with_limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Adds files outside the folder to those that are skipped.
    #[must_use]
    pub(crate) fn with_skipped(mut self, skipped: &Skipped) -> Self {
        self.skipped.merge(skipped);
        self
    }

    fn with_folders((folders, mut walk): (Vec<(String, PathBuf)>, Walk)) -> Result<Self, DataError> {
        for ((_, folder), label) in folders.iter().zip(0..) {
            walk.enter(folder, label)?;
        }
        let Walk { files, skipped } = walk;
        let classes = folders.into_iter().map(|(name, _)| name).collect();
        Ok(Self { classes, files, label_sets: None, skipped, limit: DEFAULT_IMAGE_LIMIT })
    }

    /// Returns the error for `dir`, or a part of it, without an image.
    fn no_image(&self, dir: &Path, part: &str) -> DataError {
        let left_out =
            if self.skipped.is_empty() { String::new() } else { format!("; skipped {}", self.skipped) };
        let endings = ENDINGS.join(", ");
        DataError::layout(dir, format!("{part}has no image ({endings}){left_out}; add some or remove it"))
    }
}

const CLASS_FOLDERS: &str = "expected one folder per class with its images: CLASS/IMAGE";

/// Finds the name and path of each class folder, sorted by name, and counts the files beside them.
fn class_folders(dir: &Path) -> Result<(Vec<(String, PathBuf)>, Walk), DataError> {
    if !dir.is_dir() {
        return Err(DataError::layout(dir, format!("no such folder; {CLASS_FOLDERS}")));
    }
    let (mut classes, mut walk): (Vec<(String, PathBuf)>, _) = (Vec::new(), Walk::default());
    for path in entries(dir)? {
        if is_hidden(&path) {
            walk.skip(SkipReason::Hidden, &path);
            continue;
        }
        if !path.is_dir() {
            walk.skip_outside(&path);
            continue;
        }
        refuse_loop(dir, &path)?;
        // A name that is not UTF-8 is shown with replacement characters; the folder is still found
        // by its path.
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if classes.iter().any(|(other, _)| *other == name) {
            return Err(DataError::layout(
                dir,
                format!("two class folders are named `{name}` in UTF-8; rename one of them"),
            ));
        }
        classes.push((name, path));
    }
    if classes.is_empty() {
        return Err(DataError::layout(dir, format!("contains no class folder; {CLASS_FOLDERS}")));
    }
    Ok((classes, walk))
}

/// Allows links to class folders, except to a parent folder, whose images would all be of that
/// class.
fn refuse_loop(dir: &Path, class: &Path) -> Result<(), DataError> {
    if !class.is_symlink() {
        return Ok(());
    }
    match (dir.canonicalize(), class.canonicalize()) {
        (Ok(dir), Ok(target)) if dir.starts_with(&target) => {
            Err(DataError::layout(class, "is a link to a folder that contains it; remove the link"))
        }
        _ => Ok(()),
    }
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

    fn label_set(&self, index: usize) -> Option<&[u32]> {
        self.label_sets.as_ref().map(|sets| &*sets[index])
    }

    fn skipped(&self) -> Skipped {
        self.skipped.clone()
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
