//! Disk space for checkpoints.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::util::units::mib;

/// Disk for the checkpoints of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// The folder, or its nearest existing parent.
    pub folder: PathBuf,
    /// Bytes available to this user; none if the system does not report it.
    pub free: Option<u64>,
    /// Size of a checkpoint of the model, in bytes.
    pub checkpoint: u64,
    /// Problem, if any: not writable, or no space for two checkpoints (the next one is written
    /// before the previous one is removed).
    pub problem: Option<String>,
}

impl Disk {
    /// Checks the disk of a folder, which need not exist yet, for checkpoints of this size in
    /// bytes.
    pub(crate) fn of(out: &Path, checkpoint: u64) -> Self {
        let folder = nearest(out);
        let free = free_bytes(&folder);
        let problem = match tempfile::tempfile_in(&folder) {
            Err(e) => Some(format!("cannot be written to ({e}); give another option `out`")),
            Ok(_) if free.is_some_and(|free| free < 2 * checkpoint) => {
                Some("has no space for two checkpoints; free some, or give another option `out`".into())
            }
            Ok(_) => None,
        };
        Self { folder, free, checkpoint, problem }
    }
}

/// Checks that a run's folder has space for the necessary files: this number of checkpoints, and
/// the final weights.
///
/// # Errors
/// The error names the folder, the bytes needed and the bytes available.
pub(crate) fn check_room(out: &Path, checkpoints: u64, checkpoint: u64, weights: u64) -> Result<()> {
    let folder = nearest(out);
    let needed = checkpoint.saturating_mul(checkpoints).saturating_add(weights);
    // If the system does not report it, the run continues without this check.
    let Some(free) = free_bytes(&folder).filter(|&free| free < needed) else { return Ok(()) };
    let what = format!(
        "not enough disk space for the run's checkpoints: {} has {free} bytes free ({} MiB), and {needed} are needed ({} MiB), for \
         checkpoints of {checkpoint} (the next one is written before the previous one is removed) and the final weights; free some, or \
         give another option `out`",
        folder.display(),
        mib(free),
        mib(needed)
    );
    Err(Error::config("out", what))
}

/// Returns the folder, or its nearest existing parent.
fn nearest(out: &Path) -> PathBuf {
    let there = std::path::absolute(out).unwrap_or_else(|_| out.into());
    there.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    // Some file systems report nothing.
    (found.f_blocks > 0).then(|| found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_full_disk_is_named_with_what_is_needed_and_free() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("runs/new");
        check_room(&out, 2, 1, 1).unwrap();
        let much = u64::MAX / 4;
        let message = check_room(&out, 2, much, 3).unwrap_err().to_string();
        let needed = (2 * much + 3).to_string();
        for part in ["option `out`", &dir.path().display().to_string(), &needed, "bytes free", "free some"] {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
        // Impossible sizes do not overflow.
        assert!(check_room(&out, 2, u64::MAX, u64::MAX).is_err());
    }
}
