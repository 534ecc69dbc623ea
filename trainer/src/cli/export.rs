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
    /// Checkpoint or weight file that `train` wrote
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Use the moving average (EMA) of the weights
    #[arg(long)]
    ema: bool,

    /// Safetensors file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    if args.out.exists() && !args.force {
        bail!("--out: {} exists already; choose another name, or give --force", args.out.display());
    }
    let saved = Checkpoint::open(&args.weights)?;
    super::inference::warn_of_nonfinite(&saved, args.ema)?;
    // Loads the model at the base size of the run, to which its position embeddings belong.
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
