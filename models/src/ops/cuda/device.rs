//! Choosing a device.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// The compute capability that the kernels are made for, as `90` for 9.0: of later GPUs all will
/// do.
const MADE_FOR: &str = env!("EFFICIENTTRAIN_COMPUTE_CAP");

/// GPUs that are in use, by number: each has one stream, one handle of cuBLAS and the kernels once,
/// however often it is asked for.
static OPEN: LazyLock<Mutex<HashMap<usize, CudaDevice>>> = LazyLock::new(Mutex::default);

/// GPU number `ordinal`, counted from 0, for training.
///
/// Unlike [`Device::new_cuda`] it names what is wrong when there is none, has one stream for all
/// threads, and keeps memory that was given back for the next step. A program with the feature
/// `cuda` does not even start if the driver's library or cuBLAS are not installed: the system
/// says which library it misses.
///
/// # Errors
/// When the driver does not start, there is no such GPU, or the GPU is older than the kernels.
#[allow(unsafe_code)]
pub fn device(ordinal: usize) -> Result<Device> {
    let fault = |what: String| Error::Device { what };
    result::init().map_err(|e| {
        fault(format!(
            "NVIDIA's driver does not start ({e:?}); is the GPU visible (`nvidia-smi`) and the driver loaded?"
        ))
    })?;
    let count = result::device::get_count().map_err(|e| fault(format!("cannot count the GPUs ({e:?})")))?;
    if ordinal as i64 >= i64::from(count) {
        let there = if count == 1 { "there is 1 GPU".into() } else { format!("there are {count} GPUs") };
        return Err(fault(format!(
            "no GPU number {ordinal}: {there}, counted from 0 (see CUDA_VISIBLE_DEVICES)"
        )));
    }
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(gpu) = open.get(&ordinal) {
        return Ok(Device::Cuda(gpu.clone()));
    }
    let gpu = CudaDevice::new_with_stream(ordinal).map_err(|e| {
        fault(format!("GPU {ordinal} cannot be used ({e}); is its memory full, or the driver older than the CUDA libraries?"))
    })?;
    let stream = gpu.cuda_stream();
    let context = stream.context();
    let (major, minor) = context.compute_capability().w()?;
    if i64::from(10 * major + minor) < made_for() {
        let name = context.name().w()?;
        return Err(fault(format!(
            "{name} has compute capability {major}.{minor}, and this program's kernels are made for {MADE_FOR} (8.0 is written \
             80) or later; build it with CUDA_COMPUTE_CAP={major}{minor}, which must be 80 (Ampere) at least"
        )));
    }
    // SAFETY: all work of the device goes to its one stream, so order needs no events.
    unsafe { gpu.disable_event_tracking() };
    keep_memory(ordinal)?;
    give_workspace(&gpu)?;
    open.insert(ordinal, gpu.clone());
    Ok(Device::Cuda(gpu))
}

/// Returns the identifier of a GPU, which no other one in the world has.
///
/// # Errors
/// When `device` is no GPU.
pub fn uuid(device: &Device) -> Result<String> {
    let Device::Cuda(gpu) = device else {
        return Err(Error::Device { what: "the CPU has no identifier".into() });
    };
    let bytes = gpu.cuda_stream().context().uuid().w()?.bytes;
    let hex =
        |bytes: &[std::ffi::c_char]| bytes.iter().map(|&b| format!("{:02x}", b as u8)).collect::<String>();
    let parts = [&bytes[..4], &bytes[4..6], &bytes[6..8], &bytes[8..10], &bytes[10..]];
    Ok(format!("GPU-{}", parts.map(hex).join("-")))
}

/// [`MADE_FOR`] as a number; letters behind it (`90a`) narrow it down in other ways.
fn made_for() -> i64 {
    let digits = MADE_FOR.trim_end_matches(|c: char| !c.is_ascii_digit());
    digits.parse().unwrap_or(80)
}

/// Freed memory stays with the process: the next step asks for the same pieces again.
#[allow(unsafe_code)]
fn keep_memory(ordinal: usize) -> Result<()> {
    let gpu = result::device::get(ordinal as i32).w()?;
    let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut threshold = u64::MAX;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver writes a handle to `pool` and reads a u64, which is what this attribute
    // is.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, gpu).result().w()?;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result().w()?;
    }
    Ok(())
}

/// Memory for the sums of cuBLAS, as much as it takes by itself on a GPU of the Hopper generation.
const WORKSPACE: usize = 32 << 20;

/// Gives cuBLAS memory for as long as the process lives. It would take some for each product that is
/// recorded into a graph.
#[allow(unsafe_code)]
fn give_workspace(gpu: &CudaDevice) -> Result<()> {
    // SAFETY: it is never freed, and used by the one stream of the handle alone.
    unsafe {
        // Without so much memory, cuBLAS does with what there is.
        let Ok(memory) = result::malloc_sync(WORKSPACE) else { return Ok(()) };
        let handle = *gpu.cublas_handle().handle();
        Ok(cublas::cublasSetWorkspace_v2(handle, memory as *mut _, WORKSPACE).result().w()?)
    }
}

/// The GPU that a tensor is on.
pub(super) fn of<'a>(op: &'static str, t: &'a Tensor) -> Result<&'a CudaDevice> {
    match t.device() {
        Device::Cuda(gpu) => Ok(gpu),
        _ => Err(Error::Unsupported {
            op,
            what: "tensors on different devices".into(),
            supported: "one GPU for all",
        }),
    }
}
