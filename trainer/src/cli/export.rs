//! `efficienttrain export`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use efficienttrain::checkpoint;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::inference::predict::Predictor;

/// Arguments of `export`.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// Checkpoint or weights that `train` wrote
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Use the moving average of the weights
    #[arg(long)]
    ema: bool,

    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    if args.out.exists() && !args.force {
        bail!("--out: {} is there already; give another name, or --force", args.out.display());
    }
    let saved = Checkpoint::open(&args.weights)?;
    super::inference::warn_of_nonfinite(&saved, args.ema)?;
    // At the run's base size, where its tables of positions are those of the finished model.
    let predictor = Predictor::load(&saved, args.ema)?;
    let mut record = saved.run()?.clone();
    record.size = record.base_size;
    checkpoint::export(&args.out, &*predictor.model, &predictor.params, &record)?;
    super::print_line(format!(
        "{} of {} at step {} in {}",
        weights(args.ema),
        record.model,
        record.step,
        args.out.display()
    ))?;
    Ok(())
}

fn weights(ema: bool) -> &'static str {
    if ema { "the average" } else { "the weights" }
}
