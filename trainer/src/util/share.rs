//! The part of this machine that this process has: all of it, unless several processes share it.

use std::sync::OnceLock;

static SHARE: OnceLock<Share> = OnceLock::new();

/// Part of a machine.
#[derive(Clone, Copy, Debug)]
struct Share {
    cores: usize,
    gpu: usize,
}

/// Sets the number of cores, and which GPU `cuda` is. Only the first call has an effect.
pub(crate) fn set(cores: usize, gpu: usize) {
    let _ = SHARE.set(Share { cores, gpu });
}

/// Returns the number of cores for the threads of this process.
pub(crate) fn cores() -> usize {
    SHARE.get().map_or_else(
        || std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        |share| share.cores,
    )
}

/// Returns the number of the GPU that `cuda` without a number is.
#[cfg_attr(not(feature = "cuda"), allow(dead_code))]
pub(crate) fn gpu() -> usize {
    SHARE.get().map_or(0, |share| share.gpu)
}
