//! `efficienttrain doctor`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use efficienttrain::measure::doctor::{Checkup, checkup};

/// Arguments of `doctor`.
#[derive(Args)]
pub(crate) struct DoctorArgs {
    /// Model to check gradients and measure speed with
    #[arg(long, value_name = "NAME", default_value = "resnet18")]
    model: String,

    /// Edge of the images, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 96)]
    size: usize,

    /// Batch size
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch: usize,

    /// Duration of each speed measurement, in seconds; 0 for none
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0)]
    seconds: f64,

    /// Folder for checkpoints, to check its disk
    #[arg(long, value_name = "DIR", default_value = "runs/train")]
    out: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> Result<()> {
    if !(0.0..=86_400.0).contains(&args.seconds) {
        bail!("--seconds: expected 0 to 86400, got {}", args.seconds);
    }
    if args.batch == 0 {
        bail!("--batch: must be above 0");
    }
    let check = Checkup {
        model: args.model.clone(),
        size: args.size,
        batch: args.batch,
        seconds: args.seconds,
        out: args.out.clone(),
    };
    let found = checkup(&check)?;
    if args.json {
        super::print_line(serde_json::to_string_pretty(&found)?)?;
    } else {
        super::print_message(&found)?;
    }
    match found.problems().len() {
        0 => Ok(()),
        n => bail!("{n} of the checks above need attention"),
    }
}
