//! The reports so far.

use crate::search::outcome::{Candidate, Verdict};
use crate::search::space::Choice;
use crate::search::tie::Measured;
use crate::search::trial::{FinishedTrial, Report, TrialId};

/// State of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Status<'a> {
    /// To be run, perhaps again.
    Missing,
    Accuracy(f64),
    Failed(&'a str),
}

/// All reports, in the order in which they came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ledger<'a> {
    pub(crate) finished: &'a [FinishedTrial],
    pub(crate) retries: u32,
}

impl<'a> Ledger<'a> {
    pub(crate) fn status(&self, id: TrialId) -> Status<'a> {
        let mut failures = 0;
        for entry in self.finished.iter().filter(|entry| entry.id == id) {
            match &entry.report {
                Report::Accuracy(accuracy) => return Status::Accuracy(*accuracy),
                Report::Failed(reason) if failures == self.retries => return Status::Failed(reason),
                Report::Failed(_) => failures += 1,
            }
        }
        Status::Missing
    }

    pub(crate) fn missing(&self, ids: &[TrialId]) -> Vec<TrialId> {
        ids.iter().copied().filter(|&id| self.status(id) == Status::Missing).collect()
    }

    /// Accuracies of trials that are all done, or why one failed.
    pub(crate) fn accuracies(&self, ids: impl IntoIterator<Item = TrialId>) -> Result<Vec<f64>, String> {
        let one = |id: TrialId| match self.status(id) {
            Status::Accuracy(accuracy) => Ok(accuracy),
            Status::Failed(reason) => Err(format!("{id}: {reason}")),
            Status::Missing => Err(format!("{id}: not run")),
        };
        ids.into_iter().map(one).collect()
    }

    /// A candidate whose trials are done, not yet compared with others.
    pub(crate) fn candidate(&self, candidate: usize, choice: Choice, ids: Vec<TrialId>) -> Candidate {
        match self.accuracies(ids) {
            Ok(accuracies) => {
                let measured = Some(Measured::of(&accuracies));
                Candidate { candidate, choice, accuracies, measured, verdict: Verdict::Worse }
            }
            Err(reason) => Candidate::without(candidate, choice, Verdict::Failed(reason)),
        }
    }
}
