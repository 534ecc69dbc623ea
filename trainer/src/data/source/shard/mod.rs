//! Images in tar files, read without unpacking them.
//!
//! Two layouts: WebDataset (`000123.jpg` with `000123.cls` or `000123.json` beside it), and folders
//! in a tar file (`CLASS/.../IMAGE`). A shard has one of them; the shards of a set may differ.

pub(crate) mod classes;
pub(crate) mod folders;
pub(crate) mod format;
pub(crate) mod index;
pub(crate) mod label;
pub(crate) mod listed;
pub(crate) mod part;
pub(crate) mod read;
pub(crate) mod scan;
pub(crate) mod shard_image;

use std::path::{Path, PathBuf};

use image::RgbImage;
use rayon::prelude::*;

use crate::data::source::shard::index::ShardIndex;
use crate::data::source::shard::shard_image::ShardImage;

use crate::data::decode::decode_reduced;
use crate::data::decode::reduced::Decoded;
use crate::data::decode::reduced::Divisor;
use crate::data::decode::{bad, decode};
use crate::data::source::Source;
use crate::data::source::shard::classes::{ClassList, Ungathered, gathered};
use crate::data::source::shard::folders::ClassFolders;
use crate::data::source::shard::read::InPlace;
use crate::data::source::skipped::{SkipReason, Skipped};
use crate::error::DataError;
use crate::util::printable::printable;

/// Largest number of files to keep open: more could exceed the handles of a process.
pub(crate) const MAX_OPEN: usize = 400;

/// Images of one or more tar shards.
#[derive(Debug)]
pub struct TarShards {
    classes: Vec<String>,
    shards: Vec<InPlace>,
    images: Vec<ImageLocation>,
    skipped: Skipped,
    limit: u64,
}

/// Position and label of an image.
#[derive(Debug)]
struct ImageLocation {
    shard: u32,
    label: u32,
    offset: u64,
    length: u64,
    name: String,
}

impl TarShards {
    /// Opens shards; images are in the order of shards and entries. With `classes`, labels are
    /// names or positions in that list; otherwise the list is made from all labels. An image may
    /// take at most `limit` bytes to decode.
    ///
    /// # Errors
    /// Returns an error if a shard cannot be read, is cut off or has no image, or a label is not
    /// among the classes.
    pub fn open(paths: &[PathBuf], classes: Option<Vec<String>>, limit: u64) -> Result<Self, DataError> {
        Self::open_as(paths, classes, None, limit)
    }

    /// Like [`Self::open`]. `listed` are the classes that the set itself lists; numbers are
    /// positions in them.
    pub(crate) fn open_as(
        paths: &[PathBuf],
        classes: Option<Vec<String>>,
        listed: Option<Vec<String>>,
        limit: u64,
    ) -> Result<Self, DataError> {
        let indexes: Vec<ShardIndex> =
            paths.par_iter().map(|path| ShardIndex::open(path)).collect::<Result<_, _>>()?;
        let first = paths.first().map_or(Path::new(""), PathBuf::as_path);
        let known = classes.or_else(|| listed.clone());
        let folders =
            class_folders(&indexes, known.as_deref()).map_err(|what| DataError::layout(first, what))?;
        let classes = match known {
            Some(classes) => classes,
            None => gathered_classes(&indexes, paths, folders)?,
        };
        let keep = paths.len() <= MAX_OPEN;
        let open = |path: &PathBuf| InPlace::open(path, keep).map_err(DataError::io(path));
        let shards = paths.iter().map(open).collect::<Result<_, _>>()?;
        let list = ClassList::new(&classes, listed.as_deref());
        let (mut images, mut skipped) = (Vec::new(), Skipped::default());
        for ((index, path), shard) in indexes.into_iter().zip(paths).zip(0..) {
            skipped.merge(&index.skipped);
            for image in index.images {
                match folders.position(&image, &list).map_err(|what| DataError::layout(path, what))? {
                    Some(label) => {
                        let ShardImage { name, offset, length, .. } = image;
                        images.push(ImageLocation { shard, label, offset, length, name });
                    }
                    None => skipped.add(SkipReason::OutsideClass, &image.name),
                }
            }
        }
        if images.is_empty() {
            let what = "the shards contain no image; expected NAME.jpg with NAME.cls, or CLASS/IMAGE";
            let skipped = if skipped.is_empty() { String::new() } else { format!("; skipped {skipped}") };
            return Err(DataError::layout(first, format!("{what}{skipped}")));
        }
        Ok(Self { classes, shards, images, skipped, limit })
    }

    /// Adds other files in the folder to those that are skipped.
    #[must_use]
    pub(crate) fn with_skipped(mut self, skipped: &Skipped) -> Self {
        self.skipped.merge(skipped);
        self
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let image = &self.images[index];
        let read = self.shards[image.shard as usize].read(image.offset, image.length);
        read.map_err(|e| bad(&self.name(index), &e))
    }
}

/// Finds the class folders of all images without a label of their own.
fn class_folders(indexes: &[ShardIndex], known: Option<&[String]>) -> Result<ClassFolders, String> {
    let images = indexes.iter().flat_map(|index| &index.images);
    let names: Vec<&str> = images.filter(|image| image.label.is_none()).map(|i| i.name.as_str()).collect();
    let known = known.map(|names| ClassList::new(names, None));
    ClassFolders::find(&names, known.as_ref())
}

/// Makes the list of classes from the labels of all images.
fn gathered_classes(
    indexes: &[ShardIndex],
    paths: &[PathBuf],
    folders: ClassFolders,
) -> Result<Vec<String>, DataError> {
    let labels = indexes.iter().flat_map(|index| &index.images).filter_map(|image| folders.label(image));
    gathered(labels).map_err(|Ungathered { at, what }| {
        let images =
            indexes.iter().zip(paths).flat_map(|(index, path)| index.images.iter().map(move |i| (i, path)));
        let (name, path) = images
            .filter(|(image, _)| folders.label(image).is_some())
            .nth(at)
            .map_or((String::new(), Path::new("")), |(image, path)| (printable(&image.name), path));
        DataError::layout(path, format!("image `{name}`: {what}"))
    })
}

impl Source for TarShards {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.images[index].label
    }

    fn skipped(&self) -> Skipped {
        self.skipped.clone()
    }

    fn name(&self, index: usize) -> String {
        let image = &self.images[index];
        format!("{}: {}", self.shards[image.shard as usize].path.display(), image.name)
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        decode(&self.bytes(index)?, &self.name(index), self.limit)
    }

    fn load_reduced(&self, index: usize, divisor: Divisor) -> Result<Decoded, DataError> {
        decode_reduced(&self.bytes(index)?, &self.name(index), self.limit, divisor)
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        self.bytes(index).map(Some)
    }
}
