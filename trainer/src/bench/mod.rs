//! What this machine does: the measurements behind `efficienttrain bench`.

mod preprocess;
mod step;

pub use preprocess::{LoaderRate, PreprocessBench, PreprocessReport, StageTime, preprocess};
pub use step::{StepBench, StepReport, step};
