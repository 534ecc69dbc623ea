//! Measurements of `efficienttrain bench`.

pub(crate) mod preprocess;
pub(crate) mod step;

pub use preprocess::{LoaderRate, PreprocessBench, PreprocessReport, StageTime, preprocess};
pub use step::{StepBench, StepReport, step};
