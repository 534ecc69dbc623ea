//! Reading a file of weights, whatever its format.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};

use super::archive::Archive;
use super::{Fallible, Tensors, legacy, pickle, unwrap};
use crate::{Error, Result};

/// Longest message about a file, in characters.
const MAX_MESSAGE: usize = 1000;

/// Options of reading a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Take the moving average of the weights if a checkpoint holds one beside the weights
    /// themselves.
    pub prefer_ema: bool,
}

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A safetensors file.
    SafeTensors,
    /// A file that `torch.save` wrote: a zip archive, or the format from before PyTorch 1.6.
    PyTorch,
}

/// The tensors of a file, under the names that the file has for them.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// Tensors in the file's order, on the CPU and in the file's types (booleans become `u8`).
    /// Prefixes that wrappers of modules leave (`module.`, `_orig_mod.`) are gone.
    pub tensors: Tensors,
    /// The format it was recognized as.
    pub format: Format,
    /// The keys that led to these weights in a checkpoint, e.g. `model_ema`; empty for a plain
    /// state dict.
    pub wrapper: String,
    /// The metadata of a safetensors file.
    pub metadata: HashMap<String, String>,
}

/// Reads a safetensors file or a PyTorch `.pth` file; its content, not its name, says which.
///
/// # Errors
/// When the file cannot be read, is damaged, or holds no state dict.
pub fn read(path: &Path, options: &ReadOptions) -> Result<WeightFile> {
    let failed = |what: String| Error::WeightFile { path: path.into(), what };
    let file = File::open(path).map_err(|e| failed(format!("cannot open it: {e}")))?;
    read_from(BufReader::new(file), path, options)
}

/// Reads weights like [`read`], from any reader; error messages call it `origin`.
///
/// # Errors
/// Those of [`read`].
pub fn read_from(mut reader: impl Read + Seek, origin: &Path, options: &ReadOptions) -> Result<WeightFile> {
    any_format(&mut reader, options).map_err(|what| failure(origin, what))
}

/// Reads weights like [`read_from`], from a file in memory; its bytes are not copied first.
///
/// # Errors
/// Those of [`read`].
pub fn read_bytes(bytes: &[u8], origin: &Path, options: &ReadOptions) -> Result<WeightFile> {
    let read = match bytes.get(8) {
        Some(b'{') => safetensors(bytes),
        _ => any_format(&mut Cursor::new(bytes), options),
    };
    read.map_err(|what| failure(origin, what))
}

fn failure(origin: &Path, mut what: String) -> Error {
    // A damaged file can bring names of any length into a message.
    if let Some((end, _)) = what.char_indices().nth(MAX_MESSAGE) {
        what.truncate(end);
        what.push_str("...");
    }
    Error::WeightFile { path: origin.into(), what }
}

fn any_format(reader: &mut (impl Read + Seek), options: &ReadOptions) -> Fallible<WeightFile> {
    let io = |e: std::io::Error| format!("cannot read it: {e}");
    let mut start = Vec::new();
    reader.by_ref().take(512).read_to_end(&mut start).map_err(io)?;
    let length = reader.seek(SeekFrom::End(0)).map_err(io)?;
    reader.rewind().map_err(io)?;
    if start.starts_with(b"PK\x03\x04") {
        return pytorch(reader, length, options);
    }
    if start.starts_with(legacy::MAGIC) {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(io)?;
        let (wrapper, tensors) = legacy::read(&bytes, options)?;
        return Ok(from_pytorch(tensors, wrapper));
    }
    if start.get(8) == Some(&b'{') {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(io)?;
        return safetensors(&bytes);
    }
    Err(unknown(&start))
}

fn safetensors(bytes: &[u8]) -> Fallible<WeightFile> {
    let damaged = |e: &dyn std::fmt::Display| {
        format!("no complete safetensors file ({e}); copy it again from where it came")
    };
    let (_, header) = safetensors::SafeTensors::read_metadata(bytes).map_err(|e| damaged(&e))?;
    let file = safetensors::SafeTensors::deserialize(bytes).map_err(|e| damaged(&e))?;
    let mut tensors = Tensors::default();
    for name in file.names() {
        let view = file.tensor(name).map_err(|e| damaged(&e))?;
        match of_view(&view) {
            Ok(tensor) => drop(tensors.insert(name.to_string(), tensor)),
            Err(_) => {
                let why = format!("has the type {:?}, which is not read; store it as float32", view.dtype());
                tensors.insert_unread(name.to_string(), why);
            }
        }
    }
    Ok(WeightFile {
        tensors: unwrap::without_prefixes(tensors),
        format: Format::SafeTensors,
        wrapper: String::new(),
        metadata: header.metadata().clone().unwrap_or_default(),
    })
}

/// The tensor of a view: in its own type where candle computes with it, booleans as `u8`, others as
/// `f32` if they convert.
fn of_view(view: &safetensors::tensor::TensorView) -> candle_core::Result<Tensor> {
    use safetensors::Dtype::{BF16, BOOL, F16, F32, F64, I16, I32, I64, U8, U32};
    match view.dtype() {
        BOOL => Tensor::from_raw_buffer(view.data(), DType::U8, view.shape(), &Device::Cpu),
        F64 | F32 | F16 | BF16 | I64 | I32 | I16 | U32 | U8 => view.load(&Device::Cpu),
        _ => view.load(&Device::Cpu)?.to_dtype(DType::F32),
    }
}

fn pytorch(reader: impl Read + Seek, length: u64, options: &ReadOptions) -> Fallible<WeightFile> {
    let mut archive = Archive::open(reader, length)?;
    let bytes = archive.pickle()?;
    let pickle =
        pickle::parse(&bytes).map_err(|e| format!("its pickle is damaged or not a checkpoint: {e}"))?;
    let (wrapper, state) = unwrap::state_dict(&pickle, options.prefer_ema)?;
    let mut tensors = archive.tensors(&state.tensors)?;
    state.note_unread(&mut tensors);
    Ok(from_pytorch(tensors, wrapper))
}

fn from_pytorch(tensors: Tensors, wrapper: String) -> WeightFile {
    let tensors = unwrap::without_prefixes(tensors);
    WeightFile { tensors, format: Format::PyTorch, wrapper, metadata: HashMap::new() }
}

/// Guesses the format of a file that is not supported, and says what to do about it.
fn unknown(start: &[u8]) -> String {
    const RESAVE: &str = "load it with PyTorch and write it again: `torch.save(torch.load(path), new_path)`";
    let text = String::from_utf8_lossy(&start[..start.len().min(64)]).trim_start().to_lowercase();
    if start.is_empty() {
        "it is empty, no complete file of weights; copy it again from where it came".into()
    } else if start[0] == 0x80 && start.get(1).is_some_and(|version| (2..=5).contains(version)) {
        format!("it is a pickle that `torch.save` did not write; {RESAVE}")
    } else if start.get(257..262) == Some(b"ustar") {
        format!("it is a tar archive, PyTorch's earliest format, which is not read; {RESAVE}")
    } else if text.starts_with("version https://git-lfs") {
        "it is a pointer of Git LFS, not the file itself; fetch it with `git lfs pull`".into()
    } else if text.starts_with('<') {
        "it is a web page, not weights; download the file itself".into()
    } else if start.len() < 9 {
        format!("it has {} bytes, no complete file of weights; copy it again from where it came", start.len())
    } else {
        "it is neither a safetensors file nor a zip archive of `torch.save`".into()
    }
}
