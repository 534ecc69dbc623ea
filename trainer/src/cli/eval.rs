//! `efficienttrain eval`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::Args;
use efficienttrain::Sources;
use efficienttrain::data::{BadImage, DEFAULT_IMAGE_LIMIT, EvalPipeline, Source, open_all};
use efficienttrain::inference::class_map::ClassMap;
use efficienttrain::inference::evaluate::{Accuracy, Confusion, evaluate_each, evaluate_labels};
use efficienttrain::inference::predict::Predictor;

use super::inference::{InferenceArgs, TestTime, crop_pct, open_weights};

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

    /// CSV file with rows DATA_CLASS,MODEL_CLASS, to evaluate on a data set with other classes; the
    /// latter are names or numbers of the model's classes. Several of them may stand for one class of
    /// the data set, and the others do not take part
    #[arg(long, value_name = "FILE", requires = "data")]
    map: Option<PathBuf>,

    /// Edge of the images, in pixels [default: the base size of the run]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,

    /// Fraction of the short edge that the center crop keeps, above 0 and at most 1 [default: 0.875,
    /// or that of timm's config.json beside the weights]
    #[arg(long, value_name = "SHARE")]
    crop_pct: Option<f64>,

    /// Use the moving average (EMA) of the weights
    #[arg(long)]
    ema: bool,

    /// Use the mean of the newest N checkpoints that the run has kept (--keep-last)
    #[arg(long, value_name = "N")]
    average: Option<NonZeroUsize>,

    /// Test-time augmentation
    #[arg(long, value_enum)]
    tta: Option<TestTime>,

    /// CSV file to write: one row per class with images, recall, precision, top-5 and the most
    /// frequent confusion; for weights of `--multi-label` with positives, average precision,
    /// precision, recall and F1
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
    let (saved, ema) = open_weights(&args.weights, args.ema, args.average)?;
    let mut record = saved.described_run()?;
    let source = match (&saved.record, args.data.as_deref()) {
        (_, Some(dir)) if args.map.is_some() => last_split(dir)?,
        (None, None) => {
            bail!("--data: the weight file is of no run, so there is no data set to evaluate it on; give one")
        }
        (None, Some(dir)) if record.classes.iter().enumerate().all(|(i, name)| *name == i.to_string()) => {
            of_numbered_classes(dir, record.classes.len())?
        }
        (_, data) => Sources::evaluation(&record, data)?,
    };
    if record.config.multi_label && args.map.is_some() {
        bail!(
            "--map: is for weights that tell one class an image, and these are of a multi-label run; leave it out"
        );
    }
    if record.config.multi_label && args.confusion.is_some() {
        bail!(
            "--confusion: images of a multi-label run have any number of classes, so that none is taken for another; \
             give --per-class"
        );
    }
    let map = args.map.as_deref().map(|path| ClassMap::read(path, source.classes(), &record.classes));
    let map = map.transpose()?;
    // A misspelled class would otherwise be missing from its group in silence.
    if let Some(map) = &map
        && let Some(first) = map.unused().first()
    {
        let count = map.unused().len();
        super::eprint_line(format!(
            "note: --map has {count} rows whose name is no class of the data set, such as `{first}`"
        ));
    }
    record.classes = source.classes().to_vec();
    super::note_set("evaluation", &*source);
    let size = args.size.unwrap_or(record.base_size);
    let pipeline = EvalPipeline::new(size)
        .with_normalization(record.config.normalization())
        .with_crop_pct(crop_pct(args.crop_pct, &saved)?)?;
    let pipeline = EvalPipeline { flip: args.tta == Some(TestTime::Flip), ..pipeline };
    let p = Predictor::load(&saved, ema)?.at_size(size)?.on(&args.inference.device.open()?)?;
    if record.config.multi_label {
        let (accuracy, table, bad) =
            evaluate_labels(&*p.model, &p.params, source, &pipeline, args.inference.load())?;
        show(args, &record.model, size, &accuracy, &bad)?;
        return Ok(args.per_class.as_deref().map_or(Ok(()), |path| table.write_rows(path))?);
    }
    let model = match map {
        Some(map) => map.apply(p.model),
        None => p.model,
    };
    let mut confusion = Confusion::new(&record.classes);
    let (accuracy, bad) =
        evaluate_each(&*model, &p.params, source, &pipeline, args.inference.load(), &mut |j| {
            confusion.add(&j);
        })?;
    show(args, &record.model, size, &accuracy, &bad)?;
    // Printed first: the accuracy must not be lost if a file cannot be written.
    args.per_class.as_deref().map_or(Ok(()), |path| confusion.write_rows(path))?;
    Ok(args.confusion.as_deref().map_or(Ok(()), |path| confusion.write_matrix(path))?)
}

/// Opens the split of a data set to evaluate on, with its own classes.
fn last_split(dir: &Path) -> Result<Arc<dyn Source>> {
    match open_all(dir, DEFAULT_IMAGE_LIMIT)?.pop() {
        Some((_, source)) => Ok(source),
        None => bail!("--data: {} has no images", dir.display()),
    }
}

/// Prints the accuracy, and the images that do not count.
fn show(args: &EvalArgs, model: &str, size: usize, accuracy: &Accuracy, bad: &[BadImage]) -> Result<()> {
    bad.iter().for_each(|b| super::eprint_line(format!("warning: skipped {}", b.reason)));
    if args.json {
        return Ok(super::print_line(serde_json::to_string_pretty(accuracy)?)?);
    }
    let (loss, ece, images) = (accuracy.loss, 100.0 * accuracy.ece, accuracy.images);
    let figures = match accuracy.multi_label {
        None => format!("top-1 {:.2}%  top-5 {:.2}%", 100.0 * accuracy.top1, 100.0 * accuracy.top5),
        Some(several) => format!(
            "mAP {:.2}%  F1 {:.2}% (micro) {:.2}% (macro)  most probable class right {:.2}%",
            100.0 * several.map,
            100.0 * several.micro_f1,
            100.0 * several.macro_f1,
            100.0 * accuracy.top1
        ),
    };
    super::print_line(format!(
        "{model} at {size}: {figures}  loss {loss:.4}  calibration error {ece:.2}%  ({images} images)"
    ))?;
    if let Some(left_out) = accuracy.multi_label.map(|m| m.classes_without_positive).filter(|n| *n > 0) {
        super::eprint_line(format!("note: mAP and macro F1 leave out {left_out} classes without an image"));
    }
    Ok(())
}

/// Opens images for weights that do not name their classes: those of the data set in order.
fn of_numbered_classes(dir: &Path, count: usize) -> Result<Arc<dyn Source>> {
    let source = last_split(dir)?;
    if source.classes().len() != count {
        bail!(
            "--data: the weights are for {count} classes, {} has {}; give the data set that they are for",
            dir.display(),
            source.classes().len()
        );
    }
    Ok(source)
}
