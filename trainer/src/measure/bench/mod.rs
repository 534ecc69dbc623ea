//! Measurements of `efficienttrain bench`.

pub(crate) mod preprocess;
pub(crate) mod ranks;
pub(crate) mod step;

pub use preprocess::{LoaderRate, PreprocessBench, PreprocessReport, StageTime, preprocess};
pub use ranks::{RanksBench, RanksReport, ranks};
pub use step::{StepBench, StepReport, step};
