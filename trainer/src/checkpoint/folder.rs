//! Folder of a run: locked by one process, cleaned of partial files, with a search for the newest
//! complete checkpoint.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use crate::checkpoint::read::Checkpoint;
use crate::error::{Error, Result};
use crate::util::atomic_file::WRITING;

/// File name of the newest checkpoint, which is replaced atomically.
pub const LAST: &str = "last.safetensors";
/// File name of the checkpoint with the best evaluation.
pub const BEST: &str = "best.safetensors";
/// Folder of the other retained checkpoints.
pub(crate) const KEPT: &str = "checkpoints";
/// Folder of the batches of steps with non-finite losses or gradients.
pub(crate) const NON_FINITE: &str = "bad-numbers";

/// Folder of a run, locked by this process.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: Option<File>,
}

impl RunFolder {
    /// Creates the folder if necessary, locks it against other processes, and removes the partial
    /// files of a killed one.
    ///
    /// # Errors
    /// Returns an error if another process has locked it, or the disk fails.
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
        for folder in [path.to_path_buf(), path.join(KEPT), path.join(NON_FINITE)] {
            remove_leftovers(&folder)?;
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes partial files of a process that has ended.
fn remove_leftovers(folder: &Path) -> Result<()> {
    for name in file_names(folder)? {
        if name.starts_with(WRITING.0) && name.ends_with(WRITING.1) {
            let path = folder.join(name);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Returns the names of the files in a folder; none if there is no folder.
pub(crate) fn file_names(folder: &Path) -> Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io(folder)(e)),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
    Ok(entries.filter_map(name).collect())
}

/// Returns the file name of a retained checkpoint.
pub(crate) fn kept_name(kind: &str, step: u64) -> String {
    format!("{kind}-{step:08}.safetensors")
}

/// Parses the step from the name of a retained checkpoint.
pub(crate) fn kept_step(kind: &str, name: &str) -> Option<u64> {
    name.strip_prefix(kind)?.strip_prefix('-')?.strip_suffix(".safetensors")?.parse().ok()
}

/// Newest complete checkpoint of a run's folder, and why newer ones were skipped.
#[derive(Debug)]
pub struct Newest {
    /// The checkpoint.
    pub saved: Checkpoint,
    /// Its file.
    pub path: PathBuf,
    /// Errors of newer checkpoints.
    pub damaged: Vec<String>,
}

/// Finds the newest complete checkpoint of a run; none if there is no checkpoint at all.
///
/// # Errors
/// Returns the error of the newest checkpoint if none is complete.
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
