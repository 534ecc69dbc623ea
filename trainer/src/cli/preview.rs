//! `efficienttrain preview`.

use efficienttrain::Run;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use efficienttrain::Sources;
use efficienttrain::config::TrainConfig;
use efficienttrain::data::TrainPipeline;
use efficienttrain::observe::preview::Preview;

/// Arguments of `preview`.
#[derive(Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    config: TrainConfig,

    /// Data set, like `train --data` [default: the built-in set]
    #[arg(value_name = "DIR", conflicts_with = "data")]
    dir: Option<PathBuf>,

    /// Image to write
    #[arg(long, value_name = "FILE", default_value = "preview.png")]
    out: PathBuf,

    /// Index of the training image to show, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    index: usize,

    /// Epoch (pass over the data) whose random draws to show, from 0
    #[arg(long, value_name = "N", default_value_t = 0)]
    epoch: u64,
}

pub(crate) fn run(args: &PreviewArgs) -> Result<()> {
    let mut config = args.config.clone();
    if args.dir.is_some() {
        config.data.clone_from(&args.dir);
    }
    Run::check(&config)?;
    let recipe = config.recipe()?;
    let source = Sources::open(&config)?.train;
    if args.index >= source.len() {
        bail!("--index: there are {} training images, counted from 0", source.len());
    }
    let preview = Preview::new(&recipe, TrainPipeline::new(&config, &recipe));
    let grid = preview.draw(&*source, args.index, args.epoch)?;
    grid.save(&args.out).with_context(|| format!("--out: cannot write {}", args.out.display()))?;
    super::print_line(format!(
        "{}: {} under {}, B {:?} across, m {:?} down",
        args.out.display(),
        source.name(args.index),
        recipe.name,
        preview.sizes,
        preview.magnitudes
    ))?;
    Ok(())
}
