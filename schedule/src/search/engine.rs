//! The search: a function of its settings and of the reports so far, without any other state.

use crate::curriculum::ShareUnit;
use crate::error::{Result, ScheduleError};
use crate::recipe::Recipe;
use crate::search::context::SearchContext;
use crate::search::greedy::Greedy;
use crate::search::options::{Algorithm, SearchOptions};
use crate::search::outcome::{Outcome, StageOutcome, TrialRow};
use crate::search::sequential::Sequential;
use crate::search::skeleton::Skeleton;
use crate::search::space::Choice;
use crate::search::strategy::{StageDecision, StageStatus, Strategy};
use crate::search::trial::{FinishedTrial, Report, SavedState, Trial, TrialId};
use serde::{Deserialize, Serialize};

/// A search for a curriculum, with the reports so far.
///
/// [`Search::pending_trials`] returns the trials that can run now, together or one after the other;
/// [`Search::report`] takes their results. A search can be serialized after every report. It stores
/// its settings and the reports and derives the rest from them, so a search resumed from its stored
/// form ends as if it had never stopped.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(into = "SearchRecord", try_from = "SearchRecord")]
pub struct Search {
    recipe: Recipe,
    options: SearchOptions,
    skeleton: Skeleton,
    finished: Vec<FinishedTrial>,
}

/// Stored form of a [`Search`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchRecord {
    recipe: Recipe,
    options: SearchOptions,
    finished: Vec<FinishedTrial>,
}

/// The decided stages, and the trials that can run now (none at the end).
struct SearchState {
    decided: Vec<StageDecision>,
    pending: Vec<Trial>,
}

impl Search {
    /// Prepares a search.
    ///
    /// `recipe` gives the base size and the optimizer. Each stage of the search takes batch, order
    /// and replay from the stage of the recipe that contains its middle. The sizes and magnitudes
    /// of the recipe are not used.
    ///
    /// # Errors
    /// A field out of range in the recipe or options; a candidate that cannot be planned (batch,
    /// cost, size); a budget that leaves a stage or the fine-tuning without an optimizer step.
    pub fn new(recipe: &Recipe, options: SearchOptions) -> Result<Self> {
        let skeleton = Skeleton::new(recipe, &options)?;
        Ok(Self { recipe: recipe.clone(), options, skeleton, finished: Vec::new() })
    }

    /// Settings of the search.
    #[must_use]
    pub fn options(&self) -> &SearchOptions {
        &self.options
    }

    /// Reports so far, in the order in which they came.
    #[must_use]
    pub fn finished(&self) -> &[FinishedTrial] {
        &self.finished
    }

    /// Returns the trials that can run now, in any order or together; none when the search is done.
    ///
    /// # Errors
    /// [`ScheduleError::NoCandidate`] when every candidate of a stage failed.
    pub fn pending_trials(&self) -> Result<Vec<Trial>> {
        Ok(self.state()?.pending)
    }

    /// Takes the result of a pending trial.
    ///
    /// # Errors
    /// [`ScheduleError::UnknownTrial`] for any other trial.
    pub fn report(&mut self, id: TrialId, report: Report) -> Result<()> {
        if self.pending_trials()?.iter().all(|trial| trial.id != id) {
            return Err(ScheduleError::UnknownTrial { trial: id.to_string() });
        }
        let report = match report {
            Report::Accuracy(accuracy) if !accuracy.is_finite() => {
                Report::Failed(format!("the accuracy {accuracy} is not a finite number"))
            }
            other => other,
        };
        self.finished.push(FinishedTrial { id, report });
        Ok(())
    }

    /// Lists the states that later trials may start from or that hold the result; all others can be
    /// deleted.
    ///
    /// # Errors
    /// Returns the errors of [`Self::pending_trials`].
    pub fn needed_states(&self) -> Result<Vec<SavedState>> {
        let SearchState { decided, .. } = self.state()?;
        let (strategy, stage) = (self.strategy(), decided.len().min(self.skeleton.stages()));
        let done = self.finished.iter().filter(|entry| matches!(entry.report, Report::Accuracy(_)));
        let mut owners: Vec<TrialId> = done.map(|entry| entry.id).collect();
        owners.retain(|id| id.stage == Some(stage) || *id == strategy.owner(&decided, id.seed));
        let mut states = Vec::new();
        for id in owners {
            let trial = strategy.trial(&self.context(), id, &decided)?;
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

    /// Returns the result when the search is done.
    ///
    /// # Errors
    /// Returns the errors of [`Self::pending_trials`].
    pub fn outcome(&self) -> Result<Option<Outcome>> {
        let SearchState { decided, pending } = self.state()?;
        if !pending.is_empty() {
            return Ok(None);
        }
        let picks: Vec<Option<usize>> = decided.iter().map(|d| d.pick).collect();
        let trials = self.trial_rows(&decided)?;
        let stage = |d: StageDecision| {
            let full = Choice::of_size(self.skeleton.base_size());
            let choice = d.pick.map_or(full, |candidate| self.skeleton.choices[candidate]);
            StageOutcome { choice, tied: d.tied, candidates: d.candidates }
        };
        let plan = self.skeleton.plan(&picks)?;
        Ok(Some(Outcome {
            recipe: plan.recipe().clone(),
            plan_options: plan.options().clone(),
            stages: decided.into_iter().map(stage).collect(),
            baseline: self.strategy().baseline(&self.context())?,
            equivalent_epochs: trials.iter().map(|row| row.equivalent_epochs).sum(),
            trials,
            exhaustive_epochs: self.exhaustive_epochs()?,
        }))
    }

    fn trial_rows(&self, decided: &[StageDecision]) -> Result<Vec<TrialRow>> {
        let (strategy, context) = (self.strategy(), self.context());
        let row = |entry: &FinishedTrial| {
            let trial = strategy.trial(&context, entry.id, decided)?;
            let (equivalent_epochs, report) = (trial.equivalent_epochs(), entry.report.clone());
            Ok(TrialRow { id: entry.id, choice: trial.choice, seed: trial.seed, report, equivalent_epochs })
        };
        self.finished.iter().map(row).collect()
    }

    fn state(&self) -> Result<SearchState> {
        let (strategy, context, mut decided) = (self.strategy(), self.context(), Vec::new());
        for stage in 0..self.skeleton.stages() {
            match strategy.stage(&context, stage, &decided)? {
                StageStatus::Pending(pending) => return Ok(SearchState { decided, pending }),
                StageStatus::Decided(decision) => decided.push(decision),
            }
        }
        Ok(SearchState { decided, pending: Vec::new() })
    }

    fn context(&self) -> SearchContext<'_> {
        SearchContext { options: &self.options, skeleton: &self.skeleton, finished: &self.finished }
    }

    fn strategy(&self) -> Box<dyn Strategy> {
        match self.options.algorithm {
            Algorithm::Greedy { at_once } => Box::new(Greedy { at_once }),
            Algorithm::Sequential { fine_tune, early_stop } => Box::new(Sequential { fine_tune, early_stop }),
        }
    }

    /// Compute of training every curriculum of the space. If stages are shares of compute, each
    /// curriculum costs the budget; if they are shares of epochs, its cost depends on its sizes.
    fn exhaustive_epochs(&self) -> Result<f64> {
        let (stages, choices) = (self.skeleton.stages(), self.skeleton.choices.len());
        let epochs = self.options.plan.equivalent_epochs * self.options.seeds.len() as f64;
        let curricula = (choices as f64).powi(i32::try_from(stages).unwrap_or(i32::MAX));
        let cost = |choice: &Choice| self.options.plan.cost.relative(choice.size, self.skeleton.base_size());
        let mean = match self.skeleton.recipe(&[]).curriculum.share_of {
            ShareUnit::Compute => 1.0,
            ShareUnit::Epochs => {
                let costs: Vec<f64> = self.skeleton.choices.iter().map(cost).collect::<Result<_>>()?;
                costs.iter().sum::<f64>() / choices as f64
            }
        };
        Ok(curricula * epochs * mean)
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
