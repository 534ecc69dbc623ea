//! Checkpoint files: safetensors with a checksum over the whole file, replaced atomically.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor};
use efficienttrain_models::{Model, ParamStore, weights};

use crate::checkpoint::record::RunRecord;
use crate::error::{Error, Result};
use crate::training::state::TrainState;
use crate::util::atomic_file::replace;

/// Metadata key of the record.
pub(crate) const KEY: &str = "efficienttrain";
/// Metadata key of the checksum: CRC-32 of the file with [`BLANK`] in place of the checksum.
const CHECKSUM: &str = "efficienttrain-checksum";
/// Key of the checksum in files of earlier versions. Other programs use it too, so it only counts
/// in files with the record of a run.
const OLD_CHECKSUM: &str = "checksum";
const BLANK: &str = "00000000";

/// Writes a checkpoint to `path` atomically: written to a temporary file, synced, then moved. A
/// crash leaves the old or the new file.
///
/// # Errors
/// Returns an error if the disk fails; the file at `path` is then unchanged.
pub fn save(path: &Path, state: &TrainState, record: &RunRecord) -> Result<()> {
    let mut bytes = encode(path, state, record)?;
    write_checksum(&mut bytes);
    replace(path, &bytes)
}

/// Encodes a checkpoint for `path`, without its checksum.
pub(crate) fn encode(path: &Path, state: &TrainState, record: &RunRecord) -> Result<Vec<u8>> {
    let moments = state.optimizer.moments.iter().map(|(part, store)| (*part, store));
    let ema = state.ema.as_ref().map(|store| ("ema", store));
    let tensors =
        std::iter::once(("model", &state.params)).chain(moments).chain(ema).flat_map(|(part, store)| {
            store.iter().map(move |(name, tensor)| (format!("{part}/{name}"), tensor.clone()))
        });
    let on_cpu = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_device(&Device::Cpu)?));
    serialize(path, tensors.map(on_cpu).collect::<Result<_>>()?, Some(record))
}

/// Writes only the weights, with the names and shapes of timm (or of the authors for models that
/// timm lacks), so that other programs can read them.
///
/// # Errors
/// Returns an error if the disk fails; the file at `path` is then unchanged.
pub fn export(path: &Path, model: &dyn Model, params: &ParamStore, record: &RunRecord) -> Result<()> {
    export_weights(path, weights::export(model, &params.to_device(&Device::Cpu)?)?, Some(record))
}

/// Writes named tensors with the record of their run.
///
/// # Errors
/// Returns an error if the disk fails; the file at `path` is then unchanged.
pub(crate) fn export_weights(
    path: &Path,
    weights: Vec<(String, Tensor)>,
    record: Option<&RunRecord>,
) -> Result<()> {
    let mut bytes = serialize(path, weights, record)?;
    write_checksum(&mut bytes);
    replace(path, &bytes)
}

fn serialize(path: &Path, tensors: Vec<(String, Tensor)>, record: Option<&RunRecord>) -> Result<Vec<u8>> {
    let failed = |what: String| Error::Checkpoint { path: path.into(), what };
    let mut metadata = HashMap::from([(CHECKSUM.to_string(), BLANK.to_string())]);
    if let Some(record) = record {
        let json =
            serde_json::to_string(record).map_err(|e| failed(format!("cannot describe the run: {e}")))?;
        metadata.insert(KEY.to_string(), json);
    }
    safetensors::serialize(tensors, Some(metadata)).map_err(|e| failed(format!("cannot write: {e}")))
}

/// Finds the digits of the checksum under `key` in the header of a file, if there is one.
fn digits(bytes: &[u8], key: &str) -> Option<Range<usize>> {
    let length = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
    let header = bytes.get(8..8usize.checked_add(usize::try_from(length).ok()?)?)?;
    // Quotes inside the record are escaped, so only the metadata can contain this.
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

/// Fills in the checksum.
pub(crate) fn write_checksum(bytes: &mut [u8]) {
    if let Some(digits) = digits(bytes, CHECKSUM) {
        let sum = checksum(bytes, &digits);
        bytes[digits].copy_from_slice(sum.as_bytes());
    }
}

/// Checks that a file of this program is unchanged, if it has a checksum.
pub(crate) fn verify(bytes: &[u8], metadata: &HashMap<String, String>) -> std::result::Result<(), String> {
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
        "its checksum is {sum} instead of {written}, so it is damaged; use another checkpoint or copy it again"
    ))
}
