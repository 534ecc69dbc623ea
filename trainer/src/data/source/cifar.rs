//! Binary versions of CIFAR-10 and CIFAR-100.

use std::path::{Path, PathBuf};

use image::RgbImage;

use crate::data::source::Source;
use crate::data::source::shard::classes::{ClassList, Label};
use crate::data::source::skipped::Skipped;
use crate::data::source::synthetic::Split;
use crate::error::DataError;
use crate::util::regular::read_regular;

const EDGE: usize = 32;
const PIXELS: usize = EDGE * EDGE;
const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// Images of CIFAR (32x32 pixels), held in memory as stored: at most 154 MB.
#[derive(Debug)]
pub struct Cifar {
    classes: Vec<String>,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// File of each image and the image's number in it.
    locations: Vec<(u32, u32)>,
    /// Bytes of labels before the pixels: one for CIFAR-10; coarse and fine for CIFAR-100.
    labels: usize,
    /// Positions of the file's classes in `classes`, if that is another list.
    positions: Option<Vec<u32>>,
    /// Other files in the folder, which are skipped.
    skipped: Skipped,
}

impl Cifar {
    /// Opens binary batches: `train.bin` and `test.bin` belong to CIFAR-100 (fine labels), all
    /// others to CIFAR-10. Names of classes come from the `.txt` file of the download, if it is in
    /// the same folder.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, is not a whole number of images, or has an
    /// invalid label.
    pub fn open(paths: &[PathBuf]) -> Result<Self, DataError> {
        let hundred =
            |p: &PathBuf| p.file_name().is_some_and(|name| name == "train.bin" || name == "test.bin");
        let labels = if paths.iter().any(hundred) { 2 } else { 1 };
        let classes = class_names(paths, labels)?;
        let (files, locations) = (Vec::new(), Vec::new());
        let mut set =
            Self { classes, files, locations, labels, positions: None, skipped: Skipped::default() };
        for path in paths {
            set.add(path)?;
        }
        set.check_lengths()?;
        Ok(set)
    }

    /// Like [`Self::open`], with the classes of another split or a model, which are matched by
    /// name.
    ///
    /// # Errors
    /// Same as [`Self::open`]; also if a class is not among them.
    pub(crate) fn open_like(paths: &[PathBuf], classes: Option<&[String]>) -> Result<Self, DataError> {
        let mut set = Self::open(paths)?;
        let Some(classes) = classes.filter(|classes| **classes != set.classes) else { return Ok(set) };
        let list = ClassList::new(classes, None);
        let position = |name: &String| list.position(Label::Folder(name));
        let positions: Result<Vec<u32>, String> = set.classes.iter().map(position).collect();
        set.positions = Some(positions.map_err(|what| DataError::layout(&set.files[0].0, what))?);
        set.classes = classes.to_vec();
        Ok(set)
    }

    /// Adds other files in the folder to those that are skipped.
    #[must_use]
    pub(crate) fn with_skipped(mut self, skipped: Skipped) -> Self {
        self.skipped = skipped;
        self
    }

    /// Checks that no file except the last is shorter than others: the batches of the download have
    /// equal sizes.
    fn check_lengths(&self) -> Result<(), DataError> {
        let images = |file: &(PathBuf, Vec<u8>)| file.1.len() / self.record_len();
        let most = self.files.iter().map(images).max().unwrap_or(0);
        let others = self.files.len().saturating_sub(1);
        match self.files[..others].iter().find(|file| images(file) < most) {
            Some(file) => Err(DataError::layout(
                &file.0,
                format!(
                    "{} images, another batch has {most}; the file is cut off: download it again",
                    images(file)
                ),
            )),
            None => Ok(()),
        }
    }

    fn add(&mut self, path: &Path) -> Result<(), DataError> {
        let bytes = read_regular(path).map_err(DataError::io(path))?;
        let record = self.record_len();
        if bytes.is_empty() || bytes.len() % record != 0 {
            let what = format!(
                "{} bytes are not a whole number of images of {record} bytes; the file is cut off or of another \
                 kind: download it again (the binary version, unpacked)",
                bytes.len()
            );
            return Err(DataError::layout(path, what));
        }
        for (image, number) in bytes.chunks_exact(record).zip(0..) {
            let label = image[self.labels - 1];
            if usize::from(label) >= self.classes.len() {
                let what =
                    format!("image {number} has label {label}, expected 0 to {}", self.classes.len() - 1);
                return Err(DataError::layout(path, what));
            }
            self.locations.push((self.files.len() as u32, number));
        }
        self.files.push((path.into(), bytes));
        Ok(())
    }

    fn record_len(&self) -> usize {
        self.labels + 3 * PIXELS
    }

    fn record_at(&self, index: usize) -> &[u8] {
        let (file, number) = self.locations[index];
        &self.files[file as usize].1[number as usize * self.record_len()..][..self.record_len()]
    }
}

/// Returns the names of the classes: those in the `.txt` file beside the first file, if there is
/// one.
fn class_names(paths: &[PathBuf], labels: usize) -> Result<Vec<String>, DataError> {
    let (file, count) = if labels == 2 { ("fine_label_names.txt", 100) } else { ("batches.meta.txt", 10) };
    let beside = paths.first().map(|p| p.with_file_name(file)).filter(|path| path.exists());
    let Some(path) = beside else {
        let numbers = (0..count).map(|n| n.to_string()).collect();
        return Ok(if labels == 1 { CIFAR10.map(String::from).to_vec() } else { numbers });
    };
    let text = String::from_utf8_lossy(&read_regular(&path).map_err(DataError::io(&path))?).into_owned();
    let listed: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    match listed.len() == count {
        true => Ok(listed),
        false => Err(DataError::layout(
            &path,
            format!("lists {} classes, expected {count}; download it again", listed.len()),
        )),
    }
}

/// Returns true if the download contains a file of this name.
pub(crate) fn is_of_cifar(name: &str) -> bool {
    let batch = name.strip_prefix("data_batch_").and_then(|rest| rest.strip_suffix(".bin"));
    batch.is_some_and(|number| matches!(number, "1" | "2" | "3" | "4" | "5"))
        || matches!(name, "test_batch.bin" | "train.bin" | "test.bin" | "batches.meta.txt" | "readme.html")
        || matches!(name, "fine_label_names.txt" | "coarse_label_names.txt")
}

/// Finds the files of one split in `dir`, or in the unpacked folder of the download inside it.
///
/// # Errors
/// Returns an error if some batches are missing.
pub(crate) fn cifar_files(dir: &Path, split: Split) -> Result<Option<Vec<PathBuf>>, DataError> {
    for folder in ["", "cifar-10-batches-bin", "cifar-100-binary"].map(|f| dir.join(f)) {
        let (ten, hundred) = match split {
            Split::Train => ((1..=5).map(|n| format!("data_batch_{n}.bin")).collect(), "train.bin"),
            Split::Val => (vec!["test_batch.bin".to_string()], "test.bin"),
        };
        for names in [ten, vec![hundred.to_string()]] {
            let (there, missing): (Vec<String>, Vec<String>) =
                names.into_iter().partition(|name| folder.join(name).is_file());
            match (there.is_empty(), missing.first()) {
                (true, _) => {}
                (false, None) => return Ok(Some(there.iter().map(|name| folder.join(name)).collect())),
                (false, Some(_)) => {
                    let what =
                        format!("of CIFAR-10's batches {} is missing; download it again", missing.join(", "));
                    return Err(DataError::layout(&folder, what));
                }
            }
        }
    }
    Ok(None)
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.locations.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        let label = self.record_at(index)[self.labels - 1];
        self.positions.as_ref().map_or(u32::from(label), |positions| positions[usize::from(label)])
    }

    fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }

    fn name(&self, index: usize) -> String {
        let (file, number) = self.locations[index];
        // The name is part of the digest that checkpoints store, so it never changes.
        format!("{}: picture {number}", self.files[file as usize].0.display())
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let planes = &self.record_at(index)[self.labels..];
        Ok(RgbImage::from_fn(EDGE as u32, EDGE as u32, |x, y| {
            let at = y as usize * EDGE + x as usize;
            image::Rgb([planes[at], planes[PIXELS + at], planes[2 * PIXELS + at]])
        }))
    }
}
