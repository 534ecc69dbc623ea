//! Options that do not touch the outcome of a run.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use efficienttrain_schedule::Plan;
use serde::{Deserialize, Serialize};

use crate::config::device::DeviceName;
use crate::config::interval::Interval;
use crate::config::values::{LogFormat, ViewName};
use crate::error::{Error, Result};

/// Loader threads at most: beyond it is a typing error, which the system would not survive.
const MOST_WORKERS: usize = 4096;

/// What a run may change between stop and resume: it does not touch the outcome.
#[derive(Args, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunOptions {
    /// Folder for checkpoints, log and chart
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    pub out: PathBuf,

    /// What to train on: `cpu`, or an NVIDIA GPU as `cuda`, `cuda:1` (in builds with it)
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    pub device: DeviceName,

    /// Threads that decode and augment [default: one a core]
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Logs to write beside `log.jsonl`
    #[arg(long, value_enum, value_name = "FORMAT", value_delimiter = ',')]
    pub log: Vec<LogFormat>,

    /// What the terminal shows meanwhile
    #[arg(long, value_enum, default_value_t = ViewName::Bar)]
    pub view: ViewName,

    /// Evaluate every `1ep` (pass over the data), `500st` (steps) or `10%` (of the compute), and at the end
    #[arg(long, value_name = "SPAN", default_value = "1ep")]
    pub eval_every: Interval,

    /// Save every `1ep`, `500st` or `10%`, and at the end
    #[arg(long, value_name = "SPAN", default_value = "1ep")]
    pub checkpoint_every: Interval,

    /// Save also when the last checkpoint is this old, in minutes
    #[arg(long, value_name = "MINUTES")]
    pub checkpoint_minutes: Option<f64>,

    /// Checkpoints to keep, the newest included, in `checkpoints` where there is more than one
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub keep_last: u32,

    /// Checkpoints of the best evaluations to keep, in `checkpoints`; the best one is also `best.safetensors`
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub keep_best: u32,

    /// Stop after this many optimizer steps of the run, saving a checkpoint to resume from
    #[arg(long, value_name = "N")]
    pub stop_after: Option<u64>,

    /// Keep of each block its input alone and run it again in the backward pass: less memory, more time, the same
    /// numbers
    #[arg(long)]
    pub checkpoint_activations: bool,

    /// Memory that the replay buffer may take, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 8192)]
    pub max_replay_mib: u32,

    /// Unreadable images to tolerate before the run stops; each is named once and replaced by the next
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_bad_images: usize,
}

impl RunOptions {
    /// That every value is in its range.
    ///
    /// # Errors
    /// Names the option and what was expected.
    pub fn check(&self) -> Result<()> {
        if self.keep_last == 0 {
            return Err(Error::config(
                "keep-last",
                "expected 1 or more: the newest checkpoint is always kept",
            ));
        }
        if let Some(workers) = self.workers.filter(|n| !(1..=MOST_WORKERS).contains(n)) {
            let what = format!("expected 1 to {MOST_WORKERS} threads, got {workers}");
            return Err(Error::config("workers", what));
        }
        // A year; beyond it, a clock of the standard library may overflow.
        match self.checkpoint_minutes {
            Some(minutes) if !(minutes > 0.0 && minutes <= 525_600.0) => {
                let what = format!("expected minutes above 0 and at most 525600, got {minutes}");
                Err(Error::config("checkpoint-minutes", what))
            }
            _ => Ok(()),
        }
    }

    /// That the replay buffer of every stage has room in [`Self::max_replay_mib`].
    ///
    /// # Errors
    /// Names the first stage whose buffer has not, and what it would take.
    pub fn check_replay(&self, plan: &Plan) -> Result<()> {
        let limit = u128::from(self.max_replay_mib) << 20;
        let Some(stage) = (0..plan.stages().len()).find(|&stage| plan.replay_bytes(stage) > limit) else {
            return Ok(());
        };
        let s = &plan.stages()[stage];
        let what = format!(
            "the replay buffer of stage {} takes {} MiB ({} batches of {} images of {} x {} pixels), more than the {} \
             allowed; raise it, or lower option `replay-batches` or option `batch`",
            stage + 1,
            plan.replay_bytes(stage).div_ceil(1 << 20),
            plan.replay_batches(stage),
            s.batch_per_device / s.replay.times,
            s.size,
            s.size,
            self.max_replay_mib
        );
        Err(Error::config("max-replay-mib", what))
    }

    /// Number of loader threads.
    pub fn workers(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        self.workers.unwrap_or_else(cores).max(1)
    }

    /// Share of the loader threads' time, over a span, that they were busy for `seconds` of.
    pub(crate) fn load(&self, seconds: f64, span: Duration) -> f64 {
        seconds / (self.workers() as f64 * span.as_secs_f64()).max(1e-9)
    }
}
