//! One safetensors file with a checksum over all of it, replaced in one step.

use std::collections::HashMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};
use efficienttrain_models::{Model, ParamStore, weights};

use super::RunRecord;
use crate::error::{Error, Result};
use crate::state::TrainState;

/// Key of the record in a file's metadata.
pub(super) const KEY: &str = "efficienttrain";
/// Key of the checksum in a file's metadata: CRC-32 of the file with [`BLANK`] in its place.
const CHECKSUM: &str = "efficienttrain-checksum";
/// The same in files of earlier versions. Other programs use the key, too: it counts beside the record of a run alone.
const OLD_CHECKSUM: &str = "checksum";
const BLANK: &str = "00000000";
/// Begins and ends the names of files that are being written.
pub(super) const WRITING: (&str, &str) = (".writing-", ".tmp");

/// Writes a checkpoint to `path`: first beside it, synced, then moved over it. A crash leaves the old one or the new.
///
/// # Errors
/// When the disk refuses; the file at `path` is untouched then.
pub fn save(path: &Path, state: &TrainState, record: &RunRecord) -> Result<()> {
    let mut bytes = encode(path, state, record)?;
    seal(&mut bytes);
    replace(path, &bytes)
}

/// The file of a checkpoint for `path`, without its checksum.
pub(super) fn encode(path: &Path, state: &TrainState, record: &RunRecord) -> Result<Vec<u8>> {
    let kept = state.optimiser.kept.iter().map(|(part, store)| (*part, store));
    let ema = state.ema.as_ref().map(|store| ("ema", store));
    let tensors =
        std::iter::once(("model", &state.params)).chain(kept).chain(ema).flat_map(|(part, store)| {
            store.iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor.clone()))
        });
    let on_cpu = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&Device::Cpu)?));
    serialise(path, tensors.map(on_cpu).collect::<Result<_>>()?, Some(record))
}

/// Writes weights alone, under the names and in the shapes of timm (of the authors, where timm has no such model), so
/// that other programs can read them.
///
/// # Errors
/// When the disk refuses; the file at `path` is untouched then.
pub fn export(path: &Path, model: &dyn Model, params: &ParamStore, record: &RunRecord) -> Result<()> {
    export_weights(path, weights::export(model, &params.to_device(&Device::Cpu)?)?, Some(record))
}

/// Writes named tensors, with the run they are the model of.
///
/// # Errors
/// When the disk refuses; the file at `path` is untouched then.
pub(crate) fn export_weights(
    path: &Path,
    weights: Vec<(String, Tensor)>,
    record: Option<&RunRecord>,
) -> Result<()> {
    let mut bytes = serialise(path, weights, record)?;
    seal(&mut bytes);
    replace(path, &bytes)
}

fn serialise(path: &Path, tensors: Vec<(String, Tensor)>, record: Option<&RunRecord>) -> Result<Vec<u8>> {
    let failed = |what: String| Error::Checkpoint { path: path.into(), what };
    let mut metadata = HashMap::from([(CHECKSUM.to_string(), BLANK.to_string())]);
    if let Some(record) = record {
        let json =
            serde_json::to_string(record).map_err(|e| failed(format!("cannot describe the run: {e}")))?;
        metadata.insert(KEY.to_string(), json);
    }
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| failed(format!("cannot write: {e}")))
}

/// Where the digits of the checksum are that a file's header has under `key`, if it does.
fn digits(bytes: &[u8], key: &str) -> Option<Range<usize>> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..8usize.checked_add(usize::try_from(length).ok()?)?)?;
    // Quotes inside the record are escaped, so this is found in the metadata alone.
    let key = format!("\"{key}\":\"");
    let start = 8 + memchr::memmem::find(header, key.as_bytes())? + key.len();
    (start + BLANK.len() <= bytes.len()).then_some(start..start + BLANK.len())
}

fn checksum(bytes: &[u8], digits: &Range<usize>) -> String {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&bytes[..digits.start]);
    sum.update(BLANK.as_bytes());
    sum.update(&bytes[digits.end..]);
    format!("{:08x}", sum.finalize())
}

/// Puts the checksum in.
pub(super) fn seal(bytes: &mut [u8]) {
    if let Some(digits) = digits(bytes, CHECKSUM) {
        let sum = checksum(bytes, &digits);
        bytes[digits].copy_from_slice(sum.as_bytes());
    }
}

/// Checks that a file of this program is what was written, where it has a checksum.
pub(super) fn verify(bytes: &[u8], metadata: &HashMap<String, String>) -> std::result::Result<(), String> {
    let key = match metadata.contains_key(CHECKSUM) {
        true => CHECKSUM,
        false if metadata.contains_key(KEY) => OLD_CHECKSUM,
        false => return Ok(()),
    };
    let Some(digits) = digits(bytes, key) else { return Ok(()) };
    let (sum, written) = (checksum(bytes, &digits), &bytes[digits]);
    if sum.as_bytes() == written {
        return Ok(());
    }
    let written = String::from_utf8_lossy(written);
    Err(format!(
        "its checksum is {sum}, not {written} as when it was written; use another checkpoint or copy it again"
    ))
}

/// Replaces a file in one step.
///
/// # Errors
/// When the disk refuses; the file at `path` is untouched then.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    replace_with(path, |file| file.write_all(bytes).map_err(Error::io(path)))
}

/// As [`replace`], with what `write` writes to a file that is to take the place.
///
/// # Errors
/// As [`replace`], and those of `write`.
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
/// When the disk refuses; what was at `to` is untouched then.
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
