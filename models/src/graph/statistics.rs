//! Batch statistics of a pass that wait to be blended into the running ones.

use std::sync::{Arc, Mutex, PoisonError};

use super::Context;
use crate::Result;
use crate::ops::{BatchStatistics, increment};
use crate::params::{ParamId, ParamStore};

/// Batch statistics of one batch norm in one pass, and the running statistics that they belong to.
#[derive(Clone, Debug)]
pub struct ObservedStatistics {
    /// Mean and variance of each channel.
    pub statistics: BatchStatistics,
    pub(crate) running_mean: ParamId,
    pub(crate) running_var: ParamId,
    pub(crate) num_batches_tracked: ParamId,
    pub(crate) momentum: f64,
}

impl ObservedStatistics {
    /// Returns the same with the statistics of another batch.
    #[must_use]
    pub fn with_statistics(&self, statistics: BatchStatistics) -> Self {
        Self { statistics, ..self.clone() }
    }

    /// Moves the running statistics in `params` towards these, and counts the batch.
    ///
    /// # Errors
    /// When the statistics are of fewer than two values a channel.
    pub fn apply(&self, params: &ParamStore) -> Result<()> {
        let running = [self.running_mean, self.running_var].map(|id| params.get(id));
        self.statistics.observe(running[0], running[1], self.momentum)?;
        increment(params.get(self.num_batches_tracked))
    }
}

/// Statistics of the batch norms of passes, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
pub struct StatisticsLog(Arc<Mutex<Vec<ObservedStatistics>>>);

impl StatisticsLog {
    /// Takes what has been written down so far.
    pub fn take(&self) -> Vec<ObservedStatistics> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, observed: ObservedStatistics) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(observed);
    }
}

impl Context<'_> {
    /// Writes the statistics of batch norms to `log` instead of blending them into the running ones,
    /// so that those of several processes can be applied in one order.
    #[must_use]
    pub fn with_statistics_log(mut self, log: StatisticsLog) -> Self {
        self.statistics_log = Some(log);
        self
    }

    /// Takes note of batch statistics, unless this is the second run of a block.
    pub(crate) fn observe_statistics(&self, observed: ObservedStatistics) -> Result<()> {
        match &self.statistics_log {
            _ if !self.observes() => Ok(()),
            Some(log) => {
                log.push(observed);
                Ok(())
            }
            None => observed.apply(self.params),
        }
    }
}
