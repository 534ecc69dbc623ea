//! Choosing a device.

use candle_core::cuda_backend::cudarc::driver::{result, sys};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// The oldest GPUs that the kernels are made for (Ampere).
const LEAST_CAPABILITY: (i32, i32) = (8, 0);

/// GPU number `ordinal`, counted from 0, for training.
///
/// Unlike [`Device::new_cuda`] it names what is wrong when there is none, has one stream for all threads, and keeps memory
/// that was given back for the next step. A program with the feature `cuda` does not even start where the driver's library or cuBLAS are not installed: the system
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
    let gpu = CudaDevice::new_with_stream(ordinal).map_err(|e| {
        fault(format!("GPU {ordinal} cannot be used ({e}); is its memory full, or the driver older than the CUDA libraries?"))
    })?;
    let stream = gpu.cuda_stream();
    let context = stream.context();
    let capability = context.compute_capability().w()?;
    if capability < LEAST_CAPABILITY {
        let (major, minor) = capability;
        let name = context.name().w()?;
        return Err(fault(format!(
            "{name} has compute capability {major}.{minor}; 8.0 (Ampere) or later is needed"
        )));
    }
    // SAFETY: all work of the device goes to its one stream, so order needs no events.
    unsafe { gpu.disable_event_tracking() };
    keep_memory(ordinal)?;
    Ok(Device::Cuda(gpu))
}

/// Freed memory stays with the process: the next step asks for the same pieces again.
#[allow(unsafe_code)]
fn keep_memory(ordinal: usize) -> Result<()> {
    let gpu = result::device::get(ordinal as i32).w()?;
    let attribute = sys::CUmemPool_attribute_enum::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut threshold = u64::MAX;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver writes a handle to `pool` and reads a u64, which is what this attribute is.
    unsafe {
        sys::cuDeviceGetDefaultMemPool(&raw mut pool, gpu).result().w()?;
        sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()).result().w()?;
    }
    Ok(())
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
