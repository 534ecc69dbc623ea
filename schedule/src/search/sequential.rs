//! Algorithm 2: stage after stage, each from the best checkpoint of the one before.

use crate::error::{Result, ScheduleError};
use crate::search::engine::{Decided, Search, Step};
use crate::search::options::{EarlyStop, FineTune};
use crate::search::outcome::{Candidate, Verdict};
use crate::search::tie::{Measured, Prefer, TieRule};
use crate::search::trial::{Part, SavedState, Trial, TrialId};

/// Rules of the algorithm, as the options have them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequential {
    pub(crate) fine_tune: FineTune,
    pub(crate) early_stop: Option<EarlyStop>,
}

impl Sequential {
    /// The next trials of a stage, or its decision.
    pub(crate) fn stage(self, search: &Search, stage: usize, decided: &[Decided]) -> Result<Step> {
        let ledger = search.ledger();
        let (allowed, mut candidates) = search.allowed(decided);
        let mut survivors = allowed;
        for part in self.parts() {
            let ids = search.ids(stage, &survivors, part);
            let missing = ledger.missing(&ids);
            if !missing.is_empty() {
                let trials = missing.into_iter().map(|id| self.trial(search, id, decided));
                return Ok(Step::Run(trials.collect::<Result<_>>()?));
            }
            let measured = survivors.iter().map(|&candidate| search.measured(stage, candidate, part));
            let mut measured: Vec<Candidate> = measured.collect();
            if part == Part::Probe {
                give_up(&mut measured, self.early_stop.map_or(f64::MAX, |rule| rule.margin));
                survivors =
                    measured.iter().filter(|c| c.verdict == Verdict::Worse).map(|c| c.candidate).collect();
                measured.retain(|c| c.verdict != Verdict::Worse);
            }
            candidates.append(&mut measured);
        }
        let (winner, tied) = choose(&mut candidates, search.options().tie)
            .ok_or_else(|| ScheduleError::NoCandidate { stage, reason: reasons(&candidates) })?;
        candidates.sort_by_key(|c| c.candidate);
        Ok(Step::Decided(Decided { pick: Some(winner), candidates, tied }))
    }

    fn parts(self) -> impl Iterator<Item = Part> {
        let parts: &[Part] =
            if self.early_stop.is_some() { &[Part::Probe, Part::Rest] } else { &[Part::Whole] };
        parts.iter().copied()
    }

    /// The part whose end is the end of the stage.
    pub(crate) fn last_part(self) -> Part {
        if self.early_stop.is_some() { Part::Rest } else { Part::Whole }
    }

    pub(crate) fn trial(self, search: &Search, id: TrialId, decided: &[Decided]) -> Result<Trial> {
        let stage = id.stage.unwrap_or(0);
        let mut picks: Vec<Option<usize>> = decided[..stage].iter().map(|d| d.pick).collect();
        let before = picks.last().copied().flatten();
        picks.push(Some(id.candidate));
        let plan = search.frame().plan(&picks)?;
        let (first, steps) = (plan.stages()[stage].first_step, plan.stages()[stage].steps);
        let end = first + steps;
        let probed = self.early_stop.map_or(end, |rule| {
            let part = (steps as f64 * rule.after).round() as u64;
            first + part.clamp(1, steps.saturating_sub(1).max(1))
        });
        let continued = before.map(|candidate| SavedState {
            trial: TrialId { stage: stage.checked_sub(1), candidate, part: self.last_part(), ..id },
            step: first,
        });
        let (start, range) = match id.part {
            Part::Whole => (continued, first..end),
            Part::Probe => (continued, first..probed),
            Part::Rest => {
                (Some(SavedState { trial: TrialId { part: Part::Probe, ..id }, step: probed }), probed..end)
            }
        };
        let fine_tune = search.frame().fine_tune(self.fine_tune, &plan, range.end)?;
        let keep = vec![range.end];
        let (choice, seed) = (search.frame().choices[id.candidate], search.options().seeds[id.seed]);
        Ok(Trial { id, choice, seed, start, plan, steps: range, keep, fine_tune })
    }
}

/// Gives up the candidates that lie too far behind the best.
fn give_up(candidates: &mut [Candidate], margin: f64) {
    let best = candidates.iter().filter_map(|c| c.measured).map(|m| m.mean).fold(f64::MIN, f64::max);
    for candidate in candidates {
        if candidate.measured.is_some_and(|measured| best - measured.mean > margin) {
            candidate.verdict = Verdict::GivenUp;
        }
    }
}

/// Marks the winner and those it cannot be told apart from; gives the winner, and whether there was a tie.
fn choose(candidates: &mut [Candidate], tie: TieRule) -> Option<(usize, bool)> {
    let in_the_race = |c: &&mut Candidate| c.verdict == Verdict::Worse;
    let means = candidates.iter().filter(|c| c.verdict == Verdict::Worse).filter_map(|c| c.measured);
    let best: Measured = means.reduce(|best, m| if m.mean > best.mean { m } else { best })?;
    let mut tied: Vec<&mut Candidate> = candidates
        .iter_mut()
        .filter(in_the_race)
        .filter(|c| c.measured.is_some_and(|m| tie.is_tie(&m, &best)))
        .collect();
    tied.iter_mut().for_each(|c| c.verdict = Verdict::Tied);
    let count = tied.len();
    let winner = match tie.prefer {
        Prefer::Smaller => tied.into_iter().min_by_key(|c| c.candidate),
        Prefer::Larger => tied.into_iter().max_by_key(|c| c.candidate),
        Prefer::Best => tied.into_iter().find(|c| c.measured.is_some_and(|m| m.mean == best.mean)),
    }?;
    winner.verdict = Verdict::Chosen;
    Some((winner.candidate, count > 1))
}

/// Why nothing is left: the failures, one after another.
pub(crate) fn reasons(candidates: &[Candidate]) -> String {
    let failed = candidates.iter().filter_map(|c| match &c.verdict {
        Verdict::Failed(reason) => Some(reason.as_str()),
        _ => None,
    });
    failed.collect::<Vec<_>>().join("; ")
}
