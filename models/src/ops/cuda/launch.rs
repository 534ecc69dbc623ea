//! Starting kernels.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::c_void;
use std::sync::{Arc, LazyLock, Mutex};

use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule, result, sys};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{DType, Tensor};

use super::device;
use super::memory::{address, unsupported};
use crate::{Error, Result};

/// Threads of a block, if a kernel does not ask for another number.
const THREADS: u32 = 256;
/// Blocks that are started for loops over elements; each thread takes several.
const MOST_BLOCKS: usize = 1 << 14;
/// Shared memory that a kernel may have without asking.
const PLAIN_SHARED: u32 = 48 << 10;

static F32: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/f32.fatbin"));
static BF16: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/bf16.fatbin"));
static F16: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/f16.fatbin"));

/// Kernels found so far: looking one up in the driver takes longer than starting it.
static FOUND: LazyLock<Mutex<Found>> = LazyLock::new(Mutex::default);

#[derive(Default)]
struct Found {
    /// By device and storage type of activations.
    modules: HashMap<(DeviceId, DType), Arc<CudaModule>>,
    /// By the name as well.
    functions: HashMap<(DeviceId, DType, &'static str), CudaFunction>,
}

fn function(op: &'static str, gpu: &CudaDevice, name: &'static str, dtype: DType) -> Result<CudaFunction> {
    let code = match dtype {
        DType::BF16 => BF16,
        DType::F16 => F16,
        DType::F32 => F32,
        other => return Err(unsupported(op, other)),
    };
    let mut found = FOUND.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let Found { modules, functions } = &mut *found;
    if let Some(function) = functions.get(&(gpu.id(), dtype, name)) {
        return Ok(function.clone());
    }
    let module = match modules.entry((gpu.id(), dtype)) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(new) => {
            let stream = gpu.cuda_stream();
            new.insert(stream.context().load_module(Ptx::from_binary(code.to_vec())).w()?)
        }
    };
    let function = module.load_function(name).w()?;
    functions.insert((gpu.id(), dtype, name), function.clone());
    Ok(function)
}

/// A kernel and the arguments that it has got so far, in order.
pub(super) struct Kernel<'a> {
    op: &'static str,
    gpu: &'a CudaDevice,
    function: CudaFunction,
    /// The arguments, each from a whole word on.
    words: Vec<u64>,
    starts: Vec<usize>,
}

/// Blocks and threads of a launch.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) blocks: [usize; 3],
    pub(super) threads: u32,
    /// Bytes.
    pub(super) shared: usize,
}

impl Grid {
    /// A block for each of so many rows.
    pub(super) fn rows(rows: usize, width: usize) -> Self {
        // Whole warps, no more than there are elements.
        let threads = width.div_ceil(32).clamp(1, 8) as u32 * 32;
        Self { blocks: [rows, 1, 1], threads, shared: 0 }
    }
}

impl<'a> Kernel<'a> {
    /// `name`, of the kernels for activations stored as `dtype`, on the GPU of `t`.
    pub(super) fn new(op: &'static str, name: &'static str, t: &'a Tensor, dtype: DType) -> Result<Self> {
        let gpu = device::of(op, t)?;
        let function = function(op, gpu, name, dtype)?;
        Ok(Self { op, gpu, function, words: Vec::new(), starts: Vec::new() })
    }

    fn word(mut self, word: u64) -> Self {
        self.starts.push(self.words.len());
        self.words.push(word);
        self
    }

    /// The memory of a contiguous tensor.
    pub(super) fn tensor(self, t: &Tensor) -> Result<Self> {
        let address = address(self.op, t)?;
        Ok(self.word(address))
    }

    /// The same, or null.
    pub(super) fn maybe(self, t: Option<&Tensor>) -> Result<Self> {
        match t {
            Some(t) => self.tensor(t),
            None => Ok(self.word(0)),
        }
    }

    /// An address.
    pub(super) fn at(self, address: u64) -> Self {
        self.word(address)
    }

    /// A 64-bit number.
    pub(super) fn int(self, value: usize) -> Self {
        self.word(value as u64)
    }

    /// A 32-bit number.
    pub(super) fn flag(self, value: u32) -> Self {
        self.word(u64::from(value))
    }

    /// A number in single precision.
    pub(super) fn float(self, value: f64) -> Self {
        self.word(u64::from((value as f32).to_bits()))
    }

    /// A structure of 64-bit numbers, passed by value.
    pub(super) fn ints(mut self, values: &[usize]) -> Self {
        self.starts.push(self.words.len());
        self.words.extend(values.iter().map(|&v| v as u64));
        self
    }

    /// A structure, as the words of its memory.
    pub(super) fn structure(mut self, words: &[u64]) -> Self {
        self.starts.push(self.words.len());
        self.words.extend(words);
        self
    }

    /// Runs a loop over `n` elements, passing `n` last.
    pub(super) fn each(self, n: usize) -> Result<()> {
        self.int(n).spread(n)
    }

    /// Runs a loop over `n` elements without passing `n`.
    pub(super) fn spread(self, n: usize) -> Result<()> {
        let blocks = n.div_ceil(THREADS as usize).clamp(1, MOST_BLOCKS);
        self.run(Grid { blocks: [blocks, 1, 1], threads: THREADS, shared: 0 })
    }

    /// Runs it.
    #[allow(unsafe_code)]
    pub(super) fn run(mut self, grid: Grid) -> Result<()> {
        if grid.blocks.contains(&0) {
            return Ok(());
        }
        let stream = self.gpu.cuda_stream();
        stream.context().bind_to_thread().w()?;
        let shared = grid.shared as u32;
        if shared > PLAIN_SHARED {
            let optin = sys::CUdevice_attribute_enum::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
            let most = stream.context().attribute(optin).w()?;
            if i64::from(shared) > i64::from(most) {
                let what = format!("a block with {shared} bytes of shared memory on a GPU that has {most}");
                return Err(Error::Unsupported { op: self.op, what, supported: "smaller heads, or f32" });
            }
            let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
            self.function.set_attribute(attribute, shared as i32).w()?;
        }
        let [x, y, z] = grid.blocks.map(|n| n as u32);
        let first = self.words.as_mut_ptr();
        // SAFETY: every start is a place in `words`.
        let mut params: Vec<*mut c_void> =
            self.starts.iter().map(|&i| unsafe { first.add(i) }.cast()).collect();
        // SAFETY: the arguments are those of the kernel, in its order, and stay where `params`
        // points until it is queued; what they point to was given by `address` and stays until the
        // stream has passed the kernel.
        unsafe {
            result::launch_kernel(
                self.function.cu_function(),
                (x, y, z),
                (grid.threads, 1, 1),
                shared,
                stream.cu_stream(),
                &mut params,
            )
            .w()?;
        }
        Ok(())
    }
}
