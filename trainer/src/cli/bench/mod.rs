//! `efficienttrain bench`.

mod preprocess;
mod ranks;
mod step;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Arguments of `bench`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Measure time, rate and memory of training steps (forward, backward and optimizer)
    Step(step::StepArgs),
    /// Measure images per second and core from file to training image, and the share of each stage
    Preprocess(preprocess::PreprocessArgs),
    /// Measure what several processes cost, started together with mpirun, srun or torchrun
    Ranks(ranks::RanksArgs),
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        What::Step(args) => step::run(args),
        What::Preprocess(args) => preprocess::run(args),
        What::Ranks(args) => ranks::run(args),
    }
}
