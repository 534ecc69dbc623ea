//! Folders of runs among class folders: `cd photos; train --data .` writes its own there.

use std::path::{Path, PathBuf};

use crate::data::source::walk::{Walk, entries};
use crate::error::DataError;

/// Depth at which runs are searched for below a folder, as in `runs/search/trials/NAME`.
const DEPTH: usize = 4;

/// Returns true if a folder contains output of this program (a run, features, weights, shards) and
/// no image, and so is not a class.
///
/// # Errors
/// Returns an error if the folder cannot be read.
pub(crate) fn holds_run(dir: &Path) -> Result<bool, DataError> {
    if !has_run(dir, DEPTH)? {
        return Ok(false);
    }
    let mut walk = Walk::default();
    walk.enter(dir, 0)?;
    Ok(walk.files.is_empty())
}

fn has_run(dir: &Path, depth: usize) -> Result<bool, DataError> {
    // Every run and every search writes one of these files.
    let has = |name: &str| dir.join(name).is_file();
    if has("config.toml") && has("log.jsonl") || has("search.json") {
        return Ok(true);
    }
    // Packed shards, features or exported weights.
    let is_weights = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "safetensors");
    if has("dataset.json") || entries(dir)?.iter().any(is_weights) {
        return Ok(true);
    }
    if depth == 0 {
        return Ok(false);
    }
    for path in entries(dir)?.iter().filter(|path| path.is_dir() && !path.is_symlink()) {
        if has_run(path, depth - 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}
