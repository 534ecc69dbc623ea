//! The search itself: a function of its settings and of the reports so far, and of nothing else.

use crate::curriculum::ShareOf;
use crate::error::{Result, ScheduleError};
use crate::recipe::Recipe;
use crate::search::frame::Frame;
use crate::search::greedy;
use crate::search::ledger::Ledger;
use crate::search::options::{Algorithm, SearchOptions};
use crate::search::outcome::{Candidate, Outcome, StageOutcome, TrialRow, Verdict};
use crate::search::sequential::Sequential;
use crate::search::space::Choice;
use crate::search::tie::Measured;
use crate::search::trial::{Finished, Part, Report, SavedState, Trial, TrialId};
use serde::{Deserialize, Serialize};

/// A search for a curriculum, as far as it has come.
///
/// [`Search::batch`] gives the trials that may run now, together or one after the other; [`Search::report`] takes their
/// results. A search can be serialized after every report: it keeps its settings and the reports, and works out the rest
/// from them, so one that goes on from its stored form ends as if it had never stopped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "SearchRecord", try_from = "SearchRecord")]
pub struct Search {
    recipe: Recipe,
    options: SearchOptions,
    frame: Frame,
    finished: Vec<Finished>,
}

/// Stored form of a [`Search`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    recipe: Recipe,
    options: SearchOptions,
    finished: Vec<Finished>,
}

/// How one stage was decided; no pick leaves it at full size.
#[derive(Debug, Clone)]
pub(crate) struct Decided {
    pub(crate) pick: Option<usize>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) tied: bool,
}

/// Where a stage stands.
pub(crate) enum Step {
    Run(Vec<Trial>),
    Decided(Decided),
}

/// Where the search stands: the stages decided, and the trials that may run now (none at the end).
struct Progress {
    baseline: Option<Measured>,
    decided: Vec<Decided>,
    batch: Vec<Trial>,
}

impl Search {
    /// A search that has not begun. `recipe` gives the base size, the optimizer and, for each stage, the batch, order and
    /// replay of its own stage that holds the middle; its sizes and magnitudes are not used.
    ///
    /// # Errors
    /// A field out of range in the recipe or options; a candidate that cannot be planned (batch, cost, size); a budget
    /// that leaves a stage or the fine-tuning without an optimizer step.
    pub fn new(recipe: &Recipe, options: SearchOptions) -> Result<Self> {
        let frame = Frame::new(recipe, &options)?;
        Ok(Self { recipe: recipe.clone(), options, frame, finished: Vec::new() })
    }

    /// The settings.
    #[must_use]
    pub fn options(&self) -> &SearchOptions {
        &self.options
    }

    /// The reports so far.
    #[must_use]
    pub fn finished(&self) -> &[Finished] {
        &self.finished
    }

    /// The trials that may run now, in any order or together; none when the search is done.
    ///
    /// # Errors
    /// [`ScheduleError::NoCandidate`] when every candidate of a stage failed.
    pub fn batch(&self) -> Result<Vec<Trial>> {
        Ok(self.progress()?.batch)
    }

    /// Takes the result of a trial of the present batch.
    ///
    /// # Errors
    /// [`ScheduleError::UnknownTrial`] for any other trial.
    pub fn report(&mut self, id: TrialId, report: Report) -> Result<()> {
        if self.batch()?.iter().all(|trial| trial.id != id) {
            return Err(ScheduleError::UnknownTrial { trial: id.to_string() });
        }
        let report = match report {
            Report::Accuracy(accuracy) if !accuracy.is_finite() => {
                Report::Failed(format!("the accuracy {accuracy} is not a finite number"))
            }
            other => other,
        };
        self.finished.push(Finished { id, report });
        Ok(())
    }

    /// States that trials to come may start from, or that hold what was found; all others can be deleted.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn needed_states(&self) -> Result<Vec<SavedState>> {
        let Progress { decided, .. } = self.progress()?;
        let stage = decided.len().min(self.frame.stages());
        let done = self.finished.iter().filter(|entry| matches!(entry.report, Report::Accuracy(_)));
        let mut owners: Vec<TrialId> = done.map(|entry| entry.id).collect();
        let owns = |id: &TrialId| match id.stage {
            Some(of) if of == stage => true,
            _ => *id == self.owner(&decided, id.seed),
        };
        owners.retain(owns);
        let mut states = Vec::new();
        for id in owners {
            let trial = self.trial(id, &decided)?;
            // The end of the stage before, or of the run.
            let from = match trial.plan.stages().get(stage) {
                Some(next) => next.first_step,
                None => trial.plan.total_steps(),
            };
            states.extend(
                trial.keep.iter().filter(|&&s| s >= from).map(|&step| SavedState { trial: id, step }),
            );
        }
        Ok(states)
    }

    /// The result, when the search is done.
    ///
    /// # Errors
    /// As [`Self::batch`].
    pub fn outcome(&self) -> Result<Option<Outcome>> {
        let Progress { baseline, decided, batch } = self.progress()?;
        if !batch.is_empty() {
            return Ok(None);
        }
        let picks: Vec<Option<usize>> = decided.iter().map(|d| d.pick).collect();
        let row = |entry: &Finished| {
            let trial = self.trial(entry.id, &decided)?;
            let (equivalent_epochs, report) = (trial.equivalent_epochs(), entry.report.clone());
            Ok(TrialRow { id: entry.id, choice: trial.choice, seed: trial.seed, report, equivalent_epochs })
        };
        let trials: Vec<TrialRow> = self.finished.iter().map(row).collect::<Result<_>>()?;
        let stage = |d: Decided| {
            let full = Choice::of_size(self.frame.base_size());
            let choice = d.pick.map_or(full, |candidate| self.frame.choices[candidate]);
            StageOutcome { choice, tied: d.tied, candidates: d.candidates }
        };
        let plan = self.frame.plan(&picks)?;
        Ok(Some(Outcome {
            recipe: plan.recipe().clone(),
            plan_options: plan.options().clone(),
            stages: decided.into_iter().map(stage).collect(),
            baseline,
            equivalent_epochs: trials.iter().map(|row| row.equivalent_epochs).sum(),
            trials,
            exhaustive_epochs: self.exhaustive_epochs()?,
        }))
    }

    fn progress(&self) -> Result<Progress> {
        let (mut baseline, mut decided) = (None, Vec::new());
        if let Algorithm::Greedy { .. } = self.options.algorithm {
            match greedy::baseline(self)? {
                Ok(measured) => baseline = Some(measured),
                Err(batch) => return Ok(Progress { baseline, decided, batch }),
            }
        }
        for stage in 0..self.frame.stages() {
            let step = match (self.options.algorithm, baseline) {
                (Algorithm::Greedy { at_once }, Some(target)) => {
                    greedy::stage(self, at_once, target, stage, &decided)?
                }
                _ => self.sequential().stage(self, stage, &decided)?,
            };
            match step {
                Step::Run(batch) => return Ok(Progress { baseline, decided, batch }),
                Step::Decided(one) => decided.push(one),
            }
        }
        Ok(Progress { baseline, decided, batch: Vec::new() })
    }

    fn sequential(&self) -> Sequential {
        match self.options.algorithm {
            Algorithm::Sequential { fine_tune, early_stop } => Sequential { fine_tune, early_stop },
            Algorithm::Greedy { .. } => Sequential { fine_tune: Default::default(), early_stop: None },
        }
    }

    fn trial(&self, id: TrialId, decided: &[Decided]) -> Result<Trial> {
        match self.options.algorithm {
            Algorithm::Greedy { .. } => greedy::trial(self, id, decided),
            Algorithm::Sequential { .. } => self.sequential().trial(self, id, decided),
        }
    }

    /// The run whose states the present curriculum has.
    fn owner(&self, decided: &[Decided], seed: usize) -> TrialId {
        let mut id = greedy::owner(decided, seed);
        if let Algorithm::Sequential { .. } = self.options.algorithm {
            id.part = self.sequential().last_part();
        }
        id
    }

    /// Compute of all curricula: of stages of compute each costs the budget, of stages of epochs what its sizes cost.
    fn exhaustive_epochs(&self) -> Result<f64> {
        let (stages, choices) = (self.frame.stages(), self.frame.choices.len());
        let epochs = self.options.plan.equivalent_epochs * self.options.seeds.len() as f64;
        let curricula = (choices as f64).powi(i32::try_from(stages).unwrap_or(i32::MAX));
        let cost = |choice: &Choice| self.options.plan.cost.relative(choice.size, self.frame.base_size());
        let mean = match self.frame.recipe(&[]).curriculum.share_of {
            ShareOf::Compute => 1.0,
            ShareOf::Epochs => {
                let costs: Vec<f64> = self.frame.choices.iter().map(cost).collect::<Result<_>>()?;
                costs.iter().sum::<f64>() / choices as f64
            }
        };
        Ok(curricula * epochs * mean)
    }

    pub(crate) fn frame(&self) -> &Frame {
        &self.frame
    }

    pub(crate) fn ledger(&self) -> Ledger<'_> {
        Ledger { finished: &self.finished, retries: self.options.retries }
    }

    /// Trials of candidates of a stage, one a seed.
    pub(crate) fn ids(&self, stage: usize, candidates: &[usize], part: Part) -> Vec<TrialId> {
        let seeds = self.options.seeds.len();
        let of = |&candidate: &usize| {
            (0..seeds).map(move |seed| TrialId { stage: Some(stage), candidate, seed, part })
        };
        candidates.iter().flat_map(of).collect()
    }

    /// A candidate whose trials of a part of a stage are done.
    pub(crate) fn measured(&self, stage: usize, candidate: usize, part: Part) -> Candidate {
        let ids = self.ids(stage, &[candidate], part);
        self.ledger().candidate(candidate, self.frame.choices[candidate], ids)
    }

    /// A candidate without trials.
    pub(crate) fn untried(&self, candidate: usize, verdict: Verdict) -> Candidate {
        Candidate::without(candidate, self.frame.choices[candidate], verdict)
    }

    /// Candidates that the stages decided leave to the next, and the others.
    pub(crate) fn allowed(&self, decided: &[Decided]) -> (Vec<usize>, Vec<Candidate>) {
        let size = |d: &Decided| d.pick.map_or(self.frame.base_size(), |c| self.frame.choices[c].size);
        let least = if self.options.growing { decided.last().map_or(0, size) } else { 0 };
        let all = 0..self.frame.choices.len();
        let (allowed, ruled_out): (Vec<usize>, Vec<usize>) =
            all.partition(|&candidate| self.frame.choices[candidate].size >= least);
        (allowed, ruled_out.into_iter().map(|c| self.untried(c, Verdict::NotTried)).collect())
    }
}

impl From<Search> for SearchRecord {
    fn from(search: Search) -> Self {
        Self { recipe: search.recipe, options: search.options, finished: search.finished }
    }
}

impl TryFrom<SearchRecord> for Search {
    type Error = ScheduleError;

    fn try_from(record: SearchRecord) -> Result<Self> {
        let mut search = Self::new(&record.recipe, record.options)?;
        record.finished.into_iter().try_for_each(|entry| search.report(entry.id, entry.report))?;
        Ok(search)
    }
}
