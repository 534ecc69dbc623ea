//! What trains and prepares images, and who waits for whom.

use crate::run::Run;
use crate::util::share;

/// What trains and prepares images.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    pub(crate) cores: f64,
    pub(crate) workers: f64,
    /// True if training takes no time of the cores.
    pub(crate) on_gpu: bool,
}

impl Machine {
    pub(crate) fn of(run: &Run) -> Self {
        let (cores, workers) = (share::cores() as f64, run.options.workers() as f64);
        Self { cores, workers, on_gpu: !run.state.device().is_cpu() }
    }

    /// Returns the wall time of a step whose passes and update take `step` seconds and whose images
    /// take `data` seconds of a core, and true if it waits for images.
    pub(crate) fn wall(&self, step: f64, data: f64) -> (f64, bool) {
        let (own, loader) = match self.on_gpu {
            true => (step, data / self.workers.min(self.cores)),
            false => (step + data / self.cores, data / self.workers),
        };
        (own.max(loader), loader > own)
    }
}
