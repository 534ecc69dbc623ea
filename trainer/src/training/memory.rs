//! How much memory there is to train in, and what fits into it.

use candle_core::Device;

use crate::data::batch::Batch;
use crate::error::{Error, Result};
use crate::training::state::TrainState;
use crate::training::step::Step;
use crate::util::units::mib;

/// Memory of the device that a run trains on, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// What the device has.
    pub(crate) total: u64,
    /// What training can still take.
    pub(crate) free: u64,
    /// What tensors hold now, on a GPU.
    pub(crate) in_use: u64,
    /// The most they held since [`reset_peak`], on a GPU.
    pub(crate) peak: u64,
}

/// The memory of a device as it is now; of the processor's, where the system says it (Linux), else a careful guess.
pub(crate) fn memory(device: &Device) -> Result<Memory> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        let memory = efficienttrain_models::ops::cuda::memory_stats(device)?;
        let efficienttrain_models::ops::cuda::MemoryStats { total, free, in_use, peak } = memory;
        return Ok(Memory { total, free, in_use, peak });
    }
    let _ = device;
    const GUESS: u64 = 2 << 30;
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok())
            .map_or(GUESS, |kib| kib << 10)
    };
    Ok(Memory { total: bytes("MemTotal:"), free: bytes("MemAvailable:"), in_use: 0, peak: 0 })
}

/// Begins anew with [`Memory::peak`].
pub(crate) fn reset_peak(device: &Device) -> Result<()> {
    #[cfg(feature = "cuda")]
    if device.is_cuda() {
        efficienttrain_models::ops::cuda::reset_peak(device)?;
    }
    let _ = device;
    Ok(())
}

impl TrainState {
    /// Whether a step has room: tried with random pictures, as many `passes` of a batch of `pictures` as the step adds up. Two stand for
    /// more: gradients are there then beside activations. Nothing is changed by it.
    pub(crate) fn fits(&mut self, pictures: u32, passes: u32) -> Result<bool> {
        let batch = Batch::random(
            pictures as usize,
            self.model.input_size()[0],
            self.model.num_classes(),
            self.device(),
        )?;
        let tried = Step::begin(self, true).and_then(|mut step| {
            (0..passes.min(2)).try_for_each(|pass| step.accumulate(&batch, 0.5, 0.0, u64::from(pass)))
        });
        match tried {
            Ok(()) => Ok(true),
            Err(e) if e.is_out_of_memory() => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// The largest batch below `batch` that has room where several are added up, of those that divide it, each the largest part of
    /// the one before.
    pub(crate) fn largest_fitting_batch(&mut self, batch: u32) -> Result<Option<u32>> {
        for smaller in parts(batch) {
            if self.fits(smaller, 2)? {
                return Ok(Some(smaller));
            }
        }
        Ok(None)
    }

    /// That this state found no room on a device.
    pub(crate) fn oom_error(&self, device: &Device) -> Error {
        let needed = mib(self.stored_bytes());
        let there = memory(device).map_or(String::new(), |memory| {
            format!("; the GPU has {} MiB, {} of them free", mib(memory.total), mib(memory.free))
        });
        let what = format!(
            "no room for weights, moments and averages, which take {needed} MiB{there}; choose a smaller option `model`, or another GPU"
        );
        Error::config("device", what)
    }
}

/// Parts of a batch: a half, or a third where there is none, and so on, then of that, down to a single picture.
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
