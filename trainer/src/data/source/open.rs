//! Opens a data set of any kind.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::data::source::Source;
use crate::data::source::cifar::Cifar;
use crate::data::source::folder::ImageFolder;
use crate::data::source::list::list_of;
use crate::data::source::locate::{Found, Kind, find, of_file, of_folder, unnamed_shard};
use crate::data::source::runs::holds_run;
use crate::data::source::shard::TarShards;
use crate::data::source::shard::listed::listed as listed_classes;
use crate::data::source::skipped::Skipped;
use crate::data::source::synthetic::Split;
use crate::data::source::walk::{entries, is_hidden};
use crate::error::DataError;
use crate::hub::data_folder;

/// Description of the supported layouts, for messages.
const EXPECTED: &str = "expected one of: image folders (train/CLASS/IMAGE and val/CLASS/IMAGE); lists (train.csv and val.csv with \
     rows PATH,LABEL); tar shards \
     (train/*.tar and val/*.tar, or names that contain the split, as train-*.tar and val-*.tar); Parquet files of Hugging Face (the same with .parquet, also in \
     data/); CIFAR binaries (data_batch_*.bin and test_batch.bin, or train.bin and test.bin)";

/// How a data set is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Largest memory for decoding an image, in bytes.
    pub limit: u64,
    /// Images may have several labels, or none: only for lists.
    pub multi_label: bool,
}

/// Opens a set whose images have one label each, with a limit in bytes.
impl From<u64> for OpenOptions {
    fn from(limit: u64) -> Self {
        Self { limit, multi_label: false }
    }
}

/// A set of images and the name of its split.
pub type NamedSource = (String, Arc<dyn Source>);

/// Opens one split of the data set in `dir`. With `classes`, labels are positions in that list.
///
/// # Errors
/// Returns an error if there is no such split (the message lists the supported layouts), or it
/// cannot be opened.
pub fn open_split(
    dir: &Path,
    split: Split,
    classes: Option<&[String]>,
    options: impl Into<OpenOptions>,
) -> Result<Arc<dyn Source>, DataError> {
    let options = options.into();
    check_folder(dir)?;
    let found = match find_with(dir, split, options)? {
        Some(found) => found,
        None => return Err(DataError::layout(dir, describe_missing(dir, split)?)),
    };
    open(found, dir, classes, options)
}

/// Describes a data set without a split.
fn describe_missing(dir: &Path, split: Split) -> Result<String, DataError> {
    let name = split.name();
    let other = if split == Split::Train { Split::Val } else { Split::Train };
    let advice = match (split, unnamed_shard(dir)?) {
        (_, Some(shard)) if find(dir, other)?.is_some() => {
            let shard = shard.file_name().unwrap_or_default().to_string_lossy().into_owned();
            format!("the name of `{shard}` contains no split, rename it to `{name}-{shard}` if it belongs to this one; ")
        }
        (Split::Train, _) => {
            "if it contains one folder per class, or shards without a split in their names, option `val-share` 0.1 \
             makes both splits of them; "
                .into()
        }
        (Split::Val, _) => {
            "option `val-share` 0.1 evaluates on a tenth of the training images instead; ".into()
        }
    };
    Ok(format!("has no {name} split; {advice}{EXPECTED}"))
}

/// Opens both splits of a data set, one split, or one file that contains many images. Each set
/// comes with the name of its split; a set without splits has the name `all`.
///
/// # Errors
/// Same as [`open_split`].
pub fn open_all(path: &Path, options: impl Into<OpenOptions>) -> Result<Vec<NamedSource>, DataError> {
    let options = options.into();
    let path = &*data_folder(path).map_err(|error| DataError::Setting(error.to_string()))?;
    if path.is_file() {
        let found = of_file(path).ok_or_else(|| {
            DataError::layout(
                path,
                "is not a set of images; expected a .tar, .parquet, .csv or CIFAR .bin file",
            )
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        return Ok(vec![("all".into(), open(found, folder, None, options)?)]);
    }
    let mut sets: Vec<NamedSource> = Vec::new();
    for split in [Split::Train, Split::Val] {
        if path.is_dir()
            && let Some(found) = find_with(path, split, options)?
        {
            let classes = sets.first().map(|(_, set)| set.classes().to_vec());
            sets.push((split.name().into(), open(found, path, classes.as_deref(), options)?));
        }
    }
    if sets.is_empty() {
        sets.push(("all".into(), open_plain(path, None, options)?));
    }
    Ok(sets)
}

/// Opens the evaluation split of the data set in `dir` or, if it has none, `dir` itself as one.
///
/// # Errors
/// Same as [`open_split`].
pub fn open_for_evaluation(
    dir: &Path,
    classes: &[String],
    options: impl Into<OpenOptions>,
) -> Result<Arc<dyn Source>, DataError> {
    let options = options.into();
    if dir.is_dir() && find_with(dir, Split::Val, options)?.is_some() {
        return open_split(dir, Split::Val, Some(classes), options);
    }
    open_plain(dir, Some(classes), options)
}

/// Returns true if the data set in `dir` has a split.
///
/// # Errors
/// Returns an error if the folder cannot be read.
pub(crate) fn has_split(dir: &Path, split: Split) -> Result<bool, DataError> {
    check_folder(dir)?;
    Ok(find(dir, split)?.is_some())
}

/// Opens a folder that is one split: shards, Parquet files or class folders.
///
/// # Errors
/// Same as [`open_split`].
pub(crate) fn open_plain(
    dir: &Path,
    classes: Option<&[String]>,
    options: OpenOptions,
) -> Result<Arc<dyn Source>, DataError> {
    check_folder(dir)?;
    open(of_folder(dir, None)?, dir, classes, options)
}

/// Finds one split of the data set in `dir`.
fn find_with(dir: &Path, split: Split, options: OpenOptions) -> Result<Option<Found>, DataError> {
    // Only lists have several labels an image, so that folders beside one are of another kind.
    match list_of(dir, Some(split)).filter(|_| options.multi_label) {
        Some(list) => Ok(Some(Found { kind: Kind::List(list), skipped: Skipped::default() })),
        None => find(dir, split),
    }
}

/// Opens images for a run without labels: the training split of the data set in `dir`, or all
/// images in `dir`, in class folders or not.
///
/// # Errors
/// Same as [`open_split`].
pub(crate) fn open_unlabeled(dir: &Path, options: OpenOptions) -> Result<Arc<dyn Source>, DataError> {
    check_folder(dir)?;
    let found = match find_with(dir, Split::Train, options)? {
        Some(found) => found,
        None => of_folder(dir, Some(Split::Train))?,
    };
    match &found.kind {
        Kind::Folder(folder) if !has_folders(folder)? => {
            refuse_multi_label(&found.kind, dir, options)?;
            Ok(Arc::new(ImageFolder::unlabeled(folder)?.with_limit(options.limit)))
        }
        _ => open(found, dir, None, options),
    }
}

fn has_folders(dir: &Path) -> Result<bool, DataError> {
    for path in entries(dir)?.iter().filter(|path| path.is_dir() && !is_hidden(path)) {
        if !holds_run(path)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn check_folder(dir: &Path) -> Result<(), DataError> {
    match (dir.is_dir(), dir.exists()) {
        (true, _) => Ok(()),
        (false, true) => Err(DataError::layout(dir, format!("is a file, not a folder; {EXPECTED}"))),
        (false, false) => Err(DataError::layout(dir, format!("no such folder; {EXPECTED}"))),
    }
}

/// Opens a split. `dir` is searched for a list of classes if there is none beside the shards.
fn open(
    found: Found,
    dir: &Path,
    classes: Option<&[String]>,
    options: OpenOptions,
) -> Result<Arc<dyn Source>, DataError> {
    let Found { kind, skipped } = found;
    refuse_multi_label(&kind, dir, options)?;
    let limit = options.limit;
    let wanted = classes.map(<[String]>::to_vec);
    Ok(match kind {
        Kind::Folder(folder) => {
            let images = match classes {
                Some(classes) => ImageFolder::open_like(&folder, classes)?,
                None => ImageFolder::open(&folder)?,
            };
            Arc::new(images.with_limit(limit).with_skipped(&skipped))
        }
        Kind::List(list) => {
            let images = match options.multi_label {
                true => ImageFolder::listed_multi_label(&list, classes)?,
                false => ImageFolder::listed(&list, classes)?,
            };
            Arc::new(images.with_limit(limit))
        }
        Kind::Tar(files) => {
            let listed = listed(&files, dir)?;
            Arc::new(TarShards::open_as(&files, wanted, listed, limit)?.with_skipped(&skipped))
        }
        Kind::Cifar(files) => Arc::new(Cifar::open_like(&files, classes)?.with_skipped(skipped)),
        Kind::Parquet(files) => {
            let listed = listed(&files, dir)?;
            parquet(&files, (wanted, listed), limit, &skipped)?
        }
    })
}

/// Checks that images may have several labels: only lists can say so.
fn refuse_multi_label(kind: &Kind, dir: &Path, options: OpenOptions) -> Result<(), DataError> {
    let what = match kind {
        _ if !options.multi_label => return Ok(()),
        Kind::List(_) => return Ok(()),
        Kind::Folder(_) => "image folders",
        Kind::Tar(_) => "tar shards",
        Kind::Parquet(_) => "Parquet files",
        Kind::Cifar(_) => "CIFAR binaries",
    };
    let what = format!(
        "option `multi-label`: {what} have one label an image; bring lists (train.csv and val.csv with rows \
         PATH,LABEL|LABEL), or leave the option out"
    );
    Err(DataError::layout(dir, what))
}

/// Returns the classes that are listed beside the files or in `dir`.
fn listed(files: &[PathBuf], dir: &Path) -> Result<Option<Vec<String>>, DataError> {
    let beside = files.first().and_then(|f| f.parent()).unwrap_or(dir);
    listed_classes(&[beside, dir])
}

/// Classes that labels are positions in, and those that the set itself lists.
type Classes = (Option<Vec<String>>, Option<Vec<String>>);

#[cfg(feature = "parquet")]
fn parquet(
    files: &[PathBuf],
    (wanted, listed): Classes,
    limit: u64,
    skipped: &Skipped,
) -> Result<Arc<dyn Source>, DataError> {
    let set = crate::data::source::parquet::files::ParquetFiles::open_as(files, wanted, listed, limit)?;
    Ok(Arc::new(set.with_skipped(skipped)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(files: &[PathBuf], _: Classes, _: u64, _: &Skipped) -> Result<Arc<dyn Source>, DataError> {
    let path = files.first().cloned().unwrap_or_default();
    Err(DataError::layout(
        &path,
        "this build cannot read Parquet files; build it with the feature (`cargo install --path trainer --features parquet`), or turn \
         the files into image folders or tar shards",
    ))
}
