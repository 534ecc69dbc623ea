//! What kind of data set a path holds.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::folder::{entries, is_hidden, layout};
use super::runs::holds_run;
use super::{Cifar, ImageFolder, Source, Split, TarShards, shard};
use crate::error::DataError;

/// What is looked for, as messages say it.
const EXPECTED: &str = "expected one of: image folders (train/CLASS/IMAGE and val/CLASS/IMAGE); tar shards \
     (train/*.tar and val/*.tar, or train-*.tar and val-*.tar); Parquet files of Hugging Face (the same with .parquet, also in \
     data/); CIFAR binaries (data_batch_*.bin and test_batch.bin, or train.bin and test.bin)";

/// A set of images and the name of its split.
pub type NamedSource = (String, Arc<dyn Source>);

/// One split of a data set on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Folder(PathBuf),
    Tar(Vec<PathBuf>),
    Parquet(Vec<PathBuf>),
    Cifar(Vec<PathBuf>),
}

impl Split {
    /// Names of its folder or files, the usual one first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Val => &["val", "validation", "valid", "test"],
        }
    }
}

/// Opens one split of the data set in `dir`. With `classes`, labels are places in that list; an image may take at most
/// `limit` bytes when decoded.
///
/// # Errors
/// When there is no such split (the message lists what was looked for), or it cannot be opened.
pub fn open_split(
    dir: &Path,
    split: Split,
    classes: Option<&[String]>,
    limit: u64,
) -> Result<Arc<dyn Source>, DataError> {
    check_folder(dir)?;
    let name = split.names()[0];
    let found = find(dir, split)?.ok_or_else(|| {
        let instead = match split {
            Split::Train => "where it holds one folder a class, --val-share 0.1 makes both splits of them; ",
            Split::Val => "--val-share 0.1 evaluates on a tenth of the training images instead; ",
        };
        layout(dir, format!("has no {name} split; {instead}{EXPECTED}"))
    })?;
    open(found, dir, classes, limit)
}

/// Opens what `path` holds: both splits of a data set, one split, or one file of a kind that holds many images. Each
/// comes with the name of its split; a set without splits has the name `all`.
///
/// # Errors
/// As [`open_split`].
pub fn open_all(path: &Path, limit: u64) -> Result<Vec<NamedSource>, DataError> {
    if path.is_file() {
        let found = of_file(path).ok_or_else(|| {
            layout(path, "is no set of images; expected a .tar, .parquet or CIFAR .bin file")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        return Ok(vec![("all".into(), open(found, folder, None, limit)?)]);
    }
    let mut sets: Vec<NamedSource> = Vec::new();
    for split in [Split::Train, Split::Val] {
        if path.is_dir()
            && let Some(found) = find(path, split)?
        {
            let classes = sets.first().map(|(_, set)| set.classes().to_vec());
            sets.push((split.names()[0].into(), open(found, path, classes.as_deref(), limit)?));
        }
    }
    if sets.is_empty() {
        sets.push(("all".into(), open_plain(path, None, limit)?));
    }
    Ok(sets)
}

/// Opens the evaluation split of the data set in `dir`, or, where it has none, `dir` itself as one.
///
/// # Errors
/// As [`open_split`].
pub fn open_for_evaluation(dir: &Path, classes: &[String], limit: u64) -> Result<Arc<dyn Source>, DataError> {
    if dir.is_dir() && find(dir, Split::Val)?.is_some() {
        return open_split(dir, Split::Val, Some(classes), limit);
    }
    open_plain(dir, Some(classes), limit)
}

/// Whether the data set in `dir` has a split.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn has_split(dir: &Path, split: Split) -> Result<bool, DataError> {
    check_folder(dir)?;
    Ok(find(dir, split)?.is_some())
}

/// A folder that is one split: shards, parquet files or class folders.
///
/// # Errors
/// As [`open_split`].
pub(crate) fn open_plain(
    dir: &Path,
    classes: Option<&[String]>,
    limit: u64,
) -> Result<Arc<dyn Source>, DataError> {
    check_folder(dir)?;
    open(of_folder(dir)?, dir, classes, limit)
}

/// Opens images for a run that does not look at labels: the training split of the data set in `dir`, or all that is in
/// `dir`; images need not lie in folders of classes.
///
/// # Errors
/// As [`open_split`].
pub(crate) fn open_unlabelled(dir: &Path, limit: u64) -> Result<Arc<dyn Source>, DataError> {
    check_folder(dir)?;
    let found = match find(dir, Split::Train)? {
        Some(found) => found,
        None => of_folder(dir)?,
    };
    match &found {
        Found::Folder(folder) if !has_folders(folder)? => {
            Ok(Arc::new(ImageFolder::unlabelled(folder)?.with_limit(limit)))
        }
        _ => open(found, dir, None, limit),
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
        (false, true) => Err(layout(dir, format!("is a file, not a folder; {EXPECTED}"))),
        (false, false) => Err(layout(dir, format!("no such folder; {EXPECTED}"))),
    }
}

fn find(dir: &Path, split: Split) -> Result<Option<Found>, DataError> {
    for name in split.names() {
        let folder = dir.join(name);
        if folder.is_dir() {
            return of_folder(&folder).map(Some);
        }
    }
    for name in split.names() {
        for folder in [dir.to_path_buf(), dir.join("data")] {
            for ending in ["tar", "parquet"] {
                let files = files_with(&folder, ending, name)?;
                if let Some(found) = many(ending, files) {
                    return Ok(Some(found));
                }
            }
        }
    }
    Ok(cifar(dir, split))
}

fn of_folder(dir: &Path) -> Result<Found, DataError> {
    for ending in ["tar", "parquet"] {
        if let Some(found) = many(ending, files_with(dir, ending, "")?) {
            return Ok(found);
        }
    }
    Ok(Found::Folder(dir.into()))
}

fn of_file(path: &Path) -> Option<Found> {
    match path.extension()?.to_str()? {
        "bin" => Some(Found::Cifar(vec![path.into()])),
        ending => many(ending, vec![path.into()]),
    }
}

fn many(ending: &str, files: Vec<PathBuf>) -> Option<Found> {
    match ending {
        _ if files.is_empty() => None,
        "tar" => Some(Found::Tar(files)),
        "parquet" => Some(Found::Parquet(files)),
        _ => None,
    }
}

/// Files of `dir` with this ending, in the order of their names; with a `name`, those called `NAME.*`, `NAME-*`, `NAME_*`.
fn files_with(dir: &Path, ending: &str, name: &str) -> Result<Vec<PathBuf>, DataError> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let named = |path: &Path| {
        let file = path.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
        file.strip_prefix(name).is_some_and(|rest| name.is_empty() || rest.starts_with(['-', '.', '_']))
    };
    let wanted = |p: &PathBuf| {
        p.extension().is_some_and(|e| e.eq_ignore_ascii_case(ending))
            && !is_hidden(p)
            && named(p)
            && p.is_file()
    };
    Ok(entries(dir)?.into_iter().filter(wanted).collect())
}

fn cifar(dir: &Path, split: Split) -> Option<Found> {
    let present = |names: Vec<PathBuf>| names.into_iter().filter(|p| p.is_file()).collect::<Vec<_>>();
    for folder in ["", "cifar-10-batches-bin", "cifar-100-binary"].map(|f| dir.join(f)) {
        let (ten, hundred) = match split {
            Split::Train => ((1..=5).map(|n| format!("data_batch_{n}.bin")).collect(), "train.bin"),
            Split::Val => (vec!["test_batch.bin".to_string()], "test.bin"),
        };
        for files in [ten, vec![hundred.to_string()]] {
            let files = present(files.iter().map(|f| folder.join(f)).collect());
            if !files.is_empty() {
                return Some(Found::Cifar(files));
            }
        }
    }
    None
}

/// `dir` is where a list of classes may be, if it is not beside the shards.
fn open(
    found: Found,
    dir: &Path,
    classes: Option<&[String]>,
    limit: u64,
) -> Result<Arc<dyn Source>, DataError> {
    Ok(match found {
        Found::Folder(folder) => {
            let images = match classes {
                Some(classes) => ImageFolder::open_like(&folder, classes)?,
                None => ImageFolder::open(&folder)?,
            };
            Arc::new(images.with_limit(limit))
        }
        Found::Tar(files) => {
            let listed = listed(&files, dir, classes)?;
            Arc::new(TarShards::open(&files, listed, limit)?)
        }
        Found::Cifar(files) => Arc::new(Cifar::open(&files)?),
        Found::Parquet(files) => {
            let listed = listed(&files, dir, classes)?;
            parquet(&files, listed, limit)?
        }
    })
}

/// The classes that were asked for, or are listed beside the files or in `dir`.
fn listed(
    files: &[PathBuf],
    dir: &Path,
    classes: Option<&[String]>,
) -> Result<Option<Vec<String>>, DataError> {
    let beside = files.first().and_then(|f| f.parent()).unwrap_or(dir);
    match classes {
        Some(classes) => Ok(Some(classes.to_vec())),
        None => shard::listed(&[beside, dir]),
    }
}

#[cfg(feature = "parquet")]
fn parquet(
    files: &[PathBuf],
    classes: Option<Vec<String>>,
    limit: u64,
) -> Result<Arc<dyn Source>, DataError> {
    Ok(Arc::new(super::ParquetFiles::open(files, classes, limit)?))
}

#[cfg(not(feature = "parquet"))]
fn parquet(files: &[PathBuf], _: Option<Vec<String>>, _: u64) -> Result<Arc<dyn Source>, DataError> {
    let path = files.first().cloned().unwrap_or_default();
    Err(layout(
        &path,
        "this build cannot read Parquet files; build it with them (`cargo install --path trainer --features parquet`), or turn \
         the files into image folders or tar shards",
    ))
}
