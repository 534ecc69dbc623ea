//! What this machine does: speed of the parts of a run.

mod step;

pub use step::{StepBench, StepReport, step};
