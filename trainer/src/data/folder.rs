//! Image folders: `SPLIT/CLASS/IMAGE`, as torchvision's.

use std::path::{Path, PathBuf};

use image::{ImageDecoder, ImageReader, RgbImage};

use super::Source;
use crate::error::DataError;

/// Endings of the files that count as images, in lower case.
const ENDINGS: [&str; 5] = ["jpg", "jpeg", "png", "bmp", "webp"];
/// Memory that decoding one image may take: stops decompression bombs.
const MAX_DECODE_BYTES: u64 = 1 << 30;

/// Images in one folder a class.
#[derive(Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    files: Vec<(PathBuf, u32)>,
}

impl ImageFolder {
    /// Lists `dir/CLASS/**/IMAGE`; classes and files in the order of their names.
    ///
    /// # Errors
    /// When the folder is missing or cannot be read, holds no class folder, or a class has no image.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let classes = class_folders(dir)?;
        Self::with_classes(dir, classes)
    }

    /// As [`Self::open`], with the classes of another split, so that labels agree.
    ///
    /// # Errors
    /// As [`Self::open`]; also when a class has no folder here, or a folder is no class.
    pub fn open_like(dir: &Path, classes: &[String]) -> Result<Self, DataError> {
        let found = class_folders(dir)?;
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
        Self::with_classes(dir, found)
    }

    fn with_classes(dir: &Path, classes: Vec<String>) -> Result<Self, DataError> {
        let mut files = Vec::new();
        for (label, class) in classes.iter().enumerate() {
            let before = files.len();
            collect(&dir.join(class), label as u32, &mut files)?;
            if files.len() == before {
                let what = format!(
                    "class folder `{class}` has no image ({}); add some or remove it",
                    ENDINGS.join(", ")
                );
                return Err(layout(dir, what));
            }
        }
        Ok(Self { classes, files })
    }
}

fn layout(path: &Path, what: impl Into<String>) -> DataError {
    DataError::Layout { path: path.into(), what: what.into() }
}

/// Entries of a folder, in the order of their names.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, DataError> {
    let read = std::fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.path())).collect());
    let mut paths: Vec<PathBuf> = read.map_err(|e| layout(dir, format!("cannot be read: {e}")))?;
    paths.sort();
    Ok(paths)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'))
}

fn class_folders(dir: &Path) -> Result<Vec<String>, DataError> {
    let expected = "expected one folder a class with its images: CLASS/IMAGE";
    if !dir.is_dir() {
        return Err(layout(dir, format!("no such folder; {expected}")));
    }
    let name = |p: &PathBuf| p.file_name().map(|n| n.to_string_lossy().into_owned());
    let folders = entries(dir)?.into_iter().filter(|p| p.is_dir() && !is_hidden(p));
    let classes: Vec<String> = folders.filter_map(|p| name(&p)).collect();
    if classes.is_empty() {
        return Err(layout(dir, format!("holds no class folder; {expected}")));
    }
    Ok(classes)
}

fn collect(dir: &Path, label: u32, files: &mut Vec<(PathBuf, u32)>) -> Result<(), DataError> {
    for path in entries(dir)? {
        let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
        if path.is_dir() {
            // A link to a folder could lead back up: only real folders are entered.
            if !path.is_symlink() {
                collect(&path, label, files)?;
            }
        } else if is_hidden(&path) {
            // Such as the `._` companions that some systems write beside every file.
        } else if ending.is_some_and(|e| ENDINGS.contains(&e.as_str())) {
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
        read_image(&self.files[index].0)
    }
}

/// Reads one image file as 8-bit RGB, turned upright as its EXIF orientation says.
///
/// # Errors
/// When the file cannot be read or decoded; the message names it.
pub fn read_image(path: &Path) -> Result<RgbImage, DataError> {
    let bytes = std::fs::read(path).map_err(|e| bad(&path.display(), &e))?;
    decode(&bytes, &path.display().to_string())
}

/// Decodes an image of any known format, by its content.
pub(crate) fn decode(bytes: &[u8], name: &str) -> Result<RgbImage, DataError> {
    let failed = |e: &dyn std::fmt::Display| bad(&name, e);
    let mut reader =
        ImageReader::new(std::io::Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(&e))?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| failed(&e))?;
    let orientation = decoder.orientation().map_err(|e| failed(&e))?;
    let mut image = image::DynamicImage::from_decoder(decoder).map_err(|e| failed(&e))?;
    image.apply_orientation(orientation);
    Ok(image.into_rgb8())
}

fn bad(name: &dyn std::fmt::Display, reason: &dyn std::fmt::Display) -> DataError {
    DataError::Image { name: name.to_string(), reason: reason.to_string() }
}
