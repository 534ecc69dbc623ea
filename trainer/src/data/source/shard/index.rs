//! Index of the entries of a tar shard.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use crate::data::source::shard::scan::{Scanned, scan};
use crate::data::source::shard::shard_image::ShardImage;
use crate::data::source::skipped::Skipped;
use crate::error::DataError;
use crate::util::regular::{open_regular, read_regular};

/// Raised when the meaning of a stored index changes, so that old ones are created again.
const VERSION: u32 = 3;

/// Images of a shard, found by walking its headers once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardIndex {
    version: u32,
    /// Size of the shard in bytes and time of its last change in nanoseconds, which identify the
    /// shard of the index.
    size: u64,
    modified: u64,
    /// Images, in the order of the shard.
    pub images: Vec<ShardImage>,
    /// Entries that are skipped.
    #[serde(default)]
    pub skipped: Skipped,
}

impl ShardIndex {
    /// Returns the index of the shard `path`: the one stored beside it as `NAME.index.json`, or a
    /// new one, which is then stored if the folder is writable.
    ///
    /// # Errors
    /// Returns an error if the shard cannot be read, is cut off or damaged, or has an invalid
    /// label.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let (size, modified) = stamp(path).map_err(DataError::io(path))?;
        let kept = kept_path(path);
        if let Some(index) = Self::kept(&kept).filter(|i| i.is_of(size, modified)) {
            return Ok(index);
        }
        let file = open_regular(path).map_err(DataError::io(path))?;
        let index = Self { modified, ..Self::scan(file, size, path)? };
        // A read-only folder is not an error: the index is created again next time.
        let _ = index.keep(&kept);
        Ok(index)
    }

    /// Creates the index of a shard of `size` bytes from any reader; `path` is its name in
    /// messages.
    ///
    /// # Errors
    /// Same as [`Self::open`].
    pub fn scan(shard: impl Read + Seek, size: u64, path: &Path) -> Result<Self, DataError> {
        let Scanned { images, skipped, .. } = scan(shard, size, path)?;
        Ok(Self { version: VERSION, size, modified: 0, images, skipped })
    }

    /// Returns a stored index; none if it is missing or unreadable.
    fn kept(path: &Path) -> Option<Self> {
        serde_json::from_slice(&read_regular(path).ok()?).ok()
    }

    fn is_of(&self, size: u64, modified: u64) -> bool {
        let inside = |i: &ShardImage| i.offset.checked_add(i.length).is_some_and(|end| end <= size);
        (self.version, self.size, self.modified) == (VERSION, size, modified)
            && self.images.iter().all(inside)
    }

    fn keep(&self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(std::io::BufWriter::new(&mut file), self)?;
        file.persist(path)?;
        Ok(())
    }
}

fn kept_path(shard: &Path) -> PathBuf {
    let mut name = shard.as_os_str().to_owned();
    name.push(".index.json");
    name.into()
}

fn stamp(path: &Path) -> std::io::Result<(u64, u64)> {
    let data = std::fs::metadata(path)?;
    let since = data.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    Ok((data.len(), since.map_or(0, |d| d.as_nanos() as u64)))
}
