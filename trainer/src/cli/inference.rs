//! Where and how `eval`, `predict` and `features` compute.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::DeviceName;
use efficienttrain_models::weights::Report;

/// Arguments of commands that run a model without training it.
#[derive(Args)]
pub(super) struct InferenceArgs {
    /// What to compute on: `cpu`, or an NVIDIA GPU as `cuda`, `cuda:1` (in builds with it)
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub(super) device: DeviceName,

    /// Images of a pass
    #[arg(long, value_name = "N", default_value = "64")]
    batch: NonZeroUsize,

    /// Threads that decode [default: one a core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
}

impl InferenceArgs {
    /// Images of a pass, and threads that prepare them.
    pub(super) fn load(&self) -> (usize, usize) {
        let cores = || std::thread::available_parallelism().ok();
        (self.batch.get(), self.workers.or_else(cores).map_or(1, NonZeroUsize::get))
    }
}

/// Names the keys of a weight file that the model does not need, if there are any.
pub(super) fn note_left_out(file: &Path, report: &Report) {
    if !report.unexpected.is_empty() {
        let keys = &report.unexpected;
        let named = keys.iter().take(5).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let more = if keys.len() > 5 { format!(" and {} more", keys.len() - 5) } else { String::new() };
        super::eprint_line(format!(
            "note: {}: left out what the model does not need: {named}{more}",
            file.display()
        ));
    }
}

/// Warns of weights that are not finite: what they give means nothing.
pub(super) fn warn_of_nonfinite(saved: &Checkpoint, ema: bool) -> Result<()> {
    if let Some(what) = saved.nonfinite_weights(ema)? {
        super::eprint_line(format!("warning: in {} {what}", saved.path().display()));
    }
    Ok(())
}
