//! Reading of regular files only: a FIFO, a socket or a device could block the reader forever.

use std::fs::{File, FileType};
use std::io::{Error, ErrorKind, Result};
use std::path::Path;

/// Reads a whole file.
///
/// # Errors
/// Returns an error if it cannot be read, or is neither a regular file nor a link to one.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>> {
    check_regular(path)?;
    std::fs::read(path)
}

/// Opens a file for reading.
///
/// # Errors
/// Same as [`read_regular`].
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    check_regular(path)?;
    File::open(path)
}

/// Returns true if `path` exists and is neither a regular file nor a folder, nor a link to one.
pub(crate) fn is_special(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| !data.is_file() && !data.is_dir())
}

fn check_regular(path: &Path) -> Result<()> {
    let kind = std::fs::metadata(path)?.file_type();
    if kind.is_file() {
        return Ok(());
    }
    let what = format!("is {}, expected a regular file", kind_name(kind));
    Err(Error::new(ErrorKind::InvalidInput, what))
}

#[cfg(unix)]
fn kind_name(kind: FileType) -> &'static str {
    use std::os::unix::fs::FileTypeExt;
    match kind {
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a FIFO (named pipe)",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    }
}

#[cfg(not(unix))]
fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() { "a folder" } else { "a special file" }
}
