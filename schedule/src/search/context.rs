//! A read-only view of a search, shared by the engine and both algorithms.

use crate::search::ledger::Ledger;
use crate::search::options::SearchOptions;
use crate::search::outcome::{Candidate, Verdict};
use crate::search::skeleton::Skeleton;
use crate::search::space::Choice;
use crate::search::strategy::StageDecision;
use crate::search::trial::{FinishedTrial, TrialId, TrialPart};

/// Settings and reports of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SearchContext<'a> {
    pub(crate) options: &'a SearchOptions,
    pub(crate) skeleton: &'a Skeleton,
    pub(crate) finished: &'a [FinishedTrial],
}

/// The candidates of a stage, split by whether the decided stages permit them.
pub(crate) struct StageCandidates {
    pub(crate) allowed: Vec<usize>,
    pub(crate) ruled_out: Vec<Candidate>,
}

impl<'a> SearchContext<'a> {
    pub(crate) fn ledger(&self) -> Ledger<'a> {
        Ledger { finished: self.finished, retries: self.options.retries }
    }

    /// Identities of the trials of some candidates of a stage, one for each seed.
    pub(crate) fn ids(&self, stage: usize, candidates: &[usize], part: TrialPart) -> Vec<TrialId> {
        let seeds = self.options.seeds.len();
        let of = |&candidate: &usize| {
            (0..seeds).map(move |seed| TrialId { stage: Some(stage), candidate, seed, part })
        };
        candidates.iter().flat_map(of).collect()
    }

    pub(crate) fn choice(&self, candidate: usize) -> Choice {
        self.skeleton.choices[candidate]
    }

    /// Summarizes the trials of a candidate; all of them must be reported.
    pub(crate) fn measured(&self, stage: usize, candidate: usize, part: TrialPart) -> Candidate {
        let ids = self.ids(stage, &[candidate], part);
        self.ledger().candidate(candidate, self.choice(candidate), ids)
    }

    /// A candidate without trials.
    pub(crate) fn untried(&self, candidate: usize, verdict: Verdict) -> Candidate {
        Candidate::without(candidate, self.choice(candidate), verdict)
    }

    /// Splits the candidates of the next stage by whether the decided stages permit them.
    pub(crate) fn candidates(&self, decided: &[StageDecision]) -> StageCandidates {
        let size =
            |d: &StageDecision| d.pick.map_or(self.skeleton.base_size(), |picked| self.choice(picked).size);
        let least = if self.options.growing { decided.last().map_or(0, size) } else { 0 };
        let all = 0..self.skeleton.choices.len();
        let (allowed, rest): (Vec<usize>, Vec<usize>) =
            all.partition(|&candidate| self.choice(candidate).size >= least);
        let ruled_out = rest.into_iter().map(|c| self.untried(c, Verdict::NotTried)).collect();
        StageCandidates { allowed, ruled_out }
    }
}
