//! `efficienttrain eval`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use efficienttrain::Sources;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::data::EvalPipeline;
use efficienttrain::inference::evaluate::{Confusion, evaluate_each};
use efficienttrain::inference::predict::Predictor;

use super::inference::{InferenceArgs, warn_of_nonfinite};

/// Arguments of `eval`.
#[derive(Args)]
pub(crate) struct EvalArgs {
    /// Checkpoint or weight file that `train` wrote
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Image folder: DIR/CLASS/IMAGE, or its `val` folder if there is one [default: the data set of
    /// the run]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Edge of the images, in pixels [default: the base size of the run]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,

    /// Fraction of the short edge that the center crop keeps, above 0 and at most 1
    #[arg(long, value_name = "SHARE", default_value_t = EvalPipeline::CROP_PCT)]
    crop_pct: f64,

    /// Use the moving average (EMA) of the weights
    #[arg(long)]
    ema: bool,

    /// CSV file to write: one row per class with images, recall, precision, top-5 and the most
    /// frequent confusion
    #[arg(long, value_name = "FILE")]
    per_class: Option<PathBuf>,

    /// CSV file to write: confusion matrix, with true classes as rows and predicted classes as
    /// columns
    #[arg(long, value_name = "FILE")]
    confusion: Option<PathBuf>,

    #[command(flatten)]
    inference: InferenceArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &EvalArgs) -> Result<()> {
    let saved = Checkpoint::open(&args.weights)?;
    let record = saved.run()?;
    warn_of_nonfinite(&saved, args.ema)?;
    let source = Sources::evaluation(record, args.data.as_deref())?;
    super::note_set("evaluation", &*source);
    let size = args.size.unwrap_or(record.base_size);
    let pipeline = EvalPipeline::new(size).with_crop_pct(args.crop_pct)?;
    let p = Predictor::load(&saved, args.ema)?.at_size(size)?.on(&args.inference.device.open()?)?;
    let mut confusion = Confusion::new(&record.classes);
    let (accuracy, bad) =
        evaluate_each(&*p.model, &p.params, source, &pipeline, args.inference.load(), &mut |j| {
            confusion.add(&j);
        })?;
    bad.iter().for_each(|b| super::eprint_line(format!("warning: skipped {}", b.reason)));
    if args.json {
        super::print_line(serde_json::to_string_pretty(&accuracy)?)?;
    } else {
        super::print_line(format!(
            "{} at {size}: top-1 {:.2}%  top-5 {:.2}%  loss {:.4}  ({} images)",
            record.model,
            100.0 * accuracy.top1,
            100.0 * accuracy.top5,
            accuracy.loss,
            accuracy.images
        ))?;
    }
    // Printed first: the accuracy must not be lost if a file cannot be written.
    args.per_class.as_deref().map_or(Ok(()), |path| confusion.write_rows(path))?;
    Ok(args.confusion.as_deref().map_or(Ok(()), |path| confusion.write_matrix(path))?)
}
