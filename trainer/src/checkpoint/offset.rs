//! Offset between a run and its plan.

use serde::{Deserialize, Serialize};

/// Offset of a run's own counts from its plan's. Both are 0 unless the plan was changed during the
/// run (`--allow-change batch`), or the run started in the middle of another's sample order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOffset {
    /// Optimizer steps.
    pub steps: i64,
    /// Samples taken from the sample order.
    pub samples: i64,
}

impl PlanOffset {
    /// Returns the step of the plan that is the run's `step`.
    pub(crate) fn plan_step(self, step: u64) -> u64 {
        step.saturating_add_signed(self.steps.saturating_neg())
    }

    /// Returns the position in the sample order of the plan's `sample`.
    pub(crate) fn sample(self, sample: u64) -> u64 {
        sample.saturating_add_signed(self.samples)
    }
}
