//! Device, batch size and threads of `eval`, `predict` and `features`.

use std::num::NonZeroUsize;
use std::path::Path;

use anyhow::Result;
use clap::{Args, ValueEnum};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::DeviceName;
use efficienttrain::data::EvalPipeline;
use efficienttrain_models::weights::Report;

/// Arguments of commands that run a model without training it.
#[derive(Args)]
pub(super) struct InferenceArgs {
    /// Device: `cpu`, or an NVIDIA GPU as `cuda` or `cuda:1` (in builds with CUDA)
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub(super) device: DeviceName,

    /// Batch size
    #[arg(long, value_name = "N", default_value = "64")]
    batch: NonZeroUsize,

    /// Threads that load images [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
}

impl InferenceArgs {
    /// Returns the batch size and the number of loader threads.
    pub(super) fn load(&self) -> (usize, usize) {
        let cores = || std::thread::available_parallelism().ok();
        (self.batch.get(), self.workers.or_else(cores).map_or(1, NonZeroUsize::get))
    }
}

/// Test-time augmentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum TestTime {
    /// Mean of the logits of each image and its mirror image
    Flip,
}

/// Opens the weights of a run, or the mean of the newest `average` checkpoints that it has kept.
/// Returns true if those of its moving average are still to be chosen.
pub(super) fn open_weights(
    path: &Path,
    ema: bool,
    average: Option<NonZeroUsize>,
) -> Result<(Checkpoint, bool)> {
    let (saved, ema) = match average {
        Some(count) => (Checkpoint::average(path, count.get(), ema)?, false),
        None => (Checkpoint::open(path)?, ema),
    };
    warn_of_nonfinite(&saved, ema)?;
    Ok((saved, ema))
}

/// Returns the fraction of the short edge that the center crop keeps.
pub(super) fn crop_pct(given: Option<f64>, saved: &Checkpoint) -> Result<f64> {
    let described = || Ok(saved.description()?.map_or(EvalPipeline::CROP_PCT, |found| found.crop_pct));
    given.map_or_else(described, Ok)
}

/// Reports the keys of a weight file that the model does not use, if there are any.
pub(super) fn note_left_out(file: &Path, report: &Report) {
    if !report.unexpected.is_empty() {
        let keys = &report.unexpected;
        let named = keys.iter().take(5).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
        let more = if keys.len() > 5 { format!(" and {} more", keys.len() - 5) } else { String::new() };
        super::eprint_line(format!(
            "note: {}: skipped weights that the model does not use: {named}{more}",
            file.display()
        ));
    }
}

/// Warns of non-finite weights, which make every result meaningless.
pub(super) fn warn_of_nonfinite(saved: &Checkpoint, ema: bool) -> Result<()> {
    if let Some(what) = saved.nonfinite_weights(ema)? {
        super::eprint_line(format!("warning: in {} {what}", saved.path().display()));
    }
    Ok(())
}
