//! Paths for storage and for messages.

use std::path::{Path, PathBuf};

/// Returns the absolute path; names of the Hub stay as they are. It stays relative if the current folder is not UTF-8, which options
/// require.
pub(crate) fn absolute(path: PathBuf) -> PathBuf {
    if crate::hub::is_hub(&path) {
        return path;
    }
    std::path::absolute(&path).ok().filter(|absolute| absolute.to_str().is_some()).unwrap_or(path)
}

/// Formats a path for messages, with the folder that it is relative to.
pub(crate) fn shown(path: &Path) -> String {
    match std::env::current_dir() {
        Ok(here) if path.is_relative() => format!("{} (relative to {})", path.display(), here.display()),
        _ => path.display().to_string(),
    }
}
