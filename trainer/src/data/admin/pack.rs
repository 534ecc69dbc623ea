//! Packs any source into tar shards.

use std::io::Write;
use std::path::{Path, PathBuf};

use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;
use rayon::prelude::*;
use serde::Serialize;

use crate::data::decode::jpeg_stream::is_jpeg;
use crate::data::loader::order::SampleOrder;
use crate::data::source::{BadImage, Source, is_multi_label};
use crate::error::DataError;

/// Images to encode at a time; bounds the memory.
const AT_ONCE: usize = 64;

/// Options for packing a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackOptions {
    /// Largest short edge, in pixels: larger images are scaled down, all others keep their size.
    pub max_size: u32,
    /// Quality of the JPEGs to write, 1 to 100.
    pub quality: u8,
    /// Number of shards per split.
    pub shards: usize,
}

impl Default for PackOptions {
    fn default() -> Self {
        Self { max_size: 256, quality: 90, shards: 8 }
    }
}

impl PackOptions {
    /// Checks that every value is in range.
    ///
    /// # Errors
    /// The error names the option that is out of range.
    pub fn check(&self) -> Result<(), DataError> {
        let wrong = |what: String| Err(DataError::Setting(what));
        match self {
            Self { max_size: 0, .. } => wrong("option `max-size`: expected at least 1 pixel, got 0".into()),
            Self { quality: 0 | 101.., .. } => {
                wrong(format!("option `quality`: expected 1 to 100, got {}", self.quality))
            }
            Self { shards: 0 | 100_000.., .. } => {
                wrong(format!("option `shards`: expected 1 to 99999, got {}", self.shards))
            }
            _ => Ok(()),
        }
    }
}

/// Result of packing one split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Packed {
    /// Number of images written.
    pub images: usize,
    /// Number of images copied unchanged.
    pub copied: usize,
    /// Total size of the shards, in bytes.
    pub bytes: u64,
    /// The shards.
    pub shards: Vec<PathBuf>,
    /// Images that were skipped because they cannot be read.
    pub broken: Vec<BadImage>,
}

/// Writes `source` as shards `DIR/SPLIT-00000.tar` and so on, in the WebDataset layout with numbers
/// as labels. Images are shuffled in an order that depends only on their count. The same input
/// gives the same bytes. A shard appears once it is complete.
///
/// # Errors
/// Returns an error if a shard cannot be written, an option is out of range, no image can be read,
/// or the set is a multi-label one.
pub fn pack(source: &dyn Source, dir: &Path, split: &str, options: PackOptions) -> Result<Packed, DataError> {
    options.check()?;
    if is_multi_label(source) {
        let what = "option `multi-label`: shards have one label an image; train on the images and \
                    their lists instead";
        return Err(DataError::Setting(what.into()));
    }
    std::fs::create_dir_all(dir).map_err(DataError::io(dir))?;
    let order = SampleOrder::new(0, source.len());
    let shards = options.shards.min(source.len());
    let mut packed = Packed::default();
    for shard in 0..shards {
        let path = dir.join(format!("{split}-{shard:05}.tar"));
        let of = |shard: usize| shard * source.len() / shards;
        write_shard(source, &order, of(shard)..of(shard + 1), &path, options, &mut packed)?;
    }
    if packed.images == 0 {
        let reason = packed.broken.first().map_or("the set is empty".into(), |b| b.reason.clone());
        return Err(DataError::Setting(format!(
            "{}: none of the images could be packed: {reason}",
            dir.display()
        )));
    }
    Ok(packed)
}

/// Writes the file that lists the classes of packed splits, in the order of their labels.
///
/// # Errors
/// Returns an error if the file cannot be written.
pub fn write_classes(dir: &Path, classes: &[String]) -> Result<(), DataError> {
    let path = dir.join("dataset.json");
    let text = format!("{:#}\n", serde_json::json!({ "classes": classes }));
    std::fs::write(&path, text).map_err(DataError::io(&path))
}

fn write_shard(
    source: &dyn Source,
    order: &SampleOrder,
    range: std::ops::Range<usize>,
    path: &Path,
    options: PackOptions,
    packed: &mut Packed,
) -> Result<(), DataError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(DataError::io(folder))?;
    let mut tar = tar::Builder::new(std::io::BufWriter::new(&mut file));
    let numbers: Vec<usize> = range.collect();
    for some in numbers.chunks(AT_ONCE) {
        let encode = |&number: &usize| {
            let index = order.at(number as u64).index;
            (number, index, encoded(source, index, options))
        };
        let ready: Vec<_> = some.par_iter().map(encode).collect();
        for (number, index, image) in ready {
            match image {
                Ok((bytes, copied)) => {
                    let label = source.label(index).to_string();
                    let written = append(&mut tar, &format!("{number:08}.cls"), label.as_bytes())
                        .and_then(|()| append(&mut tar, &format!("{number:08}.jpg"), &bytes));
                    written.map_err(DataError::io(path))?;
                    packed.images += 1;
                    packed.copied += usize::from(copied);
                }
                Err(error) => packed.broken.push(BadImage::of(source, index, &error)),
            }
        }
    }
    let finished = tar.into_inner().and_then(|mut writer| writer.flush());
    finished.map_err(DataError::io(path))?;
    readable_by_all(&file).map_err(DataError::io(path))?;
    file.as_file().sync_all().map_err(DataError::io(path))?;
    packed.bytes += file.as_file().metadata().map_err(DataError::io(path))?.len();
    file.persist(path).map_err(|e| DataError::Io { path: path.into(), source: e.error })?;
    packed.shards.push(path.into());
    Ok(())
}

/// Makes a file readable by all users: temporary files are readable by their owner only, but data
/// sets are shared.
#[cfg(unix)]
fn readable_by_all(file: &tempfile::NamedTempFile) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn readable_by_all(_file: &tempfile::NamedTempFile) -> std::io::Result<()> {
    Ok(())
}

fn append<W: Write>(tar: &mut tar::Builder<W>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    // Leaves out time, user and machine, so that the same images give the same file.
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, name, bytes)
}

/// Returns an image as JPEG, and true if it is the stored file itself.
fn encoded(source: &dyn Source, index: usize, options: PackOptions) -> Result<(Vec<u8>, bool), DataError> {
    // Decodes the image in any case, so that broken images are not packed.
    let image = source.load(index)?;
    let shrunk = shrink(&image, options.max_size)?;
    if shrunk.is_none()
        && let Some(bytes) = source.encoded(index)?.filter(|b| is_jpeg(b))
    {
        return Ok((bytes, true));
    }
    let mut bytes = Vec::new();
    let written = JpegEncoder::new_with_quality(&mut bytes, options.quality)
        .encode_image(shrunk.as_ref().unwrap_or(&image));
    written.map_err(|e| {
        crate::data::decode::bad(&source.name(index), &format!("cannot be written as JPEG: {e}"))
    })?;
    Ok((bytes, false))
}

fn shrink(image: &RgbImage, max_size: u32) -> Result<Option<RgbImage>, DataError> {
    let (width, height) = image.dimensions();
    let short = width.min(height);
    if short <= max_size {
        return Ok(None);
    }
    let scaled = |edge: u32| {
        let exact = u64::from(edge) * u64::from(max_size);
        ((exact + u64::from(short) / 2) / u64::from(short)) as u32
    };
    let size = (scaled(width), scaled(height));
    let mut scratch = randaug::Scratch::default();
    let small = randaug::resize(image, size.0, size.1, randaug::Filter::Bicubic, &mut scratch);
    small.map(Some).map_err(|e| DataError::Setting(e.to_string()))
}
