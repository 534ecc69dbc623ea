//! Options that do not affect the outcome of a run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use efficienttrain_schedule::Plan;
use serde::{Deserialize, Serialize};

use crate::config::device::DeviceName;
use crate::config::interval::Interval;
use crate::config::values::{LogFormat, ViewName};
use crate::error::{Error, Result};
use crate::util::share;

/// Group of options for several processes.
pub(crate) const SEVERAL: &str = "Several processes";
/// Size of a bucket of gradients in MiB, that of PyTorch.
const DEFAULT_BUCKET_MIB: f64 = 25.0;
/// Most loader threads: more is a typing error that the system would not survive.
const MAX_WORKERS: usize = 4096;

/// Options that may change between stop and resume, since they do not affect the outcome.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Folder for checkpoints, log and chart
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,

    /// Device: `cpu`, or an NVIDIA GPU as `cuda` or `cuda:1` (in builds with CUDA). Of several
    /// processes on a machine, each takes another GPU with `cuda`
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,

    /// Data loader threads of a process [default: one per core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Logs to write in addition to `log.jsonl`
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',')]
    pub log: Vec<LogFormat>,

    /// Also send the lines of `log.jsonl` to this address, by HTTP POST; the environment variable
    /// `EFFICIENTTRAIN_LOG_TOKEN` is its bearer token
    #[arg(long, value_name = "URL")]
    pub log_url: Option<String>,

    /// Terminal display during the run
    #[arg(long, value_enum, default_value_t = ViewName::Bar)]
    pub view: ViewName,

    /// Evaluation interval, as `1ep` (passes over the data), `500st` (steps) or `10%` (of the
    /// compute); the end is always evaluated
    #[arg(long, value_name = "SPAN", default_value = "1ep")]
    pub eval_every: Interval,

    /// Checkpoint interval, as `1ep`, `500st` or `10%`; the end is always saved
    #[arg(long, value_name = "SPAN", default_value = "1ep")]
    pub checkpoint_every: Interval,

    /// Also save when the last checkpoint is this many minutes old
    #[arg(long, value_name = "MINUTES")]
    pub checkpoint_minutes: Option<f64>,

    /// Number of recent checkpoints to keep; if above 1, they are in the folder `checkpoints`
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: u32,

    /// Number of best checkpoints to keep, in the folder `checkpoints`; the best one is also
    /// `best.safetensors`
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub keep_best: u32,

    /// Stop after this many optimizer steps of the run, with a checkpoint to resume from
    #[arg(long, value_name = "N")]
    pub stop_after: Option<u64>,

    /// Stop once no evaluation has been better than the best one for this long, as `5ep`, `500st` or
    /// `20%`; `best.safetensors` is the best one. A curriculum gains most in its last stages
    #[arg(long, value_name = "SPAN")]
    pub early_stop: Option<Interval>,

    /// Activation checkpointing: keep only each block's input and recompute the block in the
    /// backward pass (less memory, more time, identical results)
    #[arg(long)]
    pub checkpoint_activations: bool,

    /// Largest memory of the replay buffer, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    pub max_replay_mib: u32,

    /// Keep decoded training images in memory, up to this many MiB of each process: whatever fits is
    /// decoded once. Without effect on images that --reduced-decode shrinks
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    pub cache_mib: u32,

    /// With several processes: size of the buckets in which gradients are sent to the others while
    /// the backward pass goes on, in MiB
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_BUCKET_MIB, help_heading = SEVERAL)]
    pub bucket_mib: f64,

    /// Unreadable images to tolerate before the run stops; each is reported once and replaced by
    /// the next image
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_bad_images: usize,
}

/// Checks that an address is one of HTTP without a password, since options are stored.
pub(crate) fn check_url(url: &str) -> Result<(), String> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if host.is_empty() {
        return Err(format!("expected an address like https://host/path, got `{url}`"));
    }
    if host.contains('@') {
        return Err("expected an address without name and password; give them in the environment".into());
    }
    Ok(())
}

impl RunOptions {
    /// Checks that every value is in its range.
    ///
    /// # Errors
    /// The error names the option and what was expected.
    pub fn check(&self) -> Result<()> {
        if self.keep_last == 0 {
            return Err(Error::config(
                "keep-last",
                "expected 1 or more: the newest checkpoint is always kept",
            ));
        }
        if let Some(workers) = self.workers.filter(|n| !(1..=MAX_WORKERS).contains(n)) {
            let what = format!("expected 1 to {MAX_WORKERS} threads, got {workers}");
            return Err(Error::config("workers", what));
        }
        if !(self.bucket_mib > 0.0 && self.bucket_mib <= 4096.0) {
            let what = format!("expected MiB above 0 and at most 4096, got {}", self.bucket_mib);
            return Err(Error::config("bucket-mib", what));
        }
        self.log_url.as_deref().map_or(Ok(()), check_url).map_err(|what| Error::config("log-url", what))?;
        // A year; beyond it, a clock of the standard library may overflow.
        match self.checkpoint_minutes {
            Some(minutes) if !(minutes > 0.0 && minutes <= 525_600.0) => {
                let what = format!("expected minutes above 0 and at most 525600, got {minutes}");
                Err(Error::config("checkpoint-minutes", what))
            }
            _ => Ok(()),
        }
    }

    /// Checks that the replay buffers of every stage fit into [`Self::max_replay_mib`], for as many
    /// devices of the plan as this machine computes.
    ///
    /// # Errors
    /// The error names the first stage whose buffers do not, and how much they take.
    pub fn check_replay(&self, plan: &Plan, devices: u32) -> Result<()> {
        let limit = u128::from(self.max_replay_mib) << 20;
        let bytes = |stage: usize| plan.replay_bytes(stage) * u128::from(devices);
        let Some(stage) = (0..plan.stages().len()).find(|&stage| bytes(stage) > limit) else {
            return Ok(());
        };
        let s = &plan.stages()[stage];
        let what = format!(
            "the replay buffer of stage {} takes {} MiB ({} batches of {} images of {} x {} pixels), more than the {} \
             allowed; raise it, or lower option `replay-batches` or option `batch`",
            stage + 1,
            bytes(stage).div_ceil(1 << 20),
            plan.replay_batches(stage) * u64::from(devices),
            s.batch_per_device / s.replay.times,
            s.size,
            s.size,
            self.max_replay_mib
        );
        Err(Error::config("max-replay-mib", what))
    }

    /// Returns the number of loader threads.
    pub fn workers(&self) -> usize {
        self.workers.unwrap_or_else(share::cores).max(1)
    }

    /// Returns the share of the loader threads' time in `span` that they were busy, for `seconds`
    /// in all.
    pub(crate) fn load(&self, seconds: f64, span: Duration) -> f64 {
        seconds / (self.workers() as f64 * span.as_secs_f64()).max(1e-9)
    }
}
