//! Images in tar files, read where they lie.
//!
//! Two layouts, which may be mixed: WebDataset (`000123.jpg` with `000123.cls` or `000123.json` beside it), and folders in
//! a tar file (`CLASS/IMAGE`).

mod classes;
mod index;
mod read;
mod scan;

use std::collections::HashMap;
use std::path::PathBuf;

use image::RgbImage;
use rayon::prelude::*;

pub(crate) use classes::{gathered, listed, place, unknown};
pub use index::{ShardImage, ShardIndex, ShardLabel};

use super::decode::{bad, decode};
use super::folder::layout;
use super::{Decoded, Divisor, Source, decode_reduced};
use crate::error::DataError;
pub(crate) use read::InPlace;

/// More open files than this could take more handles than a process has.
pub(crate) const MAX_OPEN: usize = 400;

/// Images of one or more tar shards.
#[derive(Debug)]
pub struct TarShards {
    classes: Vec<String>,
    shards: Vec<InPlace>,
    images: Vec<Place>,
    limit: u64,
}

/// Where an image is, and its label.
#[derive(Debug)]
struct Place {
    shard: u32,
    label: u32,
    offset: u64,
    length: u64,
    name: String,
}

impl TarShards {
    /// Opens shards; images in the order of shards and of entries. With `classes`, labels are places in that list, or
    /// names of it; otherwise the list is made from all labels. An image may take at most `limit` bytes when decoded.
    ///
    /// # Errors
    /// When a shard cannot be read, is cut off or has no image, or a label is not among the classes.
    pub fn open(paths: &[PathBuf], classes: Option<Vec<String>>, limit: u64) -> Result<Self, DataError> {
        let indexes: Vec<ShardIndex> =
            paths.par_iter().map(|path| ShardIndex::open(path)).collect::<Result<_, _>>()?;
        let first = paths.first().cloned().unwrap_or_default();
        let labels = || indexes.iter().flat_map(|i| i.images.iter().map(|m| &m.label));
        let classes = match classes {
            Some(classes) => classes,
            None => gathered(labels()).map_err(|what| layout(&first, what))?,
        };
        let numbers: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let mut images = Vec::new();
        for ((index, path), shard) in indexes.into_iter().zip(paths).zip(0..) {
            for image in index.images {
                let label = place(&image.label, &numbers, classes.len()).ok_or_else(|| {
                    layout(path, unknown(&format!("image `{}`", image.name), &image.label, classes.len()))
                })?;
                let ShardImage { name, offset, length, .. } = image;
                images.push(Place { shard, label, offset, length, name });
            }
        }
        if images.is_empty() {
            return Err(layout(
                &first,
                "the shards hold no image; expected NAME.jpg with NAME.cls, or CLASS/IMAGE",
            ));
        }
        let keep = paths.len() <= MAX_OPEN;
        let open = |path: &PathBuf| InPlace::open(path, keep).map_err(DataError::io(path));
        let shards = paths.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { classes, shards, images, limit })
    }

    fn bytes(&self, index: usize) -> Result<Vec<u8>, DataError> {
        let image = &self.images[index];
        let read = self.shards[image.shard as usize].read(image.offset, image.length);
        read.map_err(|e| bad(&self.name(index), &e))
    }
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
