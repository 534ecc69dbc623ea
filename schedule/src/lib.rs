//! Training curricula as data: stages, exact step plans, learning-rate and magnitude curves of
//! EfficientTrain++.
//!
//! EfficientTrain++ (arXiv 2405.08768) shows a network the low frequencies of every image first,
//! and little augmentation; both grow on a schedule of training compute. This crate turns a
//! [`Recipe`] into a [`Plan`] for a data set, a number of devices and a budget, and answers what
//! each optimizer step does. It holds no tensors, reads no files and knows no clock.
//!
//! ```
//! use efficienttrain_schedule::{Plan, PlanOptions, Recipe};
//!
//! let recipe = Recipe::named("deit-small-etpp")?;
//! let plan = Plan::new(&recipe, PlanOptions::new(200.0, 1_281_167, 8))?;
//!
//! // The budget is met to within one optimizer step of 4096 images.
//! assert!((plan.equivalent_epochs() - 200.0).abs() < 4096.0 / 1_281_167.0);
//!
//! let first = plan.at(0)?;
//! assert_eq!((first.size, first.magnitude, first.samples_before), (96, 0.0, 0));
//! let last = plan.at(plan.total_steps() - 1)?;
//! assert_eq!((last.size, last.magnitude), (224, 9.0));
//! # Ok::<(), efficienttrain_schedule::ScheduleError>(())
//! ```
//!
//! | to | use |
//! | --- | --- |
//! | find a recipe | [`Recipe::named`], [`Recipe::names`], [`Recipe::preset`] |
//! | fit it to a small machine | [`Recipe::at_base_size`], [`Recipe::with_batch`], [`Recipe::with_stages`] |
//! | plan a run | [`Plan::new`], [`PlanOptions`], [`Rounding`], [`CostModel`] |
//! | drive a run | [`Plan::at`] gives [`StepSettings`]; [`Plan::samples_before`] the place in the data |
//! | show it | [`Plan::summary`] |
//! | foresee it on many devices | [`Plan::scaling`], [`ScalingModel`] |
//! | reuse decoded images | [`ReplayBuffer`] |
//! | find a curriculum | [`search`] |

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod catalog;
mod cosine;
mod cost;
mod curriculum;
mod curve;
mod error;
mod keys;
mod names;
mod optimizer;
mod options;
mod plan;
mod preset;
mod recipe;
mod reference;
mod replay;
mod rounding;
mod scaling;
pub mod search;
mod stage;
mod step;
mod summary;
mod transform;

pub use cosine::{ReferenceCosine, cosine_in_compute};
pub use cost::CostModel;
pub use curriculum::{Curriculum, ShareUnit};
pub use curve::{LrCurve, RunLength, RunProgress};
pub use error::{JsonError, Result, ScheduleError};
pub use keys::suggest_key;
pub use optimizer::{LrOver, LrScaling, Optimizer, OptimizerKind, WarmUp};
pub use options::{BatchRule, PlanOptions, Rounding};
pub use plan::{Plan, PlanRecord};
pub use preset::Preset;
pub use recipe::{Augmentation, DropPath, Family, Origin, Recipe};
pub use reference::{ReferenceStage, remap_start_epoch};
pub use replay::{REFERENCE_SPLIT, ReplayBuffer, buffer_bytes, even_split};
pub use rounding::PlanStage;
pub use scaling::{Scaling, ScalingModel, ScalingStage, StepTime};
pub use stage::{Magnitude, Order, Replay, Stage};
pub use step::StepSettings;
pub use summary::{ReplayRow, Summary, SummaryStage};
