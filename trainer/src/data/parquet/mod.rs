//! Images in Parquet files, as Hugging Face keeps them: a column with the bytes of image files, and one of labels.
//!
//! Opening a file walks the headers of its pages once. An image is read by reading and unpacking the page it is in, and the
//! dictionary of its column if there is one; a few pages are kept, so that reading in order unpacks each once.

mod cache;
mod chunk;
mod columns;
mod file;
mod page;
mod thrift;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::data_type::ByteArrayType;
use ::parquet::schema::types::ColumnDescPtr;
use image::RgbImage;
use rayon::prelude::*;

use super::Source;
use super::decode::{Decoded, bad, decode};
use super::folder::layout;
use super::shard::{InPlace, MAX_OPEN, ShardLabel, gathered, place, unknown};
use super::{Divisor, decode_reduced};
use crate::error::DataError;
use cache::{Cache, Images};
use chunk::Chunk;
use file::Opened;

/// Images of one or more Parquet files.
#[derive(Debug)]
pub struct ParquetFiles {
    classes: Vec<String>,
    files: Vec<Pages>,
    labels: Vec<u32>,
    places: Vec<Place>,
    cache: Cache,
    limit: u64,
}

/// A file and where its images are.
#[derive(Debug)]
struct Pages {
    file: InPlace,
    image: ColumnDescPtr,
    chunks: Vec<Chunk>,
    /// Number of its first image among those of all files.
    first: usize,
}

/// Where a page is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Number of its first image.
    first: usize,
    file: usize,
    chunk: usize,
    page: usize,
}

impl ParquetFiles {
    /// Opens files; images in the order of files and rows. With `classes`, labels are names of that list or places in it;
    /// otherwise the list is that of the files, or made from all labels. An image may take at most `limit` bytes when
    /// decoded.
    ///
    /// # Errors
    /// When a file cannot be read or is damaged, has no column of images or of labels, or no row, a row has no label, or a
    /// label is not among the classes.
    pub fn open(paths: &[PathBuf], classes: Option<Vec<String>>, limit: u64) -> Result<Self, DataError> {
        let mut opened: Vec<Opened> =
            paths.par_iter().map(|path| Opened::open(path)).collect::<Result<_, _>>()?;
        let classes = match classes {
            Some(classes) => classes,
            None => class_list(&opened, paths)?,
        };
        let mut labels = Vec::new();
        for (file, path) in opened.iter_mut().zip(paths) {
            let (found, names) = (std::mem::take(&mut file.labels), file.names.take());
            numbers(&mut labels, found, names, &classes).map_err(|what| layout(path, what))?;
        }
        if labels.is_empty() {
            let first = paths.first().cloned().unwrap_or_default();
            return Err(layout(&first, "the files hold no row; expected a row for each image"));
        }
        let (mut files, mut places, mut first) = (Vec::new(), Vec::new(), 0);
        for (Opened { mut file, image, chunks, .. }, path) in opened.into_iter().zip(paths) {
            if paths.len() > MAX_OPEN {
                file = InPlace::open(path, false).map_err(DataError::io(path))?;
            }
            files.push(Pages { file, image, chunks, first });
            add_places(&mut places, &mut first, files.len() - 1, &files[files.len() - 1].chunks);
        }
        Ok(Self { classes, files, labels, places, cache: Cache::default(), limit })
    }

    /// The page of an image, and the image's place in it.
    fn page(&self, index: usize) -> Result<(Arc<Images>, usize), String> {
        let number = self.places.partition_point(|p| p.first <= index) - 1;
        let Place { first, file, chunk, page } = self.places[number];
        let Pages { file, image, chunks, .. } = &self.files[file];
        let unpack = || page::values::<ByteArrayType>(file, image, &chunks[chunk], page);
        Ok((self.cache.get(number, unpack)?, index - first))
    }

    fn with_bytes<T>(
        &self,
        index: usize,
        use_them: impl FnOnce(&[u8]) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        let (page, at) = self.page(index).map_err(|e| bad(&self.name(index), &e))?;
        match &page.values[at] {
            Some(bytes) => use_them(bytes.data()),
            None => Err(bad(&self.name(index), &"has no image (null); put its bytes in, or remove the row")),
        }
    }
}

fn add_places(places: &mut Vec<Place>, first: &mut usize, file: usize, chunks: &[Chunk]) {
    for (chunk, of) in chunks.iter().enumerate() {
        for (page, span) in of.pages.iter().enumerate() {
            places.push(Place { first: *first, file, chunk, page });
            *first += span.rows as usize;
        }
    }
}

/// The classes that the files list, which must agree; made from the labels where no file lists any.
fn class_list(opened: &[Opened], paths: &[PathBuf]) -> Result<Vec<String>, DataError> {
    let listed = opened.iter().zip(paths).filter_map(|(file, path)| Some((file.names.as_ref()?, path)));
    let mut listed = listed.peekable();
    let Some(&(names, first)) = listed.peek() else {
        let path = paths.first().cloned().unwrap_or_default();
        let labels = opened.iter().flat_map(|file| &file.labels);
        return gathered(labels).map_err(|what| layout(&path, what));
    };
    match listed.find(|(others, _)| *others != names) {
        Some((_, path)) => Err(layout(
            path,
            format!("lists other classes than {}; files of one split have the same classes", first.display()),
        )),
        None => Ok(names.clone()),
    }
}

/// Adds the labels of one file as places in `classes`.
fn numbers(
    labels: &mut Vec<u32>,
    found: Vec<ShardLabel>,
    names: Option<Vec<String>>,
    classes: &[String],
) -> Result<(), String> {
    let numbers: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
    // The same list needs no look at names, of which two may be alike.
    let names = names.filter(|names| names != classes);
    for (row, label) in found.into_iter().enumerate() {
        // A number is a place in the list of its own file, where there is one.
        let own = match (&label, &names) {
            (ShardLabel::Number(n), Some(names)) => names.get(*n as usize).cloned().map(ShardLabel::Name),
            _ => Some(label.clone()),
        };
        let known = own.as_ref().and_then(|own| place(own, &numbers, classes.len()));
        labels.push(
            known.ok_or_else(|| {
                unknown(&format!("row {row}"), own.as_ref().unwrap_or(&label), classes.len())
            })?,
        );
    }
    Ok(())
}

impl Source for ParquetFiles {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn name(&self, index: usize) -> String {
        let file = self.files.partition_point(|f| f.first <= index) - 1;
        let Pages { file, first, .. } = &self.files[file];
        format!("{}: row {}", file.path.display(), index - first)
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        self.with_bytes(index, |bytes| decode(bytes, &self.name(index), self.limit))
    }

    fn load_reduced(&self, index: usize, divisor: Divisor) -> Result<Decoded, DataError> {
        self.with_bytes(index, |bytes| decode_reduced(bytes, &self.name(index), self.limit, divisor))
    }

    fn encoded(&self, index: usize) -> Result<Option<Vec<u8>>, DataError> {
        self.with_bytes(index, |bytes| Ok(Some(bytes.to_vec())))
    }
}
