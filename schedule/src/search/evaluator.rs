//! The interface to the training behind a search.

use crate::error::Result;
use crate::search::engine::Search;
use crate::search::outcome::Outcome;
use crate::search::trial::{Report, Trial};
use std::ops::ControlFlow;

/// Trains trials and measures them; keeps the states they ask for.
///
/// A search is repeatable only if the same trial always gives the same accuracy.
pub trait Evaluator {
    /// Runs one trial. A break stops the search, which can be resumed; the trial then counts as not
    /// run.
    fn evaluate(&mut self, trial: &Trial) -> ControlFlow<(), Report>;

    /// Called after each report, to store the search and to delete states that
    /// [`Search::needed_states`] does not list.
    fn reported(&mut self, _search: &Search) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl Search {
    /// Runs the trials one after the other until the end, or until the evaluator stops (`None`).
    /// For several machines, hand out [`Search::pending_trials`] instead and [`Search::report`] in
    /// any order.
    ///
    /// # Errors
    /// Returns the errors of [`Search::pending_trials`].
    pub fn run(&mut self, evaluator: &mut (impl Evaluator + ?Sized)) -> Result<Option<Outcome>> {
        // One at a time, so that a failed trial is repeated at the same point whether or not the
        // search was stopped.
        while let Some(trial) = self.pending_trials()?.into_iter().next() {
            let ControlFlow::Continue(report) = evaluator.evaluate(&trial) else { return Ok(None) };
            self.report(trial.id, report)?;
            if evaluator.reported(self).is_break() {
                return Ok(None);
            }
        }
        self.outcome()
    }
}
