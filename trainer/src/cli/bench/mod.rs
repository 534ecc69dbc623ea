//! `efficienttrain bench`.

mod preprocess;
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
    /// Time, rate and memory of training steps: forward, backward and optimizer
    Step(step::StepArgs),
    /// Images per second and core from file to training picture, and the share of each stage
    Preprocess(preprocess::PreprocessArgs),
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        What::Step(args) => step::run(args),
        What::Preprocess(args) => preprocess::run(args),
    }
}
