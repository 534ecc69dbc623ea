//! What this machine does: the measurements behind `efficienttrain bench`.

pub(crate) mod preprocess;
pub(crate) mod step;

pub use preprocess::{LoaderRate, PreprocessBench, PreprocessReport, StageTime, preprocess};
pub use step::{StepBench, StepReport, step};
