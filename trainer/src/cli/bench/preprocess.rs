//! `efficienttrain bench preprocess`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use efficienttrain::config::{CropMethod, CropOrder, TrainConfig};
use efficienttrain::data::{DEFAULT_IMAGE_LIMIT, PipelineStage, TrainPipeline, ViewSpec, open_all};
use efficienttrain::measure::bench::{PreprocessBench, PreprocessReport, preprocess};
use efficienttrain_models::MAX_INPUT_SIZE;
use efficienttrain_schedule::{Order, Recipe};
use serde::Serialize;

/// Arguments of `bench preprocess`.
#[derive(Args)]
pub(super) struct PreprocessArgs {
    /// Data set of any kind; its training images, if it has splits
    #[arg(long, value_name = "PATH")]
    data: PathBuf,

    /// Edge of the training images, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 96)]
    size: u32,

    /// RandAugment magnitude
    #[arg(long, value_name = "M", default_value_t = 1.0)]
    magnitude: f64,

    /// Edge of the random crop before the low-frequency crop, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224)]
    base_size: u32,

    /// Order of low-frequency crop and RandAugment
    #[arg(long, value_enum, default_value_t = CropOrder::CropThenAugment)]
    order: CropOrder,

    /// Method of resizing images to --size
    #[arg(long, value_enum, default_value_t = CropMethod::Fourier)]
    crop: CropMethod,

    /// Resize and low-frequency crop one after the other, with 8-bit pixels in between
    #[arg(long)]
    stepwise_crop: bool,

    /// Decode JPEGs at 1/2, 1/4 or 1/8 of their size if the crop box then still has at least twice
    /// the pixels of --size
    #[arg(long)]
    reduced_decode: bool,

    /// Images to prepare
    #[arg(long, value_name = "N", default_value_t = 1000)]
    images: usize,

    /// Also measure the loader end to end, with one thread and with this many
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Seed of order and augmentation
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A report with the settings that it was measured at.
#[derive(Serialize)]
struct Output {
    size: u32,
    magnitude: f64,
    order: CropOrder,
    crop: CropMethod,
    #[serde(flatten)]
    report: PreprocessReport,
}

pub(super) fn run(args: &PreprocessArgs) -> Result<()> {
    ensure!(
        (1..=args.base_size).contains(&args.size),
        "--size: expected 1 to --base-size {}",
        args.base_size
    );
    ensure!(
        args.base_size as usize <= MAX_INPUT_SIZE,
        "--base-size: expected at most {MAX_INPUT_SIZE}, got {}",
        args.base_size
    );
    ensure!(args.images > 0, "--images: expected at least 1, got 0");
    ensure!((0.0..=10.0).contains(&args.magnitude), "--magnitude: expected 0 to 10, got {}", args.magnitude);
    // The training images of a data set are its first split.
    let sets = open_all(&args.data, DEFAULT_IMAGE_LIMIT)?;
    let source = sets.into_iter().next().context("no set of images")?.1;
    let bench = PreprocessBench { images: args.images, view: args.view(), workers: args.workers };
    let report = preprocess(&source, &args.pipeline()?, bench)?;
    let output =
        Output { size: args.size, magnitude: args.magnitude, order: args.order, crop: args.crop, report };
    if args.json {
        return Ok(crate::cli::print_line(serde_json::to_string_pretty(&output)?)?);
    }
    print_report(&output)
}

impl PreprocessArgs {
    fn view(&self) -> ViewSpec {
        let order = match self.order {
            CropOrder::CropThenAugment => Order::CropThenAugment,
            CropOrder::AugmentThenCrop => Order::AugmentThenCrop,
        };
        ViewSpec { size: self.size, magnitude: self.magnitude, order }
    }

    fn pipeline(&self) -> Result<TrainPipeline> {
        let config = TrainConfig {
            seed: self.seed,
            base_size: self.base_size,
            crop: self.crop,
            stepwise_crop: self.stepwise_crop,
            reduced_decode: self.reduced_decode,
            ..TrainConfig::default()
        };
        Ok(TrainPipeline::new(&config, &Recipe::named("resnet50-etpp")?))
    }
}

fn print_report(output: &Output) -> Result<()> {
    let report = &output.report;
    crate::cli::print_line(format!(
        "{} images to {}x{}, magnitude {}: {:.0} images/s/core",
        report.images, output.size, output.size, output.magnitude, report.images_per_s_core
    ))?;
    for stage in PipelineStage::ALL {
        let time = report.stages[stage.name()];
        crate::cli::print_line(format!(
            "  {:<9} {:>8.1} us per image {:>6.1}%",
            stage.name(),
            time.us_per_image,
            100.0 * time.share
        ))?;
    }
    crate::cli::print_line(format!(
        "  decoding alone: {:.0} images/s/core",
        report.decode_images_per_s_core
    ))?;
    for rate in &report.loader {
        crate::cli::print_line(format!(
            "  loader, {} workers: {:.0} images/s",
            rate.workers, rate.images_per_s
        ))?;
    }
    Ok(())
}
