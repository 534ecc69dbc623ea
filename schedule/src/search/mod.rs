//! Searching for a curriculum: the two algorithms of the papers, for any training code.
//!
//! | | [`Algorithm::Greedy`] (Algorithm 1, first version) | [`Algorithm::Sequential`] (Algorithm 2, ++) |
//! | --- | --- | --- |
//! | stages | equal passes over the data | equal compute |
//! | fixed | passes; the found curriculum costs less | compute, met as every plan meets it |
//! | a trial | the rest of the run, later stages at full size | one stage from the best checkpoint, a short fine-tuning at full size |
//! | a stage gets | the smallest size that ends no worse than plain training | the size with the best accuracy |
//!
//! [`Search`] decides what to train, an [`Evaluator`] trains it. The crate knows no network: states
//! are names ([`SavedState`]) to which the evaluator gives a meaning, accuracies are numbers that
//! it reports.
//!
//! # What the papers leave open
//! | question | here | option |
//! | --- | --- | --- |
//! | length of the fine-tuning | a twentieth of the budget, at full size | [`FineTune::share`] |
//! | its learning rate | from the last rate of the stage, by a cosine to `min_lr` | [`FineTune::lr_factor`] |
//! | does the next stage start from before or after it | before: it only measures | |
//! | when are two accuracies equal | within a standard error over the seeds; with one seed only if they are the same number | [`TieRule`] |
//! | winner of a tie | the smaller size; the outcome reports the tie | [`Prefer`] |
//! | what "does not lower the accuracy" is measured against | plain training, once, for every stage | |
//! | is a bad candidate given up early | only with an option; in the sequential search alone, since a greedy trial is only measured at its end | [`EarlyStop`] |
//! | may a size shrink again | yes, as both algorithms are written | [`SearchOptions::growing`] |
//! | magnitude during the search | m(t) = (t/T) * 9 over the shares | [`SearchOptions::last_magnitude`], [`Space::magnitudes`] |
//! | warm-up | as long, as a share, as in plain training of the same budget | the recipe's |
//! | learning rate | one cosine over the shares, so that a stage's training depends on those before it alone | |
//!
//! The found recipe carries these ([`LrOver::Shares`](crate::LrOver)), so a run of it trains as the
//! search did.
//!
//! # Cost
//! A stage's candidates start from one state, trained once. With C candidates and N equal stages
//! the sequential search costs about C * (1 + N * fine-tuning) runs, instead of C^N.
//!
//! ```
//! use efficienttrain_schedule::Recipe;
//! use efficienttrain_schedule::search::{Evaluator, Report, Search, SearchOptions, Trial};
//! use std::ops::ControlFlow;
//!
//! /// Small images early, large ones late; a real evaluator trains.
//! struct Toy; impl Evaluator for Toy { fn evaluate(&mut self, trial: &Trial) -> ControlFlow<(),
//! Report> { let wanted = [96.0, 160.0, 160.0, 224.0, 224.0][trial.id.stage.unwrap_or(0)];
//! ControlFlow::Continue(Report::Accuracy(1.0 - (f64::from(trial.choice.size) - wanted).abs() /
//! 1000.0)) } }
//!
//! let recipe = Recipe::named("resnet50-baseline")?;
//! let mut search = Search::new(&recipe, SearchOptions::sequential(300.0, 1_281_167, 8))?;
//! let outcome = search.run(&mut Toy)?.expect("the toy never stops early");
//! let sizes: Vec<u32> = outcome.recipe.curriculum.stages.iter().map(|stage| stage.size).collect();
//! assert_eq!(sizes, [96, 160, 160, 224, 224]);
//! assert!((outcome.plan()?.equivalent_epochs() - 200.0).abs() < 0.01);
//! println!("{outcome}\n{}", outcome.recipe.to_json()?);
//! # Ok::<(), efficienttrain_schedule::ScheduleError>(())
//! ```

mod context;
mod engine;
mod evaluator;
mod greedy;
mod ledger;
mod options;
mod outcome;
mod sequential;
mod skeleton;
mod space;
mod strategy;
mod table;
mod tie;
mod trial;

pub use engine::{Search, SearchRecord};
pub use evaluator::Evaluator;
pub use options::{Algorithm, EarlyStop, FineTune, SearchOptions};
pub use outcome::{Candidate, Outcome, StageOutcome, TrialRow, Verdict};
pub use space::{Choice, Space, StageBatch};
pub use tie::{Measured, Prefer, TieRule};
pub use trial::{FineTuneRun, FinishedTrial, Report, SavedState, Trial, TrialId, TrialPart};
