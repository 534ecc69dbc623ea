//! What this machine does: the measurements behind `efficienttrain bench`.

mod preprocess;

pub use preprocess::{LoaderRate, PreprocessBench, PreprocessReport, StageTime, preprocess};
