//! `efficienttrain bench`.

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use efficienttrain_trainer::bench::{StepBench, step};

/// Arguments of `bench`.
#[derive(Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Time, rate and memory of training steps: forward, backward and optimiser
    Step(StepArgs),
}

/// Arguments of `bench step`.
#[derive(Args)]
struct StepArgs {
    /// Model, as `efficienttrain models` lists them
    #[arg(long, value_name = "NAME")]
    model: String,

    /// Edge of the pictures, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    size: usize,

    /// Pictures of a step
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,

    /// Steps to time
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,

    /// Steps before them that are not timed
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: usize,

    /// Element type
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    dtype: Precision,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Precision {
    F32,
}

pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    match &args.what {
        What::Step(args) => run_step(args),
    }
}

fn run_step(args: &StepArgs) -> Result<()> {
    // Only one so far; the option is there so that a script's words stay valid.
    let Precision::F32 = args.dtype;
    let StepArgs { size, batch, steps, warmup, .. } = *args;
    let report = step(&StepBench { model: args.model.clone(), size, batch, steps, warmup })?;
    if args.json {
        return Ok(super::show(serde_json::to_string(&report)?)?);
    }
    super::show(format!(
        "{} at {}, batch {}, {} threads: {:.1} ms a step ({:.1} to {:.1}), {:.1} images/s, {:.0} GFLOP/s, {:.0}% of the best \
         matrix product",
        report.model,
        report.size,
        report.batch,
        report.threads,
        report.step_ms,
        report.min_ms,
        report.max_ms,
        report.images_per_s,
        report.gflops,
        100.0 * report.gemm_share
    ))?;
    Ok(())
}
