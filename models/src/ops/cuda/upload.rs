//! Numbers of the host on their way to a GPU.
#![allow(unsafe_code)]

use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{HostSlice, PinnedHostSlice, result};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{Device, Tensor, WithDType};

use super::memory::address;
use crate::Result;

/// Page-locked buffers that are kept, at most: those of two batches that take turns, and of the sizes before.
const MOST_KEPT: usize = 12;

/// A buffer that a GPU reads from on its own. It is free again when the copy that was made from it last is through.
struct Locked {
    device: DeviceId,
    memory: PinnedHostSlice<u8>,
}

/// The one that was used longest ago comes first.
static KEPT: LazyLock<Mutex<Vec<Locked>>> = LazyLock::new(Mutex::default);

/// Copies `values` to the GPU, in line with the work that is on its way there. Nothing waits for the copy but a third one
/// of the same size.
pub(in crate::ops) fn upload<T: WithDType>(
    values: &[T],
    shape: &[usize],
    gpu: &CudaDevice,
) -> Result<Tensor> {
    // SAFETY: all of it is written by the copy below, before anything that is sent to the same stream later reads it.
    let out = unsafe { Tensor::empty(shape, T::DTYPE, &Device::Cuda(gpu.clone()))? };
    // SAFETY: the numbers of tensors are plain, so each byte of them is one.
    let bytes = unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) };
    if bytes.is_empty() {
        return Ok(out);
    }
    let stream = gpu.cuda_stream();
    let mut locked = take(gpu, bytes.len())?;
    // Waits for the copy before the last one, if that is still under way.
    locked.memory.as_mut_slice().w()?[..bytes.len()].copy_from_slice(bytes);
    {
        // SAFETY: the guard notes on the stream when the buffer is free again, once it is dropped, behind the copy.
        let (source, _noted) = unsafe { locked.memory.stream_synced_slice(&stream) };
        // SAFETY: both sides are as long as `bytes`; the buffer is not touched before its copy is through.
        unsafe {
            result::memcpy_htod_async(address("upload", &out)?, &source[..bytes.len()], stream.cu_stream())
                .w()?;
        }
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(locked);
    if kept.len() > MOST_KEPT {
        kept.remove(0);
    }
    Ok(out)
}

/// A buffer of at least `len` bytes: the one used longest ago, where there are two of about that size.
fn take(gpu: &CudaDevice, len: usize) -> Result<Locked> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |l: &Locked| l.device == gpu.id() && (len..=2 * len + 4096).contains(&l.memory.len());
    if kept.iter().filter(|l| fits(l)).count() >= 2
        && let Some(place) = kept.iter().position(fits)
    {
        return Ok(kept.remove(place));
    }
    drop(kept);
    let context = gpu.cuda_stream().context().clone();
    // SAFETY: it is written before it is read.
    Ok(Locked { device: gpu.id(), memory: unsafe { context.alloc_pinned(len).w()? } })
}
