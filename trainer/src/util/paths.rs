//! Paths as they are stored and shown.

use std::path::{Path, PathBuf};

/// The same path from anywhere; as it is where the present folder has no name in UTF-8, which options are kept in.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).ok().filter(|absolute| absolute.to_str().is_some()).unwrap_or(path)
}

/// A path as messages show it: with the folder that it is relative to.
pub(crate) fn shown(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if path.is_relative() => format!("{} (relative to {})", path.display(), here.display()),
        _ => path.display().to_string(),
    }
}
