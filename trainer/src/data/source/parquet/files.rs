//! The images and labels of one or more Parquet files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::schema::types::ColumnDescPtr;
use image::RgbImage;
use rayon::prelude::*;

use crate::data::decode::decode_reduced;
use crate::data::decode::reduced::Decoded;
use crate::data::decode::reduced::Divisor;
use crate::data::decode::{bad, decode};
use crate::data::source::Source;
use crate::data::source::parquet::cache::{Cache, Values};
use crate::data::source::parquet::chunk::Chunk;
use crate::data::source::parquet::file::Opened;
use crate::data::source::parquet::page;
use crate::data::source::shard::MAX_OPEN;
use crate::data::source::shard::classes::{ClassList, Label, Ungathered, gathered};
use crate::data::source::shard::label::ShardLabel;
use crate::data::source::shard::read::InPlace;
use crate::data::source::skipped::Skipped;
use crate::error::DataError;

/// Images of one or more Parquet files.
#[derive(Debug)]
pub struct ParquetFiles {
    classes: Vec<String>,
    files: Vec<Pages>,
    labels: Vec<u32>,
    locations: Vec<PageLocation>,
    cache: Cache<ByteArray>,
    skipped: Skipped,
    limit: u64,
}

/// A file and the positions of its images.
#[derive(Debug)]
struct Pages {
    file: InPlace,
    image: ColumnDescPtr,
    chunks: Vec<Chunk>,
    /// Index of its first image among those of all files.
    first: usize,
}

/// Position of a page.
#[derive(Clone, Copy, Debug)]
struct PageLocation {
    /// Index of its first image.
    first: usize,
    file: usize,
    chunk: usize,
    page: usize,
}

impl ParquetFiles {
    /// Opens files; images are in the order of files and rows. With `classes`, labels are names or
    /// positions in that list; otherwise the list is that of the files, or made from all labels. An
    /// image may take at most `limit` bytes to decode.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or is damaged, has no column of images or labels,
    /// or no row, a row has no label, or a label is not among the classes.
    pub fn open(paths: &[PathBuf], classes: Option<Vec<String>>, limit: u64) -> Result<Self, DataError> {
        Self::open_as(paths, classes, None, limit)
    }

    /// Like [`Self::open`]. `listed` are the classes in a separate file; numbers are positions in
    /// them if a file has no list of its own.
    pub(crate) fn open_as(
        paths: &[PathBuf],
        classes: Option<Vec<String>>,
        listed: Option<Vec<String>>,
        limit: u64,
    ) -> Result<Self, DataError> {
        let mut opened: Vec<Opened> =
            paths.par_iter().map(|path| Opened::open(path)).collect::<Result<_, _>>()?;
        let classes = match classes.or_else(|| listed.clone()) {
            Some(classes) => classes,
            None => class_list(&opened, paths)?,
        };
        let mut labels = Vec::new();
        for (file, path) in opened.iter_mut().zip(paths) {
            let (found, names) = (std::mem::take(&mut file.labels), file.names.take());
            let list = ClassList::new(&classes, names.as_deref().or(listed.as_deref()));
            numbers(&mut labels, &found, &list).map_err(|what| DataError::layout(path, what))?;
        }
        if labels.is_empty() {
            let first = paths.first().cloned().unwrap_or_default();
            return Err(DataError::layout(&first, "the files contain no rows; expected one row per image"));
        }
        let (mut files, mut locations, mut first) = (Vec::new(), Vec::new(), 0);
        for (Opened { mut file, image, chunks, .. }, path) in opened.into_iter().zip(paths) {
            if paths.len() > MAX_OPEN {
                file = InPlace::open(path, false).map_err(DataError::io(path))?;
            }
            files.push(Pages { file, image, chunks, first });
            add_pages(&mut locations, &mut first, files.len() - 1, &files[files.len() - 1].chunks);
        }
        Ok(Self {
            classes,
            files,
            labels,
            locations,
            cache: Cache::new(),
            skipped: Skipped::default(),
            limit,
        })
    }

    /// Adds other files in the folder to those that are skipped.
    #[must_use]
    pub(crate) fn with_skipped(mut self, skipped: &Skipped) -> Self {
        self.skipped.merge(skipped);
        self
    }

    /// Returns the page of an image, and the position of the image in it.
    fn page(&self, index: usize) -> Result<(Arc<Values<ByteArray>>, usize), String> {
        let number = self.locations.partition_point(|p| p.first <= index) - 1;
        let PageLocation { first, file, chunk, page } = self.locations[number];
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
            None => {
                let what =
                    "has no image (null); put its bytes in (a path alone is not followed), or remove the row";
                Err(bad(&self.name(index), &what))
            }
        }
    }
}

fn add_pages(locations: &mut Vec<PageLocation>, first: &mut usize, file: usize, chunks: &[Chunk]) {
    for (chunk, of) in chunks.iter().enumerate() {
        for (page, span) in of.pages.iter().enumerate() {
            locations.push(PageLocation { first: *first, file, chunk, page });
            *first += span.rows as usize;
        }
    }
}

/// Returns the classes that the files list, which must agree; made from the labels if no file lists
/// any.
fn class_list(opened: &[Opened], paths: &[PathBuf]) -> Result<Vec<String>, DataError> {
    let listed = opened.iter().zip(paths).filter_map(|(file, path)| Some((file.names.as_ref()?, path)));
    let mut listed = listed.peekable();
    let Some(&(names, first)) = listed.peek() else {
        let labels = opened.iter().flat_map(|file| &file.labels).map(Label::Stated);
        return gathered(labels).map_err(|Ungathered { at, what }| {
            let rows = opened
                .iter()
                .zip(paths)
                .flat_map(|(file, path)| (0..file.labels.len()).map(move |r| (r, path)));
            let (row, path) = rows.into_iter().nth(at).map_or((0, Path::new("")), |(row, path)| (row, path));
            DataError::layout(path, format!("row {row}: {what}"))
        });
    };
    match listed.find(|(others, _)| *others != names) {
        Some((_, path)) => Err(DataError::layout(
            path,
            format!("lists other classes than {}; files of one split have the same classes", first.display()),
        )),
        None => Ok(names.clone()),
    }
}

/// Appends the labels of one file as positions in a list of classes.
fn numbers(labels: &mut Vec<u32>, found: &[ShardLabel], list: &ClassList) -> Result<(), String> {
    labels.reserve(found.len());
    for (row, label) in found.iter().enumerate() {
        let position = list.position(Label::Stated(label));
        labels.push(position.map_err(|what| format!("row {row}: {what}"))?);
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

    fn skipped(&self) -> Skipped {
        self.skipped.clone()
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
