//! Reads parts of a file from many threads at once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::util::regular::open_regular;

/// A file for positioned reads. Reads share no position, so threads do not wait for one another.
#[derive(Debug)]
pub(crate) struct InPlace {
    pub(crate) path: PathBuf,
    /// Kept open unless there are so many files that the process would run out of handles.
    kept: Option<Handle>,
}

#[derive(Debug)]
struct Handle {
    file: File,
    #[cfg(not(unix))]
    turn: std::sync::Mutex<()>,
}

impl Handle {
    fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            file: open_regular(path)?,
            #[cfg(not(unix))]
            turn: std::sync::Mutex::new(()),
        })
    }

    #[cfg(unix)]
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
    }

    #[cfg(not(unix))]
    fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        use std::io::{Read, Seek};
        // A seek moves the position that all threads share.
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (&self.file).seek(io::SeekFrom::Start(offset))?;
        (&self.file).read_exact(bytes)
    }
}

impl InPlace {
    pub(crate) fn open(path: &Path, keep: bool) -> io::Result<Self> {
        let handle = Handle::open(path)?;
        Ok(Self { path: path.into(), kept: keep.then_some(handle) })
    }

    /// Reads `length` bytes at `offset`, which the caller has checked against the size of the file.
    pub(crate) fn read(&self, offset: u64, length: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        match &self.kept {
            Some(handle) => handle.read_exact_at(&mut bytes, offset)?,
            None => Handle::open(&self.path)?.read_exact_at(&mut bytes, offset)?,
        }
        Ok(bytes)
    }
}
