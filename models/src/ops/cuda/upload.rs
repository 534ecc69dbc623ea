//! Numbers of the host on their way to a GPU.
#![allow(unsafe_code)]

use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, PinnedHostSlice, result};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr};
use candle_core::{Device, Tensor, WithDType};
use rayon::prelude::*;

use super::device;
use super::graph::refuse_while_recording;
use super::memory::address;
use crate::Result;

/// Page-locked buffers that are kept, at most: those of two batches that take turns, and of the
/// sizes before.
const MOST_KEPT: usize = 12;
/// Bytes that one thread copies to a buffer at a time.
const SHARE: usize = 1 << 20;

/// A buffer that a GPU reads from on its own.
struct Locked {
    device: DeviceId,
    memory: PinnedHostSlice<u8>,
    /// Reached when the copy that was made from it last is through. cudarc has such a mark as well,
    /// but sets it only if it keeps the order of streams, which `device` switches off.
    through: CudaEvent,
}

impl Locked {
    fn new(gpu: &CudaDevice, len: usize) -> Result<Self> {
        let context = gpu.cuda_stream().context().clone();
        // SAFETY: it is written before it is read. Not write-combined: it is written in pieces by
        // several threads.
        let memory = unsafe { context.alloc_pinned_with_flags(len, 0).w()? };
        Ok(Self { device: gpu.id(), memory, through: context.new_event(None).w()? })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Memory that a GPU still reads must not be freed. Nothing is to be done about an
        // error here.
        let _ = self.through.synchronize();
    }
}

/// The one that was used longest ago comes first.
static KEPT: LazyLock<Mutex<Vec<Locked>>> = LazyLock::new(Mutex::default);

/// Copies `values` to the GPU, in order with the work that is queued there. Nothing waits for
/// the copy but a third one of the same size.
pub(in crate::ops) fn upload<T: WithDType>(
    values: &[T],
    shape: &[usize],
    gpu: &CudaDevice,
) -> Result<Tensor> {
    // SAFETY: all of it is written by the copy below, before anything that is sent to the same
    // stream later reads it.
    let out = unsafe { Tensor::empty(shape, T::DTYPE, &Device::Cuda(gpu.clone()))? };
    upload_into(&out, values)?;
    Ok(out)
}

/// Copies `values` to a contiguous tensor of as many elements, in order with the work that is queued
/// on its GPU.
pub(in crate::ops) fn upload_into<T: WithDType>(out: &Tensor, values: &[T]) -> Result<()> {
    let gpu = device::of("upload", out)?;
    let bytes = bytes_of(values);
    if bytes.is_empty() {
        return Ok(());
    }
    refuse_while_recording(bytes.len())?;
    let stream = gpu.cuda_stream();
    let mut locked = take(gpu, bytes.len())?;
    // Waits for the copy before the last one, if that is still under way.
    locked.through.synchronize().w()?;
    let room = &mut locked.memory.as_mut_slice().w()?[..bytes.len()];
    copy(room, bytes);
    // SAFETY: both sides are as long as `bytes`; the buffer is neither written to nor given back
    // before the event behind its copy, set below, is reached.
    unsafe { result::memcpy_htod_async(address("upload", out)?, &*room, stream.cu_stream()).w()? };
    locked.through.record(&stream).w()?;
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push(locked);
    if kept.len() > MOST_KEPT {
        kept.remove(0);
    }
    Ok(())
}

/// Returns the numbers of a tensor as bytes.
pub(super) fn bytes_of<T: WithDType>(values: &[T]) -> &[u8] {
    // SAFETY: the numbers of tensors are plain, so each byte of them is one.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast::<u8>(), size_of_val(values)) }
}

/// A buffer of at least `len` bytes: the one used longest ago, if there are two of about that
/// size.
fn take(gpu: &CudaDevice, len: usize) -> Result<Locked> {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = |l: &Locked| l.device == gpu.id() && (len..=2 * len + 4096).contains(&l.memory.len());
    if kept.iter().filter(|l| fits(l)).count() >= 2
        && let Some(place) = kept.iter().position(fits)
    {
        return Ok(kept.remove(place));
    }
    drop(kept);
    Locked::new(gpu, len)
}

/// Copies `from` to `to`, as long, on several threads if it is long: one alone is slower than
/// the way to the GPU.
fn copy(to: &mut [u8], from: &[u8]) {
    if from.len() <= SHARE {
        return to.copy_from_slice(from);
    }
    let shares = to.par_chunks_mut(SHARE).zip(from.par_chunks(SHARE));
    shares.for_each(|(to, from)| to.copy_from_slice(from));
}
