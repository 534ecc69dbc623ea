//! Finds the splits of a data set and their kinds.

use std::path::{Path, PathBuf};

use crate::data::source::cifar::{cifar_files, is_of_cifar};
use crate::data::source::list::list_of;
use crate::data::source::numbered::check_complete;
use crate::data::source::runs::holds_run;
use crate::data::source::shard::format::is_tar_name;
use crate::data::source::skipped::{SkipReason, Skipped};
use crate::data::source::splits::{NamedSplit, split_of};
use crate::data::source::synthetic::Split;
use crate::data::source::walk::{entries, is_hidden};
use crate::error::DataError;
use crate::util::endings::{ending, has_image_ending};

/// A folder with more subfolders than this is not a folder of configurations.
const MAX_FOLDERS: usize = 16;

/// One split of a data set on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    /// Files beside it that are skipped.
    pub(crate) skipped: Skipped,
}

/// Kind of a split, with its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder(PathBuf),
    /// A CSV file of paths and labels.
    List(PathBuf),
    Tar(Vec<PathBuf>),
    Parquet(Vec<PathBuf>),
    Cifar(Vec<PathBuf>),
}

/// A file that may contain many images.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    is_tar: bool,
    /// Split according to the file name.
    split: Option<NamedSplit>,
}

/// Shards of one folder, sorted by name, and the other files beside them.
#[derive(Debug, Default)]
struct Listing {
    shards: Vec<Shard>,
    folders: Vec<PathBuf>,
    skipped: Skipped,
}

impl Listing {
    fn of(dir: &Path) -> Result<Self, DataError> {
        let mut listing = Self::default();
        for path in entries(dir)? {
            let name = path.to_string_lossy().into_owned();
            if is_hidden(&path) {
                listing.skipped.add(SkipReason::Hidden, &name);
            } else if path.is_dir() {
                listing.folders.push(path);
            } else if !path.is_file() {
                listing.skipped.add(SkipReason::NotRegular, &name);
            } else if is_shard_name(&name) {
                let split = split_of(&name).map_err(|what| DataError::layout(&path, what))?;
                listing.shards.push(Shard { is_tar: is_tar_name(&name), path, split });
            } else if !is_beside_shards(&path) {
                listing.skipped.add_ending(&name);
            }
        }
        Ok(listing)
    }

    /// Separates the shards for which `is_wanted` is true of the split in their names from the
    /// others.
    fn parted(&mut self, is_wanted: impl Fn(Option<NamedSplit>) -> bool) -> (Vec<Shard>, Vec<Shard>) {
        std::mem::take(&mut self.shards).into_iter().partition(|shard| is_wanted(shard.split))
    }
}

/// Makes one split from shards; none if there are none. Tar files take precedence over Parquet
/// files.
fn found(shards: Vec<Shard>, mut skipped: Skipped) -> Result<Option<Found>, DataError> {
    let (tar, parquet): (Vec<_>, Vec<_>) = shards.into_iter().partition(|shard| shard.is_tar);
    if !tar.is_empty() {
        parquet.iter().for_each(|other| skipped.add(SkipReason::OtherKind, &other.path.to_string_lossy()));
    }
    let paths = |shards: Vec<Shard>| shards.into_iter().map(|shard| shard.path).collect::<Vec<_>>();
    let (kind, files): (fn(_) -> _, _) = match (tar.is_empty(), parquet.is_empty()) {
        (true, true) => return Ok(None),
        (false, _) => (Kind::Tar, paths(tar)),
        (true, false) => (Kind::Parquet, paths(parquet)),
    };
    check_complete(&files)?;
    Ok(Some(Found { kind: kind(files), skipped }))
}

fn is_shard_name(name: &str) -> bool {
    is_tar_name(name) || ending(name).eq_ignore_ascii_case("parquet")
}

/// Returns true for files that accompany shards: lists of classes, indexes, descriptions.
fn is_beside_shards(path: &Path) -> bool {
    let name = lower_name(path);
    matches!(name.as_str(), "dataset.json" | "classes.txt" | "readme.md" | "license" | "license.txt")
        || name.ends_with(".index.json")
}

fn lower_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default()
}

fn add_shards(skipped: &mut Skipped, shards: &[Shard]) {
    shards.iter().for_each(|shard| skipped.add(SkipReason::OtherSplit, &shard.path.to_string_lossy()));
}

/// Finds one split of the data set in `dir`.
///
/// # Errors
/// Returns an error if a folder cannot be read, files of a numbered series are missing, or there
/// are several data sets.
pub(crate) fn find(dir: &Path, split: Split) -> Result<Option<Found>, DataError> {
    let found = find_in(dir, split)?;
    // Class folders say more than a list beside them, which may be of another program.
    let has_classes = match found.as_ref().map(|found| &found.kind) {
        Some(Kind::Folder(folder)) => entries(folder)?.iter().any(|path| path.is_dir() && !is_hidden(path)),
        other => other.is_some(),
    };
    if let (false, Some(list)) = (has_classes, list_of(dir, Some(split))) {
        return Ok(Some(Found { kind: Kind::List(list), skipped: Skipped::default() }));
    }
    if found.is_some() {
        return Ok(found);
    }
    if let Some(files) = cifar_files(dir, split)? {
        // Files that belong to no split are counted once, with the training images.
        let beside = files.first().and_then(|file| file.parent()).filter(|_| split == Split::Train);
        let skipped = beside.map(beside_cifar).transpose()?.unwrap_or_default();
        return Ok(Some(Found { kind: Kind::Cifar(files), skipped }));
    }
    find_below(dir, split)
}

/// Counts the files of a folder that are not part of the download.
fn beside_cifar(dir: &Path) -> Result<Skipped, DataError> {
    let mut skipped = Skipped::default();
    for path in entries(dir)?.iter().filter(|path| !path.is_dir() && !is_of_cifar(&lower_name(path))) {
        match is_hidden(path) {
            true => skipped.add(SkipReason::Hidden, &path.to_string_lossy()),
            false => skipped.add_ending(&path.to_string_lossy()),
        }
    }
    Ok(skipped)
}

/// Returns the folder of a split: one that has its name, or, if both splits have such folders, one
/// that has it among other words (`train_images` and `val_images`).
fn split_folder(folders: &[PathBuf], split: Split) -> Result<Option<PathBuf>, DataError> {
    for name in split.folder_names() {
        if let Some(folder) = folders.iter().find(|folder| lower_name(folder) == *name)
            && !is_class_among(folder, folders)?
        {
            return Ok(Some(folder.clone()));
        }
    }
    let worded = |split: Split| -> Result<Option<PathBuf>, DataError> {
        let mut found = Vec::new();
        for folder in folders {
            let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            // A folder has no file extension, so the added dot protects the whole name.
            let said = split_of(&format!("{name}.")).ok().flatten();
            if said.is_some_and(|(of, _)| of == split) && holds_sets(folder)? {
                found.push(folder.clone());
            }
        }
        Ok(if found.len() == 1 { found.pop() } else { None })
    };
    match (worded(split)?, worded(split.other())?) {
        (Some(folder), Some(_)) => Ok(Some(folder)),
        _ => Ok(None),
    }
}

/// Returns true if a folder contains folders or shards, like that of a split.
fn holds_sets(folder: &Path) -> Result<bool, DataError> {
    let is_set = |path: &PathBuf| path.is_dir() || is_shard_name(&path.to_string_lossy());
    Ok(entries(folder)?.iter().any(|path| !is_hidden(path) && is_set(path)))
}

/// Returns true if a folder named like a split is a class: it contains images, like the folders of
/// other names beside it.
fn is_class_among(folder: &Path, folders: &[PathBuf]) -> Result<bool, DataError> {
    if holds_sets(folder)? {
        return Ok(false);
    }
    for other in folders.iter().filter(|other| Split::of_folder(&lower_name(other)).is_none()) {
        if entries(other)?.iter().any(|path| has_image_ending(ending(&path.to_string_lossy()))) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Finds a split in its own folder, or by the names of shards.
fn find_in(dir: &Path, split: Split) -> Result<Option<Found>, DataError> {
    let mut listing = Listing::of(dir)?;
    if let Some(folder) = split_folder(&listing.folders, split)? {
        let mut found = of_folder(&folder, Some(split))?;
        // Files that belong to no split are counted once, with the training images.
        if split == Split::Train {
            let val = split_folder(&listing.folders, Split::Val)?;
            for other in
                listing.folders.iter().filter(|other| **other != folder && Some(*other) != val.as_ref())
            {
                let reason = if holds_run(other)? { SkipReason::Run } else { SkipReason::OtherSplit };
                found.skipped.add(reason, &other.to_string_lossy());
            }
        }
        return Ok(Some(found));
    }
    let (unnamed, mut named) = listing.parted(|of| of.is_none());
    for word in split.names() {
        let (wanted, others) = named.into_iter().partition(|shard| shard.split == Some((split, *word)));
        named = others;
        if wanted.is_empty() {
            continue;
        }
        // Files that belong to no split are counted once, with the training images.
        let mut skipped = if split == Split::Train { listing.skipped } else { Skipped::default() };
        add_shards(&mut skipped, if split == Split::Train { &unnamed } else { &[] });
        named.retain(|shard| shard.split.is_some_and(|(of, _)| of == split));
        add_shards(&mut skipped, &named);
        return found(wanted, skipped);
    }
    Ok(None)
}

/// Finds a split in `data` or in the only folder of another name, like the configurations of the
/// Hugging Face hub.
fn find_below(dir: &Path, split: Split) -> Result<Option<Found>, DataError> {
    let mut folders: Vec<PathBuf> =
        entries(dir)?.into_iter().filter(|p| p.is_dir() && !is_hidden(p)).collect();
    // If a part of a data set is here, another set below it is not the rest of it.
    let is_part =
        |path: &PathBuf| is_shard_name(&lower_name(path)) || Split::of_folder(&lower_name(path)).is_some();
    if folders.len() > MAX_FOLDERS || entries(dir)?.iter().any(is_part) {
        folders.retain(|folder| lower_name(folder) == "data");
    }
    let mut sets: Vec<(PathBuf, Found)> = Vec::new();
    for folder in folders {
        if !entries(&folder)?.iter().any(is_part) {
            continue;
        }
        match find_in(&folder, split)? {
            Some(found) if matches!(found.kind, Kind::Tar(_) | Kind::Parquet(_)) => {
                sets.push((folder, found));
            }
            _ => {}
        }
    }
    if let Some(at) = sets.iter().position(|(folder, _)| lower_name(folder) == "data") {
        return Ok(Some(sets.swap_remove(at).1));
    }
    if let [(first, _), (second, _), ..] = &sets[..] {
        let (first, second) = (first.display(), second.display());
        return Err(DataError::layout(
            dir,
            format!("contains several data sets, such as {first} and {second}; give one of them"),
        ));
    }
    Ok(sets.pop().map(|(_, found)| found))
}

/// Returns the contents of a folder: shards, without those of other splits than `split`, or class
/// folders.
///
/// # Errors
/// Returns an error if the folder cannot be read, files of a numbered series are missing, or all
/// shards belong to the other split.
pub(crate) fn of_folder(dir: &Path, split: Option<Split>) -> Result<Found, DataError> {
    if let (None, Some(list)) = (split, list_of(dir, None)) {
        return Ok(Found { kind: Kind::List(list), skipped: Skipped::default() });
    }
    let folder = || Found { kind: Kind::Folder(dir.into()), skipped: Skipped::default() };
    // Class folders can be large and contain no shards.
    if !entries(dir)?.iter().any(|path| is_shard_name(&path.to_string_lossy()) && path.is_file()) {
        return Ok(folder());
    }
    let mut listing = Listing::of(dir)?;
    let is_wanted = |named: Option<NamedSplit>| match (named, split) {
        (Some((of, _)), Some(split)) => of == split,
        _ => true,
    };
    let (wanted, others) = listing.parted(is_wanted);
    if let (true, Some(split), Some(other)) = (wanted.is_empty(), split, others.first()) {
        let what = format!("does not belong to the {} split by its name; rename or move it", split.name());
        return Err(DataError::layout(&other.path, what));
    }
    let mut skipped = listing.skipped;
    add_shards(&mut skipped, &others);
    listing.folders.iter().for_each(|f| skipped.add(SkipReason::OtherKind, &f.to_string_lossy()));
    Ok(found(wanted, skipped)?.unwrap_or_else(folder))
}

/// Returns the kind of a file by its name; none if it is not a kind that contains many images.
pub(crate) fn of_file(path: &Path) -> Option<Found> {
    let name = lower_name(path);
    let files = vec![path.to_path_buf()];
    let kind = match ending(&name) {
        "bin" => Kind::Cifar(files),
        "parquet" => Kind::Parquet(files),
        "csv" => Kind::List(path.into()),
        _ if is_tar_name(&name) => Kind::Tar(files),
        _ => return None,
    };
    Some(Found { kind, skipped: Skipped::default() })
}

/// Returns the first shard of `dir` without a split in its name, if there is one.
pub(crate) fn unnamed_shard(dir: &Path) -> Result<Option<PathBuf>, DataError> {
    let shards = Listing::of(dir)?.shards;
    Ok(shards.into_iter().find(|shard| shard.split.is_none()).map(|shard| shard.path))
}
