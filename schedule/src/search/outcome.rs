//! Result and cost of a search.

use crate::error::Result;
use crate::options::PlanOptions;
use crate::plan::Plan;
use crate::recipe::Recipe;
use crate::search::space::Choice;
use crate::search::tie::Measured;
use crate::search::trial::{Report, TrialId};
use serde::{Deserialize, Serialize};

/// Result of a candidate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Part of the found curriculum.
    Chosen,
    /// As good as the chosen one; the tie rule decided.
    Tied,
    /// Worse than the chosen one or, in the greedy search, than plain training.
    Worse,
    /// Given up after the probe, too far behind the best.
    GivenUp,
    /// A trial failed, for this reason.
    Failed(String),
    /// Not needed: a smaller one was good enough, or sizes may only grow.
    NotTried,
}

/// A candidate of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Index into [`Space::choices`](crate::search::Space::choices).
    pub candidate: usize,
    /// Size, magnitude and batch.
    pub choice: Choice,
    /// Accuracy with each seed, of the probe if it was given up; empty if there is none.
    pub accuracies: Vec<f64>,
    /// Mean and spread of them.
    pub measured: Option<Measured>,
    /// Result.
    pub verdict: Verdict,
}

impl Candidate {
    pub(crate) fn without(candidate: usize, choice: Choice, verdict: Verdict) -> Self {
        Self { candidate, choice, accuracies: Vec::new(), measured: None, verdict }
    }
}

/// Decision on one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageOutcome {
    /// The choice.
    pub choice: Choice,
    /// True if the choice is a tie with another candidate (with plain training, in the greedy
    /// search).
    pub tied: bool,
    /// All candidates, in the order of the space.
    pub candidates: Vec<Candidate>,
}

/// One trial that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrialRow {
    /// Identity.
    pub id: TrialId,
    /// The candidate.
    pub choice: Choice,
    /// Seed.
    pub seed: u64,
    /// Result.
    pub report: Report,
    /// Its compute in compute epochs; a failed trial counts in full.
    pub equivalent_epochs: f64,
}

/// The result of a search. [`Display`](std::fmt::Display) is the table of decisions and trials.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The found curriculum as a complete recipe.
    pub recipe: Recipe,
    /// The run it was found for, with the budget that the found curriculum takes.
    pub plan_options: PlanOptions,
    /// Decision on each stage.
    pub stages: Vec<StageOutcome>,
    /// Accuracy of plain training in the greedy search.
    pub baseline: Option<Measured>,
    /// All trials, in the order in which they were reported.
    pub trials: Vec<TrialRow>,
    /// Compute of all trials, in compute epochs.
    pub equivalent_epochs: f64,
    /// Compute of training every curriculum of the space with every seed.
    pub exhaustive_epochs: f64,
}

impl Outcome {
    /// The found curriculum as a plan.
    ///
    /// # Errors
    /// None for an outcome of a search; those of [`Plan::new`] for one that was edited.
    pub fn plan(&self) -> Result<Plan> {
        Plan::new(&self.recipe, self.plan_options.clone())
    }
}
