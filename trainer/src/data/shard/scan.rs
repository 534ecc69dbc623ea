//! One walk over the headers of a tar file.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use tar::{Archive, Entry, EntryType};

use super::index::{ShardImage, ShardLabel};
use crate::data::decode::has_image_ending;
use crate::data::folder::layout;
use crate::error::DataError;

const BLOCK: u64 = 512;
/// A label, or a description with a label in it, is not longer than this.
const MAX_LABEL_BYTES: u64 = 1 << 20;

/// What has been found so far.
#[derive(Default)]
struct Found {
    /// Name, place and length of each image.
    images: Vec<(String, u64, u64)>,
    /// Labels that stand in files of their own, by the name they share with their image.
    labels: HashMap<String, ShardLabel>,
    /// The last entry that was there in full.
    last: Option<String>,
    entries: u64,
    /// Where the next header begins.
    end: u64,
}

/// The images of the tar file `path` of `size` bytes, with their labels.
pub(super) fn scan<R: Read + Seek>(mut tar: R, size: u64, path: &Path) -> Result<Vec<ShardImage>, DataError> {
    let mut found = Found::default();
    if let Err(reason) = walk(&mut tar, size, &mut found) {
        return Err(layout(path, cut_off(&found, &reason)));
    }
    found.labelled(path)
}

fn cut_off(found: &Found, reason: &str) -> String {
    let after = match &found.last {
        Some(name) => format!("after `{name}`, the last of {} complete entries", found.entries),
        None => "before its first complete entry".into(),
    };
    format!("the shard is cut off or damaged {after}: {reason}; copy or make it again")
}

fn walk<R: Read + Seek>(tar: &mut R, size: u64, found: &mut Found) -> Result<(), String> {
    let mut archive = Archive::new(&mut *tar);
    for entry in archive.entries_with_seek().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let (offset, length) = (entry.raw_file_position(), entry.size());
        let end = offset.checked_add(length).filter(|&end| end <= size);
        let end = end.ok_or_else(|| format!("`{name}` should have {length} bytes"))?;
        found.add(&name, (offset, length), &mut entry)?;
        found.end = end.next_multiple_of(BLOCK);
        found.entries += 1;
        found.last = Some(name);
    }
    // A file cut between two entries looks like one that ends there, but for the zeros that close a tar file.
    let mut closing = [1; BLOCK as usize];
    let read = tar.seek(SeekFrom::Start(found.end)).and_then(|_| tar.read_exact(&mut closing));
    if read.is_err() || closing != [0; BLOCK as usize] {
        return Err("the closing block of zeros is missing".into());
    }
    Ok(())
}

impl Found {
    fn add<R: Read>(&mut self, name: &str, place: (u64, u64), entry: &mut Entry<R>) -> Result<(), String> {
        let kind = entry.header().entry_type();
        let file = name.rsplit('/').next().unwrap_or(name);
        let ending = file.rsplit_once('.').map_or("", |(_, ending)| ending);
        if file.starts_with('.') || !(kind.is_file() || kind == EntryType::GNUSparse) {
            return Ok(());
        }
        if has_image_ending(ending) {
            if kind == EntryType::GNUSparse {
                return Err(format!("`{name}` is stored as a sparse file, which cannot be read in place"));
            }
            self.images.push((name.into(), place.0, place.1));
        } else if (ending == "cls" || ending == "json") && place.1 <= MAX_LABEL_BYTES {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
            self.label(key(name), ending, &bytes);
        }
        Ok(())
    }

    fn label(&mut self, key: &str, ending: &str, bytes: &[u8]) {
        if ending == "cls" {
            self.labels.insert(key.into(), from_text(&String::from_utf8_lossy(bytes)));
        } else if let Some(label) = from_json(bytes) {
            // Where both are there, `.cls` says it.
            self.labels.entry(key.into()).or_insert(label);
        }
    }

    fn labelled(self, path: &Path) -> Result<Vec<ShardImage>, DataError> {
        let label_of = |name: &str| {
            let folder = || name.rsplit('/').nth(1).filter(|f| !f.is_empty() && *f != ".");
            let own = self.labels.get(key(name)).cloned();
            own.or_else(|| folder().map(|f| ShardLabel::Name(f.into())))
        };
        let image = |(name, offset, length): &(String, u64, u64)| match label_of(name) {
            Some(label) => Ok(ShardImage { name: name.clone(), offset: *offset, length: *length, label }),
            None => {
                let key = key(name);
                let what = format!(
                    "image `{name}` has no label; expected `{key}.cls`, `{key}.json` with a `label`, or names \
                     CLASS/IMAGE"
                );
                Err(layout(path, what))
            }
        };
        self.images.iter().map(image).collect()
    }
}

/// What an image shares with its label: the name up to the first dot of its last part.
fn key(name: &str) -> &str {
    let file = name.rfind('/').map_or(0, |slash| slash + 1);
    name[file..].find('.').map_or(name, |dot| &name[..file + dot])
}

fn from_text(text: &str) -> ShardLabel {
    let text = text.trim();
    text.parse().map_or_else(|_| ShardLabel::Name(text.into()), ShardLabel::Number)
}

fn from_json(bytes: &[u8]) -> Option<ShardLabel> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let label = ["label", "cls", "class"].iter().find_map(|key| value.get(key))?;
    match label {
        serde_json::Value::String(name) => Some(ShardLabel::Name(name.clone())),
        number => number.as_u64().and_then(|n| u32::try_from(n).ok()).map(ShardLabel::Number),
    }
}
