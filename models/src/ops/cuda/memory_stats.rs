//! Memory of a GPU, and the error when it runs out.

use candle_core::Device;
use candle_core::cuda_backend::cudarc::cublas::{result::CublasError, sys::cublasStatus_t};
use candle_core::cuda_backend::cudarc::driver::{DriverError, result, sys};
use candle_core::cuda_backend::{CudaError, WrapErr};
use sys::CUmemPool_attribute_enum::{
    self as Attribute, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, CU_MEMPOOL_ATTR_USED_MEM_CURRENT,
    CU_MEMPOOL_ATTR_USED_MEM_HIGH,
};

use crate::{Error, Result};

/// The memory of a GPU, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryStats {
    /// Size of the memory.
    pub total: u64,
    /// Memory for further tensors: free memory, and memory that was freed and is kept for this
    /// process.
    pub free: u64,
    /// Memory that the tensors of this process hold.
    pub in_use: u64,
    /// Largest value of `in_use` since the start, or since [`reset_peak`].
    pub peak: u64,
}

/// Returns the present memory of a GPU.
///
/// # Errors
/// When `device` is no GPU.
pub fn memory_stats(device: &Device) -> Result<MemoryStats> {
    let pool = pool(device)?;
    let (free, total) = result::mem_get_info().w()?;
    let (in_use, peak) =
        (read(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?, read(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH)?);
    let kept = read(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?.saturating_sub(in_use);
    Ok(MemoryStats { total: total as u64, free: free as u64 + kept, in_use, peak })
}

/// Returns the bytes that tensors on a device hold now, and the peak so far.
///
/// # Errors
/// When `device` is no GPU.
pub fn memory_in_use(device: &Device) -> Result<(u64, u64)> {
    memory_stats(device).map(|memory| (memory.in_use, memory.peak))
}

/// Resets [`MemoryStats::peak`] to the present use.
///
/// # Errors
/// When `device` is no GPU.
#[allow(unsafe_code)]
pub fn reset_peak(device: &Device) -> Result<()> {
    let (pool, mut zero) = (pool(device)?, 0u64);
    // SAFETY: the driver reads a u64, which is what this attribute is; only zero may be given.
    Ok(unsafe { sys::cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, (&raw mut zero).cast()) }
        .result()
        .w()?)
}

/// Waits until all work that was sent to a device has finished.
///
/// # Errors
/// When some of it failed.
pub fn synchronize(device: &Device) -> Result<()> {
    if let Device::Cuda(gpu) = device {
        gpu.cuda_stream().synchronize().w()?;
    }
    Ok(())
}

/// Returns the memory pool that a device's tensors are allocated from.
#[allow(unsafe_code)]
fn pool(device: &Device) -> Result<sys::CUmemoryPool> {
    let Device::Cuda(gpu) = device else {
        return Err(Error::Device { what: "the memory of a GPU was asked for on the CPU".into() });
    };
    let stream = gpu.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let gpu = result::device::get(stream.context().ordinal() as i32).w()?;
    let mut pool = std::ptr::null_mut();
    // SAFETY: the driver writes a handle to `pool`.
    unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, gpu).result().w()? };
    Ok(pool)
}

#[allow(unsafe_code)]
fn read(pool: sys::CUmemoryPool, attribute: Attribute) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: the driver writes a u64, which is what these attributes are.
    unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut value).cast()).result().w()? };
    Ok(value)
}

/// Tells if the error means that a GPU ran out of memory.
pub(crate) fn is_out_of_memory(error: &candle_core::Error) -> bool {
    use candle_core::Error as E;
    const FULL: DriverError = DriverError(sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY);
    match error {
        E::Context { inner, .. } | E::WithPath { inner, .. } | E::WithBacktrace { inner, .. } => {
            is_out_of_memory(inner)
        }
        E::Cuda(cause) => match cause.downcast_ref() {
            Some(CudaError::Cuda(error) | CudaError::Load { cuda: error, .. }) => *error == FULL,
            Some(CudaError::Cublas(CublasError(status))) => {
                *status == cublasStatus_t::CUBLAS_STATUS_ALLOC_FAILED
            }
            _ => false,
        },
        _ => false,
    }
}
