//! Accuracies over seeds, and ties between them.

use crate::error::{Result, within};
use serde::{Deserialize, Serialize};

/// Choice among candidates whose accuracies are tied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prefer {
    /// The first in the order of [`Space::choices`](crate::search::Space::choices): the smallest
    /// size.
    #[default]
    Smaller,
    /// The last in that order.
    Larger,
    /// The one with the highest mean, though the others are reported as tied.
    Best,
}

/// Rule for ties: two mean accuracies are tied if they differ by no more than `absolute` or, with
/// several seeds, than `standard_errors` standard errors of their difference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TieRule {
    /// A difference of accuracy that does not matter.
    pub absolute: f64,
    /// Standard errors of the difference, from the spread over the seeds.
    pub standard_errors: f64,
    /// Winner of a tie in the sequential search. The greedy search takes the first candidate that
    /// is good enough.
    pub prefer: Prefer,
}

impl Default for TieRule {
    /// One standard error, so that with one seed only equal accuracies are tied; the smaller size
    /// wins.
    fn default() -> Self {
        Self { absolute: 0.0, standard_errors: 1.0, prefer: Prefer::Smaller }
    }
}

/// Accuracy of one candidate over the seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Mean.
    pub mean: f64,
    /// Sample standard deviation; none with a single seed.
    pub spread: Option<f64>,
    /// Seeds.
    pub seeds: usize,
}

impl Measured {
    /// Computes mean and spread of accuracies, one per seed; `accuracies` must not be empty.
    #[must_use]
    pub fn of(accuracies: &[f64]) -> Self {
        let seeds = accuracies.len();
        let mean = accuracies.iter().sum::<f64>() / seeds as f64;
        let squares: f64 = accuracies.iter().map(|a| (a - mean) * (a - mean)).sum();
        Self { mean, spread: (seeds > 1).then(|| (squares / (seeds - 1) as f64).sqrt()), seeds }
    }

    fn squared_error(&self) -> Option<f64> {
        self.spread.map(|spread| spread * spread / self.seeds as f64)
    }
}

impl TieRule {
    /// Returns the difference of means up to which `a` and `b` are tied.
    #[must_use]
    pub fn margin(&self, a: &Measured, b: &Measured) -> f64 {
        let error = a.squared_error().zip(b.squared_error()).map_or(0.0, |(a, b)| (a + b).sqrt());
        self.absolute.max(self.standard_errors * error)
    }

    /// Returns true if `a` and `b` are tied.
    #[must_use]
    pub fn is_tie(&self, a: &Measured, b: &Measured) -> bool {
        (a.mean - b.mean).abs() <= self.margin(a, b)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        within("tie.absolute", self.absolute, 0.0, f64::MAX, "0 ties equal accuracies alone")?;
        within("tie.standard_errors", self.standard_errors, 0.0, f64::MAX, "0 ignores the spread")
    }
}
