//! The interface between the search engine and its two algorithms.

use crate::error::Result;
use crate::search::context::SearchContext;
use crate::search::outcome::Candidate;
use crate::search::tie::Measured;
use crate::search::trial::{Trial, TrialId, TrialPart};

/// The decision on one stage.
#[derive(Debug, Clone)]
pub(crate) struct StageDecision {
    /// Index of the chosen candidate; none leaves the stage at full size.
    pub(crate) pick: Option<usize>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) tied: bool,
}

/// State of one stage, as far as the reports determine it.
pub(crate) enum StageStatus {
    /// These trials must run before the stage can be decided.
    Pending(Vec<Trial>),
    Decided(StageDecision),
}

/// A search algorithm: a function of the reports so far, one stage after the other.
pub(crate) trait Strategy {
    /// Returns the next trials of a stage or, when all are reported, its decision.
    fn stage(
        &self,
        context: &SearchContext<'_>,
        stage: usize,
        decided: &[StageDecision],
    ) -> Result<StageStatus>;

    /// Describes the trial with the given identity, after the decisions on the stages before it.
    fn trial(&self, context: &SearchContext<'_>, id: TrialId, decided: &[StageDecision]) -> Result<Trial>;

    /// Part of a stage whose trial ends at the end of the stage.
    fn last_part(&self) -> TrialPart;

    /// Accuracy of plain training, if the algorithm measures it.
    fn baseline(&self, _context: &SearchContext<'_>) -> Result<Option<Measured>> {
        Ok(None)
    }

    /// Describes several trials.
    fn trials(
        &self,
        context: &SearchContext<'_>,
        ids: Vec<TrialId>,
        decided: &[StageDecision],
    ) -> Result<Vec<Trial>> {
        ids.into_iter().map(|id| self.trial(context, id, decided)).collect()
    }

    /// Identity of the trial that left behind the states of the curriculum decided so far.
    fn owner(&self, decided: &[StageDecision], seed: usize) -> TrialId {
        let last = decided.iter().enumerate().rev().find_map(|(stage, d)| Some((stage, d.pick?)));
        let (stage, candidate) = last.map_or((None, 0), |(stage, candidate)| (Some(stage), candidate));
        TrialId { stage, candidate, seed, part: self.last_part() }
    }
}
