//! The zip archives that `torch.save` writes: a pickle, and one entry for the bytes of each
//! storage.

use std::borrow::Cow;
use std::io::{Read, Seek};

use indexmap::IndexMap;
use zip::{CompressionMethod, ZipArchive};

use super::pickle::TensorInfo;
use super::{Fallible, Tensors};

/// No state dict comes near this; it bounds the work on a file made to waste it.
const MAX_PICKLE_BYTES: u64 = 64 << 20;

/// Makes the tensors that `entries` describe, in that order. Each storage is asked for once, and
/// one at a time.
pub(super) fn extract_all<'b>(
    entries: &IndexMap<&str, &TensorInfo>,
    storage: &mut dyn FnMut(&str) -> Fallible<Cow<'b, [u8]>>,
) -> Fallible<Tensors> {
    let mut by_storage: IndexMap<&str, Vec<usize>> = IndexMap::new();
    for (index, info) in entries.values().enumerate() {
        by_storage.entry(info.storage.key).or_default().push(index);
    }
    let mut tensors = vec![None; entries.len()];
    for (key, indices) in by_storage {
        let bytes = storage(key)?;
        for index in indices {
            let (name, info) = (entries.get_index(index)).ok_or("an entry is gone")?;
            tensors[index] = Some(info.extract(&bytes).map_err(|e| format!("`{name}`: {e}"))?);
        }
    }
    let named = entries.keys().zip(tensors).filter_map(|(name, t)| Some(((*name).to_string(), t?)));
    Ok(named.collect())
}

/// An open archive.
pub(super) struct Archive<R> {
    zip: ZipArchive<R>,
    /// Folder of all entries, with its slash.
    folder: String,
    /// Bytes that may still be read or made into tensors. Entries can overlap and tensors can share
    /// a storage, so a small file could ask for any amount.
    budget: u64,
}

impl<R: Read + Seek> Archive<R> {
    pub(super) fn open(reader: R, length: u64) -> Fallible<Self> {
        let zip = ZipArchive::new(reader)
            .map_err(|e| format!("no complete zip archive ({e}); copy it again from where it came"))?;
        let names: Vec<_> = zip.file_names().filter_map(|name| Some(name.ok()?.into_owned())).collect();
        let folder = names.iter().find_map(|name| {
            let folder = name.strip_suffix("data.pkl")?;
            (folder.is_empty() || folder.ends_with('/')).then(|| folder.to_string())
        });
        let Some(folder) = folder else {
            return Err("it is a zip archive without `data.pkl`; expected one that `torch.save` wrote".into());
        };
        if names.iter().any(|name| name.strip_prefix(&folder).is_some_and(|rest| rest.starts_with("code/"))) {
            return Err("it is a TorchScript program; save the `state_dict()` of the model instead".into());
        }
        let mut archive = Self { zip, folder, budget: length.saturating_mul(4).saturating_add(1 << 20) };
        if archive.zip.index_for_name(&format!("{}byteorder", archive.folder)).is_some()
            && archive.entry("byteorder")? != b"little"
        {
            return Err("its numbers are big-endian; write it again on a little-endian machine".into());
        }
        Ok(archive)
    }

    /// The bytes of the pickle.
    pub(super) fn pickle(&mut self) -> Fallible<Vec<u8>> {
        let size = self.zip.by_name(&format!("{}data.pkl", self.folder)).map_or(0, |entry| entry.size());
        if size > MAX_PICKLE_BYTES {
            return Err(format!(
                "its pickle has {size} bytes, more than {MAX_PICKLE_BYTES}; save the state dict alone"
            ));
        }
        self.entry("data.pkl")
    }

    /// The tensors that `entries` describe, in that order.
    pub(super) fn tensors(&mut self, entries: &IndexMap<&str, &TensorInfo>) -> Fallible<Tensors> {
        for (name, info) in entries {
            self.spend(info.bytes()?).map_err(|e| format!("`{name}`: {e}"))?;
        }
        extract_all(entries, &mut |key| self.entry(&format!("data/{key}")).map(Cow::from))
    }

    /// All bytes of an entry; its checksum is verified.
    fn entry(&mut self, name: &str) -> Fallible<Vec<u8>> {
        let name = format!("{}{name}", self.folder);
        let missing = |e: &dyn std::fmt::Display| format!("its entry `{name}` cannot be read: {e}");
        let index = self.zip.index_for_name(&name).ok_or_else(|| missing(&"it is not in the archive"))?;
        let size = self.zip.by_index_raw(index).map_err(|e| missing(&e))?.size();
        self.spend(size).map_err(|e| missing(&e))?;
        let mut entry = self.zip.by_index(index).map_err(|e| missing(&e))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(missing(&"it is compressed, which `torch.save` never does"));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(|e| missing(&e))?;
        if bytes.len() as u64 != size {
            return Err(missing(&format!("it has {} bytes, its description says {size}", bytes.len())));
        }
        Ok(bytes)
    }

    fn spend(&mut self, bytes: u64) -> Fallible<()> {
        let left = self.budget.checked_sub(bytes);
        self.budget = left.ok_or_else(|| format!("{bytes} bytes are far more than the file holds"))?;
        Ok(())
    }
}
