//! The binary versions of CIFAR-10 and CIFAR-100.

use std::path::{Path, PathBuf};

use image::RgbImage;

use super::Source;
use super::folder::layout;
use crate::error::DataError;

const EDGE: usize = 32;
const PIXELS: usize = EDGE * EDGE;
const CIFAR10: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

/// 32x32 pictures of CIFAR, held in memory as they are stored: at most 154 MB.
#[derive(Debug)]
pub struct Cifar {
    classes: Vec<String>,
    files: Vec<(PathBuf, Vec<u8>)>,
    /// File and number of each picture in it.
    places: Vec<(u32, u32)>,
    /// Bytes of labels before the pixels: one for CIFAR-10; coarse and fine for CIFAR-100.
    labels: usize,
}

impl Cifar {
    /// Opens binary batches: `train.bin` and `test.bin` are CIFAR-100's (fine labels), all others CIFAR-10's. Names
    /// of classes come from the `.txt` file that is beside them in the download, where it is there.
    ///
    /// # Errors
    /// When a file cannot be read, is not a whole number of pictures, or has a label that is no class.
    pub fn open(paths: &[PathBuf]) -> Result<Self, DataError> {
        let hundred =
            |p: &PathBuf| p.file_name().is_some_and(|name| name == "train.bin" || name == "test.bin");
        let labels = if paths.iter().any(hundred) { 2 } else { 1 };
        let mut set =
            Self { classes: class_names(paths, labels), files: Vec::new(), places: Vec::new(), labels };
        for path in paths {
            set.add(path)?;
        }
        Ok(set)
    }

    fn add(&mut self, path: &Path) -> Result<(), DataError> {
        let bytes = std::fs::read(path).map_err(DataError::io(path))?;
        let record = self.record();
        if bytes.is_empty() || bytes.len() % record != 0 {
            let what = format!(
                "{} bytes are not a whole number of pictures of {record} bytes; the file is cut off or of another \
                 kind: load it again (the binary version, unpacked)",
                bytes.len()
            );
            return Err(layout(path, what));
        }
        for (picture, number) in bytes.chunks_exact(record).zip(0..) {
            let label = picture[self.labels - 1];
            if usize::from(label) >= self.classes.len() {
                let what =
                    format!("picture {number} has label {label}, expected 0 to {}", self.classes.len() - 1);
                return Err(layout(path, what));
            }
            self.places.push((self.files.len() as u32, number));
        }
        self.files.push((path.into(), bytes));
        Ok(())
    }

    fn record(&self) -> usize {
        self.labels + 3 * PIXELS
    }

    fn picture(&self, index: usize) -> &[u8] {
        let (file, number) = self.places[index];
        &self.files[file as usize].1[number as usize * self.record()..][..self.record()]
    }
}

fn class_names(paths: &[PathBuf], labels: usize) -> Vec<String> {
    let (file, count) = if labels == 2 { ("fine_label_names.txt", 100) } else { ("batches.meta.txt", 10) };
    let beside = paths.first().map(|p| p.with_file_name(file));
    let text = beside.and_then(|p| std::fs::read_to_string(p).ok()).unwrap_or_default();
    let listed: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if listed.len() == count {
        listed
    } else if labels == 1 {
        CIFAR10.map(String::from).to_vec()
    } else {
        (0..count).map(|n| n.to_string()).collect()
    }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.places.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.picture(index)[self.labels - 1])
    }

    fn name(&self, index: usize) -> String {
        let (file, number) = self.places[index];
        format!("{}: picture {number}", self.files[file as usize].0.display())
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        let planes = &self.picture(index)[self.labels..];
        Ok(RgbImage::from_fn(EDGE as u32, EDGE as u32, |x, y| {
            let at = y as usize * EDGE + x as usize;
            image::Rgb([planes[at], planes[PIXELS + at], planes[2 * PIXELS + at]])
        }))
    }
}
