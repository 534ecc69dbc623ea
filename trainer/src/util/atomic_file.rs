//! Atomic replacement of files: a crash leaves the old content or the new.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Prefix and suffix of the names of partial files.
pub(crate) const WRITING: (&str, &str) = (".writing-", ".tmp");

/// Replaces a file atomically.
///
/// # Errors
/// Returns an error if the disk fails; the file at `path` is then unchanged.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// Like [`replace`], with the content that `write` writes.
///
/// # Errors
/// Same as [`replace`], and those of `write`.
pub(crate) fn replace_with(
    path: &Path,
    write: impl FnOnce(&mut tempfile::NamedTempFile) -> Result<()>,
) -> Result<()> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let mut file = beside(path)?;
    write(&mut file)?;
    file.as_file().sync_all().map_err(Error::io(path))?;
    file.persist(path).map_err(|e| Error::io(path)(e.error))?;
    sync(folder)
}

/// Links the file at `from` to a second name, replacing another file there; copies it if the file
/// system has no links.
///
/// # Errors
/// Returns an error if the disk fails; the file at `to` is then unchanged.
pub(crate) fn link(from: &Path, to: &Path) -> Result<()> {
    let folder = folder_of(to);
    std::fs::create_dir_all(folder).map_err(Error::io(folder))?;
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let between = folder.join(format!("{}{name}{}", WRITING.0, WRITING.1));
    let gone = |path: &Path| match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    };
    gone(&between)?;
    if std::fs::hard_link(from, &between).is_err() {
        let bytes = std::fs::read(from).map_err(Error::io(from))?;
        return replace(to, &bytes);
    }
    std::fs::rename(&between, to).map_err(Error::io(to))?;
    // If both are the same file already, a rename keeps both names.
    gone(&between)?;
    sync(folder)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Creates a file in the same folder, which is removed unless it is kept.
fn beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING.0).suffix(WRITING.1);
    // Makes the file readable like any other new file, not only by its owner.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path)).map_err(Error::io(folder_of(path)))
}

/// Syncs a folder, so that the new name reaches the disk; only Unix can do this.
fn sync(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))?;
    Ok(())
}
