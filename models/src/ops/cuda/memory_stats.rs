//! Memory of a GPU, and the error when it runs out.

use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Device;
use candle_core::cuda_backend::cudarc::cublas::{result::CublasError, sys::cublasStatus_t};
use candle_core::cuda_backend::cudarc::driver::{DriverError, result, sys};
use candle_core::cuda_backend::{CudaDevice, CudaError, WrapErr};
use sys::CUgraphMem_attribute_enum::{
    self as GraphAttribute, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT,
    CU_GRAPH_MEM_ATTR_USED_MEM_HIGH,
};
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
    /// Memory that the tensors of this process hold, those of recorded graphs included.
    pub in_use: u64,
    /// Largest value of `in_use` since the start, or since [`reset_peak`]; with graphs, which are
    /// counted by themselves, it may be less than this.
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
    let graphs = graph_memory(device)?;
    let earlier = EARLIER_PEAK.load(Ordering::Relaxed);
    Ok(MemoryStats {
        total: total as u64,
        free: free as u64 + kept + graphs.kept,
        in_use: in_use + graphs.in_use,
        peak: earlier.max(peak + graphs.peak),
    })
}

/// Largest value of [`MemoryStats::in_use`] before memory was given to a graph.
static EARLIER_PEAK: AtomicU64 = AtomicU64::new(0);

/// The memory of the recorded graphs of a GPU, in bytes.
struct GraphMemory {
    in_use: u64,
    peak: u64,
    kept: u64,
}

fn graph_memory(device: &Device) -> Result<GraphMemory> {
    let gpu = handle(device)?;
    let read = |attribute| read_of_graphs(gpu, attribute);
    let in_use = read(CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT)?;
    let kept = read(CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT)?.saturating_sub(in_use);
    Ok(GraphMemory { in_use, peak: read(CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)?, kept })
}

#[allow(unsafe_code)]
fn read_of_graphs(gpu: sys::CUdevice, attribute: GraphAttribute) -> Result<u64> {
    let mut value = 0u64;
    // SAFETY: the driver writes a u64, which is what these attributes are.
    unsafe { sys::cuDeviceGetGraphMemAttribute(gpu, attribute, (&raw mut value).cast()).result().w()? };
    Ok(value)
}

/// Gives memory that is kept for further tensors back to the device, once the work that uses it has
/// finished.
#[allow(unsafe_code)]
pub(super) fn make_room(device: &Device) -> Result<()> {
    EARLIER_PEAK.store(memory_stats(device)?.peak, Ordering::Relaxed);
    synchronize(device)?;
    let pool = pool(device)?;
    // SAFETY: the pool is the device's own.
    unsafe { sys::cuMemPoolTrimTo(pool, 0).result().w()? };
    reset_high(pool)
}

/// Gives the memory of graphs that are gone back to the device.
#[allow(unsafe_code)]
pub(super) fn trim_graphs(gpu: &CudaDevice) -> Result<()> {
    let gpu = handle(&Device::Cuda(gpu.clone()))?;
    let mut zero = 0u64;
    // SAFETY: the device exists; the driver reads a u64, and only zero may be given.
    unsafe {
        sys::cuDeviceGraphMemTrim(gpu).result().w()?;
        let attribute = CU_GRAPH_MEM_ATTR_USED_MEM_HIGH;
        Ok(sys::cuDeviceSetGraphMemAttribute(gpu, attribute, (&raw mut zero).cast()).result().w()?)
    }
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
pub fn reset_peak(device: &Device) -> Result<()> {
    EARLIER_PEAK.store(0, Ordering::Relaxed);
    reset_high(pool(device)?)
}

/// Resets a pool's mark of the memory in use at most.
#[allow(unsafe_code)]
fn reset_high(pool: sys::CUmemoryPool) -> Result<()> {
    let mut zero = 0u64;
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

/// Returns the driver's handle of a GPU.
fn handle(device: &Device) -> Result<sys::CUdevice> {
    let Device::Cuda(gpu) = device else {
        return Err(Error::Device { what: "the memory of a GPU was asked for on the CPU".into() });
    };
    let stream = gpu.cuda_stream();
    stream.context().bind_to_thread().w()?;
    Ok(result::device::get(stream.context().ordinal() as i32).w()?)
}

/// Returns the memory pool that a device's tensors are allocated from.
#[allow(unsafe_code)]
fn pool(device: &Device) -> Result<sys::CUmemoryPool> {
    let gpu = handle(device)?;
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
