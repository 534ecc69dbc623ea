//! Whether the steps of a plan fit into the memory of the host. Otherwise, a size that comes late in
//! the plan would end the run after hours, and systems do that without a message.

use efficienttrain_schedule::Plan;

use crate::config::precision::Precision;
use crate::error::{Error, Result};
use crate::run::checks::stages;
use crate::training::network::Network;
use crate::training::state::TrainState;
use crate::util::host_memory::{HostMemory, host_memory};
use crate::util::units::mib;

/// A step, and the memory that it takes at least.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StepMemory {
    bytes: u64,
    batch: u64,
    size: u64,
}

impl StepMemory {
    /// Returns what a pass of `batch` images through `network` takes at least: the weights with all
    /// that belongs to them, the images, and what the backward pass needs. Peaks are 10 to 45%
    /// higher.
    ///
    /// # Errors
    /// Returns an error if the network's layers are incompatible.
    pub(crate) fn at_least(state: &TrainState, network: &Network, batch: u64) -> Result<Self> {
        let [height, width] = network.input_size().map(|edge| edge as u64);
        let values = height.saturating_mul(width).saturating_mul(network.in_channels() as u64);
        let kept = match (state.checkpoint_activations, state.precision) {
            // Not even those of a single block are counted then.
            (true, _) => 0,
            (false, Precision::F32 | Precision::Tf32) => state.objective.cost(network)?.activation_bytes,
            (false, Precision::Bf16 | Precision::F16) => state.objective.cost(network)?.activation_bytes / 2,
        };
        let each = values.saturating_mul(4).saturating_add(kept);
        let weights = state.stored_bytes().saturating_add(state.weight_bytes());
        Ok(Self { bytes: each.saturating_mul(batch).saturating_add(weights), batch, size: height.max(width) })
    }

    /// Returns the largest step of a plan.
    ///
    /// # Errors
    /// Returns an error if the model does not support a size.
    pub(crate) fn largest(state: &TrainState, plan: &Plan) -> Result<Option<Self>> {
        let mut kinds: Vec<(u32, u32)> =
            stages(plan).map(|(_, stage)| (stage.size, stage.batch_per_device)).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let step = |(size, batch): (u32, u32)| {
            let (network, _) = state.model.at_size([size as usize; 2])?;
            Self::at_least(state, &network, u64::from(batch))
        };
        let all = kinds.into_iter().map(step).collect::<Result<Vec<_>>>()?;
        Ok(all.into_iter().max_by_key(|step| step.bytes))
    }

    /// Checks that the memory of the host can hold the step at all.
    ///
    /// # Errors
    /// The error says how much is missing, and what takes less.
    pub(crate) fn check(&self, host: HostMemory) -> Result<()> {
        if self.bytes <= host.total.saturating_add(host.swap) {
            return Ok(());
        }
        let what = format!(
            "{self}, and there are {} MiB here, swap space included; give a smaller one (option `accumulation` makes up for \
             it), option `checkpoint-activations`, option `precision` bf16, or a smaller option `base-size` or `model`",
            mib(host.total.saturating_add(host.swap))
        );
        Err(Error::config("batch", what))
    }

    /// Returns a warning if the step needs memory that is not free at present.
    pub(crate) fn warning(&self, host: HostMemory) -> Option<String> {
        (self.bytes > host.free).then(|| {
            format!(
                "option `batch`: {self}, and {} MiB are free now; the system may stop the run when it gets there",
                mib(host.free)
            )
        })
    }
}

impl std::fmt::Display for StepMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bytes, batch, size } = self;
        write!(f, "a pass of {batch} images of {size} pixels takes at least {} MiB of memory", mib(*bytes))
    }
}

/// Returns the largest step of a plan if it runs on a host whose memory is known: a GPU says itself
/// that its memory is full.
///
/// # Errors
/// Same as [`StepMemory::largest`].
pub(crate) fn largest_on_host(state: &TrainState, plan: &Plan) -> Result<Option<(StepMemory, HostMemory)>> {
    if !state.device().is_cpu() {
        return Ok(None);
    }
    Ok(StepMemory::largest(state, plan)?.zip(host_memory()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: StepMemory = StepMemory { bytes: 3000 << 20, batch: 64, size: 224 };

    #[test]
    fn a_step_is_refused_where_it_can_never_fit_and_told_where_it_may_not() {
        let host = |total: u64, free: u64, swap: u64| HostMemory {
            total: total << 20,
            free: free << 20,
            swap: swap << 20,
        };
        assert!(STEP.check(host(2000, 2000, 1000)).is_ok());
        let error = STEP.check(host(2000, 2000, 999)).unwrap_err().to_string();
        for part in ["`batch`", "64 images of 224 pixels", "at least 3000 MiB", "2999 MiB", "accumulation"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert_eq!(STEP.warning(host(9000, 3000, 0)), None);
        assert!(STEP.warning(host(9000, 2999, 0)).unwrap().contains("2999 MiB are free now"));
    }
}
