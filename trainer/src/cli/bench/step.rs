//! `efficienttrain bench step`.

use anyhow::Result;
use clap::Args;
use efficienttrain::config::DeviceName;
use efficienttrain::config::Precision;
use efficienttrain::measure::bench::{StepBench, step};

use crate::cli::print_line;

/// Arguments of `bench step`.
#[derive(Args)]
pub(super) struct StepArgs {
    /// Model, as `efficienttrain models` lists them
    #[arg(long, value_name = "NAME")]
    model: String,

    /// Edge of the images, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    size: usize,

    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 8)]
    batch: usize,

    /// Steps to time
    #[arg(long, value_name = "N", default_value_t = 5)]
    steps: usize,

    /// Untimed steps before them
    #[arg(long, value_name = "N", default_value_t = 2)]
    warmup: usize,

    /// Activation checkpointing: keep only each block's input and recompute the block in the
    /// backward pass
    #[arg(long)]
    checkpoint_activations: bool,

    /// Precision of activations
    #[arg(long, visible_alias = "precision", value_enum, default_value_t = Precision::F32)]
    dtype: Precision,

    /// Device: `cpu`, or an NVIDIA GPU as `cuda` or `cuda:1`
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceName::Cpu)]
    device: DeviceName,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &StepArgs) -> Result<()> {
    let StepArgs { size, batch, steps, warmup, checkpoint_activations, device, dtype: precision, .. } = *args;
    let model = args.model.clone();
    let report =
        step(&StepBench { model, size, batch, steps, warmup, device, precision, checkpoint_activations })?;
    if args.json {
        return Ok(print_line(serde_json::to_string(&report)?)?);
    }
    print_line(format!(
        "{} at {}, batch {}, {}, {} threads: {:.1} ms per step ({:.1} to {:.1}), {:.1} images/s, {:.0} GFLOP/s, {:.0}% of the best \
         matrix product",
        report.model,
        report.size,
        report.batch,
        report.device,
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
