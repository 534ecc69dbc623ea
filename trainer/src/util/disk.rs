//! Room on a disk for checkpoints.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{Error, Result};
use crate::util::units::mib;

/// Where checkpoints are to lie.
#[derive(Clone, Debug, Serialize)]
pub struct Disk {
    /// The folder, or the nearest one above it that is there.
    pub folder: PathBuf,
    /// Bytes free for this user; none where the system does not say.
    pub free: Option<u64>,
    /// Bytes of a checkpoint of the model.
    pub checkpoint: u64,
    /// What is wrong: no room for two checkpoints (one is written while the one before is there), or not to be written to.
    pub problem: Option<String>,
}

impl Disk {
    /// Looks at the disk of a folder that need not be there yet, for checkpoints of so many bytes.
    pub(crate) fn of(out: &Path, checkpoint: u64) -> Self {
        let folder = nearest(out);
        let free = free_bytes(&folder);
        let problem = match tempfile::tempfile_in(&folder) {
            Err(e) => Some(format!("cannot be written to ({e}); give another option `out`")),
            Ok(_) if free.is_some_and(|free| free < 2 * checkpoint) => {
                Some("has no room for two checkpoints; make some, or give another option `out`".into())
            }
            Ok(_) => None,
        };
        Self { folder, free, checkpoint, problem }
    }
}

/// Checks that a run's folder has room for what the run cannot do without: as many checkpoints, and its final weights.
///
/// # Errors
/// The error names the folder, the bytes that are needed and those that are free.
pub(crate) fn check_room(out: &Path, checkpoints: u64, checkpoint: u64, weights: u64) -> Result<()> {
    let folder = nearest(out);
    let needed = checkpoint.saturating_mul(checkpoints).saturating_add(weights);
    // Where the system does not say, the run finds out.
    let Some(free) = free_bytes(&folder).filter(|&free| free < needed) else { return Ok(()) };
    let what = format!(
        "no room for the run's checkpoints: {} has {free} bytes free ({} MiB), and {needed} are needed ({} MiB), for \
         checkpoints of {checkpoint} (one is written while the one before is there) and the final weights; make room, or \
         give another option `out`",
        folder.display(),
        mib(free),
        mib(needed)
    );
    Err(Error::config("out", what))
}

/// The folder, or the nearest one above it that is there.
fn nearest(out: &Path) -> PathBuf {
    let there = std::path::absolute(out).unwrap_or_else(|_| out.into());
    there.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_path_buf()
}

#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let found = rustix::fs::statvfs(folder).ok()?;
    // Some file systems do not count.
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
        for part in ["option `out`", &dir.path().display().to_string(), &needed, "bytes free", "make room"] {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
        // No overflow where nothing is enough.
        assert!(check_room(&out, 2, u64::MAX, u64::MAX).is_err());
    }
}
