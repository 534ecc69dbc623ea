//! Learning-rate curves after the warm-up.

use crate::cosine::cosine_in_compute;
use crate::error::{Result, field, positive};
use serde::{Deserialize, Serialize};

/// A length of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunLength {
    /// Passes over the data, as decoded: replayed images do not count.
    Epochs(f64),
    /// Optimizer steps.
    Steps(u64),
    /// Share of the run's compute, 0 to 1.
    Share(f64),
}

/// Shape of the learning rate after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LrCurve {
    /// Half a cosine over the run's compute (the authors').
    #[default]
    Cosine,
    /// A straight line over the run's compute.
    Linear,
    /// The peak until the end.
    Constant,
    /// The peak times `factor` after each `every`, counted from the start of the run; not below the
    /// last value.
    Step {
        /// Factor of each step, above 0 and at most 1.
        factor: f64,
        /// Distance between two steps.
        every: RunLength,
    },
}

/// Completed part of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RunProgress {
    /// Optimizer steps.
    pub steps: u64,
    /// Passes over the data.
    pub epochs: f64,
    /// Share of the compute, 0 to 1.
    pub compute: f64,
}

impl LrCurve {
    /// Returns the learning rate at a point of a run: linear from 0 to `peak` over the first
    /// `warm_up` (a share of the compute), then this curve towards `last`.
    #[must_use]
    pub fn at(self, peak: f64, last: f64, warm_up: f64, now: RunProgress) -> f64 {
        if self == Self::Cosine || now.compute < warm_up || warm_up >= 1.0 {
            return cosine_in_compute(peak, last, warm_up, now.compute);
        }
        match self {
            Self::Cosine | Self::Constant => peak,
            Self::Linear => peak + (last - peak) * (now.compute - warm_up) / (1.0 - warm_up),
            Self::Step { factor, every } => {
                let times = match every {
                    RunLength::Epochs(n) => (now.epochs / n + 1e-9).floor(),
                    RunLength::Steps(n) => (now.steps / n) as f64,
                    RunLength::Share(n) => (now.compute / n + 1e-9).floor(),
                };
                (peak * factor.powf(times)).max(last)
            }
        }
    }

    pub(crate) fn validate(self) -> Result<()> {
        let Self::Step { factor, every } = self else { return Ok(()) };
        if !(factor > 0.0 && factor <= 1.0) {
            let hint = "0.1 divides by ten each time";
            return Err(field("optimizer.curve.factor", "a number above 0 and at most 1", factor, hint));
        }
        let every = match every {
            RunLength::Epochs(n) | RunLength::Share(n) => n,
            RunLength::Steps(n) => n as f64,
        };
        positive("optimizer.curve.every", every, "give a length such as 30 epochs")
    }
}
