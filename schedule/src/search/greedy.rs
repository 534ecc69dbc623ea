//! Algorithm 1: the smallest size a stage can have without lowering the accuracy at the end of the
//! run.

use crate::error::{Result, ScheduleError};
use crate::search::context::{SearchContext, StageCandidates};
use crate::search::outcome::{Candidate, Verdict};
use crate::search::space::Choice;
use crate::search::strategy::{StageDecision, StageStatus, Strategy};
use crate::search::tie::Measured;
use crate::search::trial::{SavedState, Trial, TrialId, TrialPart};

/// Rules of the algorithm, taken from the options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Greedy {
    /// Number of candidates that are handed out together.
    pub(crate) at_once: u32,
}

impl Strategy for Greedy {
    fn stage(
        &self,
        context: &SearchContext<'_>,
        stage: usize,
        decided: &[StageDecision],
    ) -> Result<StageStatus> {
        let missing = context.ledger().missing(&baseline_ids(context));
        if !missing.is_empty() {
            return Ok(StageStatus::Pending(self.trials(context, missing, &[])?));
        }
        let target = measured_baseline(context)?;
        let StageCandidates { allowed, ruled_out: mut candidates } = context.candidates(decided);
        // Full size needs no trial: the curriculum decided so far was measured with it.
        let (full, smaller): (Vec<usize>, Vec<usize>) =
            allowed.into_iter().partition(|&candidate| context.skeleton.is_full(candidate));
        let mut found = None;
        for group in smaller.chunks(self.at_once as usize) {
            if found.is_some() {
                candidates.extend(group.iter().map(|&c| context.untried(c, Verdict::NotTried)));
                continue;
            }
            let missing = context.ledger().missing(&context.ids(stage, group, TrialPart::Whole));
            if !missing.is_empty() {
                return Ok(StageStatus::Pending(self.trials(context, missing, decided)?));
            }
            for &candidate in group {
                let measured = context.measured(stage, candidate, TrialPart::Whole);
                candidates.push(judge(measured, context, &target, &mut found));
            }
        }
        let verdict = if found.is_none() { Verdict::Chosen } else { Verdict::NotTried };
        candidates.extend(full.into_iter().map(|candidate| context.untried(candidate, verdict.clone())));
        candidates.sort_by_key(|c| c.candidate);
        let pick = found.as_ref().map(|found| found.candidate);
        let tied = found.is_some_and(|found| found.tied);
        Ok(StageStatus::Decided(StageDecision { pick, candidates, tied }))
    }

    /// Trains from the end of the stage before to the end of the run, later stages at full size.
    fn trial(&self, context: &SearchContext<'_>, id: TrialId, decided: &[StageDecision]) -> Result<Trial> {
        let skeleton = context.skeleton;
        let mut picks: Vec<Option<usize>> = Vec::new();
        if let Some(stage) = id.stage {
            picks.extend(decided[..stage].iter().map(|d| d.pick));
            picks.push(Some(id.candidate));
        }
        let plan = skeleton.plan(&picks)?;
        let stage = id.stage.unwrap_or(0);
        let first = plan.stages()[stage].first_step;
        let start =
            (stage > 0).then(|| SavedState { trial: self.owner(&decided[..stage], id.seed), step: first });
        let keep = plan.stages()[stage..].iter().map(|s| s.first_step + s.steps).collect();
        let choice = match id.stage {
            Some(_) => context.choice(id.candidate),
            None => Choice::of_size(skeleton.base_size()),
        };
        let (steps, seed) = (first..plan.total_steps(), context.options.seeds[id.seed]);
        Ok(Trial { id, choice, seed, start, plan, steps, keep, fine_tune: None })
    }

    fn last_part(&self) -> TrialPart {
        TrialPart::Whole
    }

    fn baseline(&self, context: &SearchContext<'_>) -> Result<Option<Measured>> {
        if !context.ledger().missing(&baseline_ids(context)).is_empty() {
            return Ok(None);
        }
        measured_baseline(context).map(Some)
    }
}

/// The first candidate that is good enough.
struct Found {
    candidate: usize,
    /// The candidate is tied with plain training.
    tied: bool,
}

/// Compares a measured candidate with plain training.
fn judge(
    mut candidate: Candidate,
    context: &SearchContext<'_>,
    target: &Measured,
    found: &mut Option<Found>,
) -> Candidate {
    let Some(measured) = candidate.measured else { return candidate };
    let tied = context.options.tie.is_tie(&measured, target);
    if !tied && measured.mean <= target.mean {
        return candidate;
    }
    if found.is_some() {
        candidate.verdict = Verdict::Tied;
    } else {
        candidate.verdict = Verdict::Chosen;
        *found = Some(Found { candidate: candidate.candidate, tied });
    }
    candidate
}

/// Identities of the trials of plain training.
fn baseline_ids(context: &SearchContext<'_>) -> Vec<TrialId> {
    let seeds = 0..context.options.seeds.len();
    seeds.map(|seed| TrialId { stage: None, candidate: 0, seed, part: TrialPart::Whole }).collect()
}

/// Accuracy of plain training, which must not be lowered; its trials must be reported.
fn measured_baseline(context: &SearchContext<'_>) -> Result<Measured> {
    let accuracies = context.ledger().accuracies(baseline_ids(context));
    let accuracies = accuracies.map_err(|reason| ScheduleError::NoCandidate { stage: 0, reason })?;
    Ok(Measured::of(&accuracies))
}
