//! Scans the headers of a tar file.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tar::Archive;

use crate::data::source::shard::format::check_format;
use crate::data::source::shard::part::Part;
use crate::data::source::shard::shard_image::ShardImage;
use crate::data::source::skipped::Skipped;
use crate::error::DataError;
use crate::util::printable::printable;

const BLOCK: u64 = 512;
/// Bytes to read at a time if only zeros are expected.
const CHUNK: u64 = 1 << 16;

/// Results so far.
#[derive(Default)]
pub(crate) struct Scanned {
    pub(crate) images: Vec<ShardImage>,
    pub(crate) skipped: Skipped,
    /// Name of the last complete entry.
    last: Option<String>,
    entries: u64,
}

/// Finds the images of the tar file `path` of `size` bytes, with their labels. Joined tar files are
/// read to the end of the last one.
///
/// # Errors
/// Returns an error if it is cut off, damaged or of another format, or a label is invalid.
pub(crate) fn scan<R: Read + Seek>(mut tar: R, size: u64, path: &Path) -> Result<Scanned, DataError> {
    check_format(&mut tar).map_err(|what| DataError::layout(path, what))?;
    let mut scanned = Scanned::default();
    let mut next = Some(0);
    while let Some(start) = next {
        let mut part = Part::default();
        let end = walk(&mut tar, (start, size), &mut part, &mut scanned)
            .and_then(|end| Ok((end, behind(&mut tar, end, size)?)));
        let (_, following) =
            end.map_err(|reason| DataError::layout(path, cut_off(&scanned, start, &reason)))?;
        let samples = part.samples(&mut scanned.skipped).map_err(|what| DataError::layout(path, what))?;
        scanned.images.extend(samples);
        next = following;
    }
    Ok(scanned)
}

fn cut_off(found: &Scanned, start: u64, reason: &str) -> String {
    let after = match &found.last {
        Some(name) => format!("after `{}`, the last of {} complete entries", printable(name), found.entries),
        None => "before its first complete entry".into(),
    };
    let joined = match start {
        0 => String::new(),
        _ => format!(", in the data after the end of a tar file at byte {start}"),
    };
    let reason = printable(reason);
    format!("the shard is cut off or damaged {after}{joined}: {reason}; copy it or create it again")
}

/// Reads the entries from `start` on; returns the start of the blocks of zeros after them.
fn walk<R: Read + Seek>(
    tar: &mut R,
    (start, size): (u64, u64),
    part: &mut Part,
    scanned: &mut Scanned,
) -> Result<u64, String> {
    tar.seek(SeekFrom::Start(start)).map_err(|e| e.to_string())?;
    let mut archive = Archive::new(From { tar: &mut *tar, start });
    let mut behind = start;
    for entry in archive.entries_with_seek().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let name = text_of(&entry.path_bytes());
        let (offset, length) = (start + entry.raw_file_position(), entry.size());
        let end = offset.checked_add(length).filter(|&end| end <= size);
        let end = end.ok_or_else(|| format!("`{name}` should have {length} bytes"))?;
        part.add(&name, (offset, length), &mut entry, &mut scanned.skipped)?;
        behind = end.next_multiple_of(BLOCK);
        scanned.entries += 1;
        scanned.last = Some(name);
    }
    Ok(behind)
}

/// Converts a name to text. Bytes that are not UTF-8 are escaped, so that different names stay
/// different.
fn text_of(name: &[u8]) -> String {
    std::str::from_utf8(name).map_or_else(|_| name.escape_ascii().to_string(), String::from)
}

/// Returns the start of another tar file after the one that ends at `end`, if there is one.
fn behind<R: Read + Seek>(tar: &mut R, end: u64, size: u64) -> Result<Option<u64>, String> {
    // A file that is cut between two entries differs from a complete one only in the closing zeros.
    let mut closing = [1; BLOCK as usize];
    let read = tar.seek(SeekFrom::Start(end)).and_then(|_| tar.read_exact(&mut closing));
    if read.is_err() || closing != [0; BLOCK as usize] {
        return Err("the closing block of zeros is missing".into());
    }
    let mut at = end + BLOCK;
    while at < size {
        let mut bytes = vec![0; CHUNK.min(size - at) as usize];
        tar.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        if let Some(first) = bytes.iter().position(|byte| *byte != 0) {
            return Ok(Some((at + first as u64) / BLOCK * BLOCK));
        }
        at += bytes.len() as u64;
    }
    Ok(None)
}

/// Part of a file from a byte on.
struct From<'a, R> {
    tar: &'a mut R,
    start: u64,
}

impl<R: Read> Read for From<'_, R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        self.tar.read(bytes)
    }
}

impl<R: Seek> Seek for From<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => self.tar.seek(SeekFrom::Start(self.start.saturating_add(at))),
            other => self.tar.seek(other),
        };
        at.map(|at| at.saturating_sub(self.start))
    }
}
