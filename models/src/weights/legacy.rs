//! Files of `torch.save` from before PyTorch 1.6, and of its
//! `_use_new_zipfile_serialization=False`: five pickles one after the other (a magic number, the
//! protocol, the machine, the object, the keys of the storages), then each storage behind the
//! number of its elements.

use std::collections::HashMap;

use super::archive::extract_all;
use super::pickle::{self, Pickle};
use super::{Fallible, ReadOptions, Tensors, unwrap};

/// The pickled magic number that begins such a file.
pub(super) const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";

/// Reads the state dict of a file; also returns the keys that lead to it.
pub(super) fn read(bytes: &[u8], options: &ReadOptions) -> Fallible<(String, Tensors)> {
    let mut rest = bytes;
    let mut next = |what: &str| -> Fallible<Pickle> {
        let damaged = |e: String| format!("its {what} is damaged or not of a checkpoint: {e}");
        let (pickle, used) = pickle::parse_first(rest).map_err(damaged)?;
        rest = &rest[used..];
        Ok(pickle)
    };
    next("magic number")?;
    next("protocol")?;
    if next("description of the machine")?.flag("little_endian") == Some(false) {
        return Err("its numbers are big-endian; write it again on a little-endian machine".into());
    }
    let object = next("pickle")?;
    let keys = next("list of storages")?;
    let storages = storages(&object, &keys, rest)?;
    let (wrapper, state) = unwrap::state_dict(&object, options.prefer_ema)?;
    // Tensors can share a storage, so a small file could ask for any amount.
    let mut budget = (bytes.len() as u64).saturating_mul(4).saturating_add(1 << 20);
    for (name, info) in &state.tensors {
        budget = budget.checked_sub(info.bytes()?).ok_or_else(|| {
            format!("`{name}`: {} bytes are far more than the file holds", info.bytes().unwrap_or(u64::MAX))
        })?;
    }
    let mut tensors = extract_all(&state.tensors, &mut |key| {
        let found = storages.get(key).copied().ok_or_else(|| format!("its storage `{key}` is missing"))?;
        Ok(found.into())
    })?;
    state.note_unread(&mut tensors);
    Ok((wrapper, tensors))
}

/// The bytes of each storage, by its key.
fn storages<'a>(
    object: &Pickle<'a>,
    keys: &Pickle<'a>,
    mut bytes: &'a [u8],
) -> Fallible<HashMap<&'a str, &'a [u8]>> {
    let widths = object.storage_widths();
    let mut found = HashMap::new();
    for key in keys.texts() {
        let width = widths.get(key).ok_or_else(|| {
            format!("its storage `{key}` has a type that is not read; make its tensors float32")
        })?;
        let short = || format!("it ends within the storage `{key}`; copy it again from where it came");
        let (count, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|n| n.checked_mul(*width));
        let (content, rest) = length.and_then(|length| rest.split_at_checked(length)).ok_or_else(short)?;
        found.insert(key, content);
        bytes = rest;
    }
    Ok(found)
}
