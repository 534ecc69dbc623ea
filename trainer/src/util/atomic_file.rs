//! Files that are replaced in one step: a crash leaves the old content or the new.

use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Prefix and suffix of the names of files that are being written.
pub(crate) const WRITING: (&str, &str) = (".writing-", ".tmp");

/// Replaces a file in one step.
///
/// # Errors
/// Returns an error if the disk refuses; the file at `path` is untouched then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// As [`replace`], with what `write` writes to a file that is to take the place.
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

/// Gives the file at `from` a second name, which may be that of another file; copies it where the file system cannot.
///
/// # Errors
/// Returns an error if the disk refuses; what was at `to` is untouched then.
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
    // Where both are the same file already, a rename leaves both names.
    gone(&between)?;
    sync(folder)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// A file to write to, which is gone unless it is kept.
fn beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(WRITING.0).suffix(WRITING.1);
    // Readable as any other new file, not by its owner alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder_of(path)).map_err(Error::io(folder_of(path)))
}

/// The new name must reach the disk too; only Unix can sync a folder.
fn sync(folder: &Path) -> Result<()> {
    #[cfg(unix)]
    std::fs::File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io(folder))?;
    Ok(())
}
