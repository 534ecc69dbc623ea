//! Algorithm 1: the smallest size a stage can have without lowering the accuracy at the end of the run.

use crate::error::{Result, ScheduleError};
use crate::search::engine::{Decided, Search, Step};
use crate::search::outcome::Verdict;
use crate::search::tie::Measured;
use crate::search::trial::{Part, SavedState, Trial, TrialId};

/// Plain training: the accuracy that must not be lowered.
pub(crate) fn baseline_ids(search: &Search) -> Vec<TrialId> {
    let seeds = 0..search.options().seeds.len();
    seeds.map(|seed| TrialId { stage: None, candidate: 0, seed, part: Part::Whole }).collect()
}

/// Plain training's trials, or its accuracy.
pub(crate) fn baseline(search: &Search) -> Result<std::result::Result<Measured, Vec<Trial>>> {
    let ids = baseline_ids(search);
    let missing = search.ledger().missing(&ids);
    if !missing.is_empty() {
        return missing.into_iter().map(|id| trial(search, id, &[])).collect::<Result<_>>().map(Err);
    }
    match search.ledger().accuracies(ids) {
        Ok(accuracies) => Ok(Ok(Measured::of(&accuracies))),
        Err(reason) => Err(ScheduleError::NoCandidate { stage: 0, reason }),
    }
}

/// The next trials of a stage, or its decision. `target` is what plain training reaches.
pub(crate) fn stage(
    search: &Search,
    at_once: u32,
    target: Measured,
    stage: usize,
    decided: &[Decided],
) -> Result<Step> {
    let (ledger, tie) = (search.ledger(), search.options().tie);
    let (allowed, mut candidates) = search.allowed(decided);
    let (mut pick, mut tied) = (None, false);
    // Full size needs no trial: the curriculum as it stands has it.
    let smaller: Vec<usize> = allowed.iter().copied().filter(|&c| !search.frame().is_full(c)).collect();
    for group in smaller.chunks(at_once as usize) {
        if pick.is_some() {
            candidates.extend(group.iter().map(|&c| search.untried(c, Verdict::NotTried)));
            continue;
        }
        let missing = ledger.missing(&search.ids(stage, group, Part::Whole));
        if !missing.is_empty() {
            let trials = missing.into_iter().map(|id| trial(search, id, decided));
            return Ok(Step::Run(trials.collect::<Result<_>>()?));
        }
        for &index in group {
            let mut candidate = search.measured(stage, index, Part::Whole);
            if let Some(measured) = candidate.measured {
                let equal = tie.is_tie(&measured, &target);
                if equal || measured.mean > target.mean {
                    candidate.verdict = if pick.is_none() { Verdict::Chosen } else { Verdict::Tied };
                    if pick.is_none() {
                        (pick, tied) = (Some(index), equal);
                    }
                }
            }
            candidates.push(candidate);
        }
    }
    for full in allowed.into_iter().filter(|&c| search.frame().is_full(c)) {
        let verdict = if pick.is_none() { Verdict::Chosen } else { Verdict::NotTried };
        candidates.push(search.untried(full, verdict));
    }
    candidates.sort_by_key(|c| c.candidate);
    Ok(Step::Decided(Decided { pick, candidates, tied }))
}

/// The run that the present curriculum comes from: it passed all later stages at full size.
pub(crate) fn owner(decided: &[Decided], seed: usize) -> TrialId {
    let last = decided.iter().enumerate().rev().find_map(|(stage, d)| Some((stage, d.pick?)));
    let (stage, candidate) = last.map_or((None, 0), |(stage, candidate)| (Some(stage), candidate));
    TrialId { stage, candidate, seed, part: Part::Whole }
}

/// A whole run from the end of the stage before on.
pub(crate) fn trial(search: &Search, id: TrialId, decided: &[Decided]) -> Result<Trial> {
    let frame = search.frame();
    let mut picks: Vec<Option<usize>> = Vec::new();
    if let Some(stage) = id.stage {
        picks.extend(decided[..stage].iter().map(|d| d.pick));
        picks.push(Some(id.candidate));
    }
    let plan = frame.plan(&picks)?;
    let stage = id.stage.unwrap_or(0);
    let first = plan.stages()[stage].first_step;
    let start = (stage > 0).then(|| SavedState { trial: owner(&decided[..stage], id.seed), step: first });
    let keep = plan.stages()[stage..].iter().map(|s| s.first_step + s.steps).collect();
    let choice = match id.stage {
        Some(_) => frame.choices[id.candidate],
        None => crate::search::Choice::of_size(frame.base_size()),
    };
    let (steps, seed) = (first..plan.total_steps(), search.options().seeds[id.seed]);
    Ok(Trial { id, choice, seed, start, plan, steps, keep, fine_tune: None })
}
