//! Algorithm 2: stage after stage, each from the best checkpoint of the one before.

use crate::error::{Result, ScheduleError};
use crate::search::context::{SearchContext, StageCandidates};
use crate::search::options::{EarlyStop, FineTune};
use crate::search::outcome::{Candidate, Verdict};
use crate::search::strategy::{StageDecision, StageStatus, Strategy};
use crate::search::tie::{Measured, Prefer, TieRule};
use crate::search::trial::{SavedState, Trial, TrialId, TrialPart};

/// Rules of the algorithm, taken from the options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequential {
    pub(crate) fine_tune: FineTune,
    pub(crate) early_stop: Option<EarlyStop>,
}

impl Strategy for Sequential {
    fn stage(
        &self,
        context: &SearchContext<'_>,
        stage: usize,
        decided: &[StageDecision],
    ) -> Result<StageStatus> {
        let StageCandidates { allowed: mut survivors, ruled_out: mut candidates } =
            context.candidates(decided);
        for &part in self.parts() {
            let missing = context.ledger().missing(&context.ids(stage, &survivors, part));
            if !missing.is_empty() {
                return Ok(StageStatus::Pending(self.trials(context, missing, decided)?));
            }
            let measured = survivors.iter().map(|&candidate| context.measured(stage, candidate, part));
            let mut measured: Vec<Candidate> = measured.collect();
            if part == TrialPart::Probe {
                give_up(&mut measured, self.early_stop.map_or(f64::MAX, |rule| rule.margin));
                survivors =
                    measured.iter().filter(|c| c.verdict == Verdict::Worse).map(|c| c.candidate).collect();
                measured.retain(|c| c.verdict != Verdict::Worse);
            }
            candidates.append(&mut measured);
        }
        let (winner, tied) = choose(&mut candidates, context.options.tie)
            .ok_or_else(|| ScheduleError::NoCandidate { stage, reason: reasons(&candidates) })?;
        candidates.sort_by_key(|c| c.candidate);
        Ok(StageStatus::Decided(StageDecision { pick: Some(winner), candidates, tied }))
    }

    /// Trains one part of one stage, then fine-tunes at full size.
    fn trial(&self, context: &SearchContext<'_>, id: TrialId, decided: &[StageDecision]) -> Result<Trial> {
        let stage = id.stage.unwrap_or(0);
        let mut picks: Vec<Option<usize>> = decided[..stage].iter().map(|d| d.pick).collect();
        let before = picks.last().copied().flatten();
        picks.push(Some(id.candidate));
        let plan = context.skeleton.plan(&picks)?;
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
        let probe = SavedState { trial: TrialId { part: TrialPart::Probe, ..id }, step: probed };
        let (start, range) = match id.part {
            TrialPart::Whole => (continued, first..end),
            TrialPart::Probe => (continued, first..probed),
            TrialPart::Rest => (Some(probe), probed..end),
        };
        let fine_tune = context.skeleton.fine_tune(self.fine_tune, &plan, range.end)?;
        let keep = vec![range.end];
        let (choice, seed) = (context.choice(id.candidate), context.options.seeds[id.seed]);
        Ok(Trial { id, choice, seed, start, plan, steps: range, keep, fine_tune })
    }

    fn last_part(&self) -> TrialPart {
        if self.early_stop.is_some() { TrialPart::Rest } else { TrialPart::Whole }
    }
}

impl Sequential {
    fn parts(&self) -> &'static [TrialPart] {
        if self.early_stop.is_some() { &[TrialPart::Probe, TrialPart::Rest] } else { &[TrialPart::Whole] }
    }
}

/// Gives up the candidates whose mean accuracy is more than `margin` below the best.
fn give_up(candidates: &mut [Candidate], margin: f64) {
    let best = candidates.iter().filter_map(|c| c.measured).map(|m| m.mean).fold(f64::MIN, f64::max);
    for candidate in candidates {
        if candidate.measured.is_some_and(|measured| best - measured.mean > margin) {
            candidate.verdict = Verdict::GivenUp;
        }
    }
}

/// Marks the winner and the candidates tied with it. Returns the winner's index and true for a tie.
fn choose(candidates: &mut [Candidate], tie: TieRule) -> Option<(usize, bool)> {
    let not_given_up = |c: &&mut Candidate| c.verdict == Verdict::Worse;
    let means = candidates.iter().filter(|c| c.verdict == Verdict::Worse).filter_map(|c| c.measured);
    let best: Measured = means.reduce(|best, m| if m.mean > best.mean { m } else { best })?;
    let mut tied: Vec<&mut Candidate> = candidates
        .iter_mut()
        .filter(not_given_up)
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

/// Lists the failures of a stage without a usable candidate.
fn reasons(candidates: &[Candidate]) -> String {
    let failed = candidates.iter().filter_map(|c| match &c.verdict {
        Verdict::Failed(reason) => Some(reason.as_str()),
        _ => None,
    });
    failed.collect::<Vec<_>>().join("; ")
}
