//! The folder of a run: one process at a time, no leftovers of a killed one, and the newest checkpoint that is whole.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::checkpoint::read::Checkpoint;
use crate::error::{Error, Result};
use crate::util::atomic_file::WRITING;

/// The newest checkpoint, replaced in one step.
pub const LAST: &str = "last.safetensors";
/// The checkpoint with the best evaluation.
pub const BEST: &str = "best.safetensors";
/// Folder of the checkpoints that are kept besides.
pub(crate) const KEPT: &str = "checkpoints";

/// A run's folder, held by this process as long as it lives.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Option<File>,
}

impl RunFolder {
    /// Makes the folder if need be, keeps other processes out of it, and removes what a killed one left half-written.
    ///
    /// # Errors
    /// Returns an error if another process holds it, or the disk refuses.
    pub fn claim(path: &Path) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::io(path))?;
        let name = path.join(".lock");
        let file = File::create(&name).map_err(Error::io(&name))?;
        let lock = match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::WouldBlock) => {
                let what = format!(
                    "another process trains in {}; wait for it, or give another option `out`",
                    path.display()
                );
                return Err(Error::config("out", what));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(_)) => None,
        };
        for folder in [path.to_path_buf(), path.join(KEPT)] {
            remove_leftovers(&folder)?;
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes files that were being written when their process ended.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for name in file_names(folder)? {
        if name.starts_with(WRITING.0) && name.ends_with(WRITING.1) {
            let path = folder.join(name);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Names of the files in a folder; none where there is no folder.
pub(crate) fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder)(e)),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    Ok(entries.filter_map(name).collect())
}

/// File name of a kept checkpoint.
pub(crate) fn kept_name(kind: &str, step: u64) -> String {
    format!("{kind}-{step:08}.safetensors")
}

/// The step in the name of a kept checkpoint of a kind.
pub(crate) fn kept_step(kind: &str, name: &str) -> Option<u64> {
    name.strip_prefix(kind)?.strip_prefix('-')?.strip_suffix(".safetensors")?.parse().ok()
}

/// The newest checkpoint of a run's folder that is whole, and why newer ones were passed over.
#[derive(Debug)]
pub struct Newest {
    /// The checkpoint.
    pub saved: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// What is wrong with newer ones.
    pub damaged: Vec<String>,
}

/// Finds the newest checkpoint of a run that is whole; none where there is no checkpoint at all.
///
/// # Errors
/// Returns an error if there are some and none is whole: then the newest one's.
pub fn newest(out: &Path) -> Result<Option<Newest>> {
    let mut kept: Vec<(u64, String)> = file_names(&out.join(KEPT))?
        .into_iter()
        .filter_map(|name| Some((kept_step("step", &name).or_else(|| kept_step("best", &name))?, name)))
        .collect();
    kept.sort();
    let kept = kept.into_iter().rev().map(|(_, name)| out.join(KEPT).join(name));
    let mut first_error = None;
    let mut damaged = Vec::new();
    for path in std::iter::once(out.join(LAST)).chain(kept).filter(|path| path.exists()) {
        match Checkpoint::open(&path).and_then(|saved| saved.run().map(|_| ()).map(|()| saved)) {
            Ok(saved) => return Ok(Some(Newest { saved, path, damaged })),
            Err(error) => {
                damaged.push(error.to_string());
                first_error.get_or_insert(error);
            }
        }
    }
    first_error.map_or(Ok(None), Err)
}
