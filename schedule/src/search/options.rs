//! Settings of a search besides the recipe. The paper leaves many of them open; each has a field
//! here.

use crate::error::{Result, count, field, positive, within};
use crate::options::{BatchRule, PlanOptions, Rounding};
use crate::search::space::Space;
use crate::search::tie::TieRule;
use serde::{Deserialize, Serialize};

/// Algorithm of the search; both are from the papers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// Algorithm 1 (EfficientTrain, first version): stages are shares of *epochs*, and the budget
    /// is their number. From the first stage on, each gets the first candidate with which the whole
    /// run, later stages at full size, ends no worse than plain training does.
    Greedy {
        /// Candidates of a stage that are handed out together. 1 (the default) tries them one after
        /// the other and stops at the first that is good enough; more uses more machines, and may
        /// train candidates that are not needed.
        at_once: u32,
    },
    /// Algorithm 2 (EfficientTrain++): stages are shares of *compute*, and the budget is its
    /// amount. Each stage continues from the best checkpoint of the one before and gets the
    /// candidate with the best accuracy after a short fine-tuning at full size.
    Sequential {
        /// The fine-tuning.
        fine_tune: FineTune,
        /// Rule for giving up candidates early, if any.
        early_stop: Option<EarlyStop>,
    },
}

/// The short training at full size before a candidate of Algorithm 2 is measured. It is a branch:
/// the next stage continues from the checkpoint before it.
///
/// The learning rate starts at the last value of the stage, so that a stage is judged in the state
/// in which the run leaves it, and falls by a cosine to the recipe's `min_lr`, since the accuracy
/// at a high learning rate says little about what was learned. The magnitude is the stage's last.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FineTune {
    /// Length as a share of the budget; 0 measures without fine-tuning.
    pub share: f64,
    /// Factor on the learning rate with which the stage ended.
    pub lr_factor: f64,
}

impl Default for FineTune {
    /// A twentieth of the budget, from the stage's own learning rate.
    fn default() -> Self {
        Self { share: 0.05, lr_factor: 1.0 }
    }
}

/// Giving up candidates of Algorithm 2 that are far behind: every candidate is measured, after
/// fine-tuning, when part of the stage is trained, and only those near the best train the rest. The
/// decision depends on accuracies alone, not on which trial is ready first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStop {
    /// Part of the stage that every candidate trains, above 0 and below 1.
    pub after: f64,
    /// A candidate is given up if its mean accuracy is further than this below the best.
    pub margin: f64,
}

impl Default for EarlyStop {
    /// After a third of the stage, five points.
    fn default() -> Self {
        Self { after: 1.0 / 3.0, margin: 0.05 }
    }
}

/// The settings of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SearchOptions {
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Shares of the stages, in order; they sum to 1.
    pub shares: Vec<f64>,
    /// The candidates.
    pub space: Space,
    /// Requires that sizes never shrink from stage to stage. Off by default, as in the paper's
    /// algorithms.
    pub growing: bool,
    /// m(t) = (t/T) * `last_magnitude`, linear over the run, if magnitudes are not searched (9
    /// in the paper).
    pub last_magnitude: f64,
    /// Every trial is run once with each of these.
    pub seeds: Vec<u64>,
    /// Rule for ties between candidates.
    pub tie: TieRule,
    /// Number of times a failed trial is repeated.
    pub retries: u32,
    /// The run that the curriculum is for. `equivalent_epochs` is the budget: compute for the
    /// sequential search, passes over the data for the greedy one.
    pub plan: PlanOptions,
}

/// Part of the baseline's compute that the paper gives the sequential search's runs.
const PAPER_BUDGET: f64 = 2.0 / 3.0;

impl SearchOptions {
    /// Algorithm 2 as in the paper: five stages of equal compute within two thirds of the
    /// compute of plain training of `baseline_epochs`. `plan.equivalent_epochs` holds this budget
    /// and can be changed.
    #[must_use]
    pub fn sequential(baseline_epochs: f64, train_images: u64, devices: u32) -> Self {
        let algorithm = Algorithm::Sequential { fine_tune: FineTune::default(), early_stop: None };
        Self::of(algorithm, PlanOptions::new(baseline_epochs * PAPER_BUDGET, train_images, devices))
    }

    /// Algorithm 1: five stages of equal epochs, `epochs` passes over the data in all (300 in the
    /// paper).
    #[must_use]
    pub fn greedy(epochs: f64, train_images: u64, devices: u32) -> Self {
        Self::of(Algorithm::Greedy { at_once: 1 }, PlanOptions::new(epochs, train_images, devices))
    }

    fn of(algorithm: Algorithm, plan: PlanOptions) -> Self {
        Self {
            algorithm,
            shares: vec![0.2; 5],
            space: Space::default(),
            growing: false,
            last_magnitude: 9.0,
            seeds: vec![0],
            tie: TieRule::default(),
            retries: 0,
            plan,
        }
    }

    /// Replaces the stages by `stages` stages of equal share.
    ///
    /// # Errors
    /// A field error when `stages` is 0 or above 1000.
    pub fn with_stages(mut self, stages: u32) -> Result<Self> {
        if !(1..=1000).contains(&stages) {
            return Err(field("stages", "a whole number in 1..=1000", stages, "the paper uses 5"));
        }
        self.shares = vec![1.0 / f64::from(stages); stages as usize];
        Ok(self)
    }

    pub(crate) fn validate(&self, base_size: u32) -> Result<()> {
        if self.plan.rounding != Rounding::Exact {
            let hint = "a search counts whole optimizer steps";
            return Err(field("plan.rounding", "exact", "reference", hint));
        }
        if self.shares.is_empty() {
            return Err(field("shares", "at least one stage", "none", "the paper uses five"));
        }
        for (index, &share) in self.shares.iter().enumerate() {
            positive(&format!("shares[{index}]"), share, "give the part of the run this stage takes")?;
        }
        self.space.validate(base_size)?;
        if !self.space.batches.is_empty() && self.plan.batch != BatchRule::AsRecipe {
            let hint = "leave space.batches empty, or the batches to the recipe and the search";
            return Err(field("plan.batch", "as-recipe where batches are searched", "another", hint));
        }
        within("last_magnitude", self.last_magnitude, 0.0, 10.0, "RandAugment's scale ends at 10")?;
        self.validate_seeds()?;
        self.tie.validate()?;
        match self.algorithm {
            Algorithm::Greedy { at_once } => count("greedy.at_once", at_once, "1 tries candidates in turn"),
            Algorithm::Sequential { fine_tune, early_stop } => {
                within(
                    "fine_tune.share",
                    fine_tune.share,
                    0.0,
                    1.0,
                    "a short part of the run, such as 0.05",
                )?;
                positive(
                    "fine_tune.lr_factor",
                    fine_tune.lr_factor,
                    "1 continues with the last rate of the stage",
                )?;
                early_stop.map_or(Ok(()), EarlyStop::validate)
            }
        }
    }

    fn validate_seeds(&self) -> Result<()> {
        if self.seeds.is_empty() {
            return Err(field("seeds", "at least one seed", "none", "three or more tell a tie from luck"));
        }
        for (index, seed) in self.seeds.iter().enumerate() {
            if self.seeds[..index].contains(seed) {
                return Err(field(format!("seeds[{index}]"), "each seed once", seed, "drop one of the two"));
            }
        }
        Ok(())
    }
}

impl EarlyStop {
    fn validate(self) -> Result<()> {
        if !(self.after > 0.0 && self.after < 1.0) {
            return Err(field("early_stop.after", "a number between 0 and 1", self.after, "such as 0.33"));
        }
        within("early_stop.margin", self.margin, 0.0, f64::MAX, "such as 0.05 for five points")
    }
}
