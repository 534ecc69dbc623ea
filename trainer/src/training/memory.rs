//! Memory available for training, and batch sizes that fit.

use candle_core::Device;

use crate::data::batch::Batch;
use crate::error::{Error, Result};
use crate::training::state::TrainState;
use crate::training::step::Step;
use crate::util::host_memory::{HostMemory, host_memory};
use crate::util::units::mib;

/// Memory of the training device, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Total memory of the device.
    pub(crate) total: u64,
    /// Memory that training can still use.
    pub(crate) free: u64,
    /// Memory of all present tensors, on a GPU.
    pub(crate) in_use: u64,
    /// Largest memory of tensors since [`reset_peak`], on a GPU.
    pub(crate) peak: u64,
}

/// Returns the present memory of a device; for the CPU, that of [`host_memory`], or a cautious
/// estimate.
pub(crate) fn memory(device: &Device) -> Result<Memory> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let memory = efficienttrain_models::ops::cuda::memory_stats(device)?;
        let efficienttrain_models::ops::cuda::MemoryStats { total, free, in_use, peak } = memory;
        return Ok(Memory { total, free, in_use, peak });
    }
    let _ = device;
    /// Where the system does not tell.
    const CAUTIOUS: HostMemory = HostMemory { total: 2 << 30, free: 2 << 30, swap: 0 };
    let HostMemory { total, free, .. } = host_memory().unwrap_or(CAUTIOUS);
    Ok(Memory { total, free, in_use: 0, peak: 0 })
}

/// Resets [`Memory::peak`].
pub(crate) fn reset_peak(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        efficienttrain_models::ops::cuda::reset_peak(device)?;
    }
    let _ = device;
    Ok(())
}

impl TrainState {
    /// Returns true if a step fits into memory, tried with random images in `passes` micro-batches
    /// of `images` images. Two stand for any larger number, since gradients then exist beside
    /// activations. Changes nothing.
    pub(crate) fn fits(&mut self, images: u32, passes: u32) -> Result<bool> {
        let batch = Batch::random(images as usize, &*self.model, self.device())?;
        let tried = Step::begin(self, true).and_then(|mut step| {
            (0..passes.min(2)).try_for_each(|pass| step.accumulate(&batch, 0.5, 0.0, u64::from(pass)))
        });
        match tried {
            Ok(()) => Ok(true),
            Err(e) if e.is_out_of_memory() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Returns the largest batch below `batch` that fits with gradient accumulation, among those
    /// that divide it, each the largest part of the one before.
    pub(crate) fn largest_fitting_batch(&mut self, batch: u32) -> Result<Option<u32>> {
        for smaller in parts(batch) {
            if self.fits(smaller, 2)? {
                return Ok(Some(smaller));
            }
        }
        Ok(None)
    }

    /// Returns the error for a state that does not fit on a device.
    pub(crate) fn oom_error(&self, device: &Device) -> Error {
        let needed = mib(self.stored_bytes());
        let there = memory(device).map_or(String::new(), |memory| {
            format!("; the GPU has {} MiB, {} of them free", mib(memory.total), mib(memory.free))
        });
        let what = format!(
            "not enough memory for weights, moments and averages, which take {needed} MiB{there}; choose a smaller option `model`, or another GPU"
        );
        Error::config("device", what)
    }
}

/// Returns the parts of a batch: a half, or a third if it is odd, and so on, then of that, down to
/// a single image.
fn parts(batch: u32) -> impl Iterator<Item = u32> {
    let part = |&of: &u32| (2..=of).find(|by| of.is_multiple_of(*by)).map(|by| of / by);
    std::iter::successors(Some(batch), part).skip(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_divide_the_batch() {
        assert_eq!(parts(64).collect::<Vec<_>>(), [32, 16, 8, 4, 2, 1]);
        assert_eq!(parts(45).collect::<Vec<_>>(), [15, 5, 1]);
        assert_eq!(parts(7).collect::<Vec<_>>(), [1]);
        assert_eq!(parts(1).count(), 0);
    }
}
