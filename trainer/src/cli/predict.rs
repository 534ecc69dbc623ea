//! `efficienttrain predict`.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::Args;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::DeviceName;
use efficienttrain::data::{EvalPipeline, ImageFiles, Source};
use efficienttrain::inference::predict::{Predictor, Ranked, logits_of_tensor};

use super::inference::{InferenceArgs, TestTime, crop_pct, note_left_out, open_weights, warn_of_nonfinite};

/// Probability above which an image of a multi-label run has a class, unless one is given.
const THRESHOLD: f64 = 0.5;

/// Arguments of `predict`.
#[derive(Args)]
pub(crate) struct PredictArgs {
    /// Image files, and folders of them
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// Checkpoint or weight file: of a run for images; any weights (safetensors or .pth, named like
    /// timm, torchvision or the authors) for a tensor
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Use the moving average (EMA) of the weights
    #[arg(long)]
    ema: bool,

    /// Use the mean of the newest N checkpoints that the run has kept (--keep-last)
    #[arg(long, value_name = "N", conflicts_with = "tensor")]
    average: Option<NonZeroUsize>,

    /// Test-time augmentation
    #[arg(long, value_enum, conflicts_with = "tensor")]
    tta: Option<TestTime>,

    /// Classes to show for each image [default: 5; with --json all; for weights of `--multi-label`
    /// those above --threshold]
    #[arg(long, value_name = "K")]
    top: Option<usize>,

    /// Probability above which an image has a class, for weights of `--multi-label`: text shows
    /// those classes, and JSON lists them under `classes`; CSV shows the best classes unless this is
    /// given [default: 0.5]
    #[arg(long, value_name = "P", conflicts_with = "tensor")]
    threshold: Option<f64>,

    /// Edge of the images, in pixels [default: the base size of the run]
    #[arg(long, value_name = "PIXELS", conflicts_with = "tensor")]
    size: Option<usize>,

    /// Fraction of the short edge that the center crop keeps, above 0 and at most 1 [default: 0.875,
    /// or that of timm's config.json beside the weights]
    #[arg(long, value_name = "SHARE")]
    crop_pct: Option<f64>,

    #[command(flatten)]
    inference: InferenceArgs,

    /// Print JSON, one object per image
    #[arg(long)]
    json: bool,

    /// Append the JSON to this file; images that it has are not predicted again, so that an
    /// interrupted command goes on where it stopped
    #[arg(long, value_name = "FILE", requires = "json")]
    append: Option<PathBuf>,

    /// Print CSV, one row per class: image, rank, class and probability
    #[arg(long, conflicts_with = "json")]
    csv: bool,

    /// Model of the weights, for a tensor
    #[arg(long, value_name = "NAME", requires = "tensor")]
    model: Option<String>,

    /// Safetensors file with the key `input`, f32 `[N, C, H, W]`, normalized
    #[arg(long, value_name = "FILE", requires_all = ["model", "out"], conflicts_with = "images")]
    tensor: Option<PathBuf>,

    /// Safetensors file to write, with the key `logits`, f32 `[N, classes]`
    #[arg(long, value_name = "FILE", requires = "tensor")]
    out: Option<PathBuf>,
}

pub(crate) fn run(args: &PredictArgs) -> Result<()> {
    match (&args.tensor, &args.model, &args.out) {
        (Some(tensor), Some(model), Some(out)) => on_tensor(args, model, tensor, out),
        _ => on_images(args),
    }
}

fn on_tensor(args: &PredictArgs, model: &str, tensor: &PathBuf, out: &PathBuf) -> Result<()> {
    if args.inference.device != DeviceName::Cpu {
        bail!("--device: tensors are predicted on the CPU only; leave it out");
    }
    let read = candle_core::safetensors::load(tensor, &Device::Cpu);
    let mut tensors = read.with_context(|| format!("--tensor: cannot read {}", tensor.display()))?;
    let Some(input) = tensors.remove("input") else {
        bail!("--tensor: {} has no key `input`; expected f32 [N, 3, H, W] under it", tensor.display());
    };
    let saved = Checkpoint::open(&args.weights)?;
    warn_of_nonfinite(&saved, args.ema)?;
    let (logits, report) = logits_of_tensor(model, &saved, args.ema, &input)?;
    note_left_out(&args.weights, &report);
    let named = HashMap::from([("logits", logits)]);
    candle_core::safetensors::save(&named, out)
        .with_context(|| format!("--out: cannot write {}", out.display()))
}

fn on_images(args: &PredictArgs) -> Result<()> {
    if args.images.is_empty() {
        bail!("nothing to predict; give image files, or --tensor with --model and --out");
    }
    let (saved, ema) = open_weights(&args.weights, args.ema, args.average)?;
    let mut predictor = Predictor::load(&saved, ema)?;
    check_threshold(args, &predictor)?;
    if let Some(size) = args.size {
        predictor = predictor.at_size(size)?;
    }
    predictor = predictor.on(&args.inference.device.open()?)?;
    let pipeline = EvalPipeline::new(predictor.model.input_size()[0])
        .with_normalization(predictor.normalization)
        .with_crop_pct(crop_pct(args.crop_pct, &saved)?)?;
    let pipeline = EvalPipeline { flip: args.tta == Some(TestTime::Flip), ..pipeline };
    let files = ImageFiles::new(&args.images, predictor.classes())?;
    let mut output = args.append.as_deref().map(Appended::open).transpose()?;
    let done = output.iter().flat_map(|output| output.done.iter().cloned()).collect();
    let files = files.without(&done);
    if !done.is_empty() {
        super::eprint_line(format!(
            "note: {} images are in the file already, {} are left",
            done.len(),
            files.len()
        ));
    }
    if !files.skipped().is_empty() {
        super::eprint_line(format!("note: skipped {}", files.skipped()));
    }
    if args.csv {
        super::print_line("image,rank,class,probability")?;
    }
    let several = predictor.is_multi_label();
    let mut images = 0;
    let bad = predictor.predict_files(files, &pipeline, args.inference.load(), &mut |image, ranked| {
        images += 1;
        match &mut output {
            Some(output) => output.write(&json_line(args, several, image, &ranked)),
            None => print_ranked(args, several, image, &ranked),
        }
    })?;
    bad.iter().for_each(|bad| super::eprint_line(format!("error: {}", bad.reason)));
    if !bad.is_empty() {
        bail!("{} of {} images could not be read", bad.len(), images + bad.len());
    }
    Ok(())
}

fn check_threshold(args: &PredictArgs, predictor: &Predictor) -> Result<()> {
    let Some(threshold) = args.threshold else { return Ok(()) };
    if !predictor.is_multi_label() {
        bail!(
            "--threshold: is for weights of `train --multi-label`; each image of these has one class, the most \
             probable one; leave it out"
        );
    }
    if !(0.0..1.0).contains(&threshold) {
        bail!("--threshold: expected a probability of at least 0 and below 1, got {threshold}");
    }
    Ok(())
}

/// Returns the classes above the threshold.
fn above<'a>(args: &PredictArgs, ranked: &'a [(String, f64)]) -> &'a [(String, f64)] {
    let threshold = args.threshold.unwrap_or(THRESHOLD);
    &ranked[..ranked.partition_point(|(_, p)| *p > threshold)]
}

/// Returns the classes to show.
fn best<'a>(args: &PredictArgs, several: bool, ranked: &'a Ranked) -> &'a [(String, f64)] {
    // JSON has the classes above the threshold beside the probabilities.
    let text = several && !args.csv && !args.json;
    let of_text = text && args.top.is_none();
    let filtered = !args.json && (args.threshold.is_some() || of_text);
    let ranked = if filtered { above(args, ranked) } else { ranked };
    let count = args.top.unwrap_or(if args.json || filtered { ranked.len() } else { 5 });
    &ranked[..count.min(ranked.len())]
}

fn json_line(args: &PredictArgs, several: bool, image: &str, ranked: &Ranked) -> serde_json::Value {
    let classes: serde_json::Map<_, _> =
        best(args, several, ranked).iter().map(|(class, p)| (class.clone(), (*p).into())).collect();
    let class = ranked.first().map(|(class, _)| class);
    let mut line = serde_json::json!({ "image": image, "class": class, "probabilities": classes });
    if several {
        let named: Vec<&String> = above(args, ranked).iter().map(|(class, _)| class).collect();
        line["classes"] = serde_json::json!(named);
    }
    line
}

/// A file of predictions that grows.
struct Appended {
    file: std::fs::File,
    path: PathBuf,
    /// Images that it has.
    done: HashSet<String>,
}

impl Appended {
    /// Opens the file, or begins it. A last line that a stop has cut off is removed.
    fn open(path: &Path) -> Result<Self> {
        let context = || format!("--append {}", path.display());
        let mut file =
            std::fs::File::options().read(true).append(true).create(true).open(path).with_context(context)?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(context)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut done = HashSet::new();
        for (line, content) in text[..whole].lines().enumerate() {
            let value: Option<serde_json::Value> = serde_json::from_str(content).ok();
            let Some(image) = value.as_ref().and_then(|value| value["image"].as_str()) else {
                bail!(
                    "--append: line {} of {} is not of `predict --json`; choose another file",
                    line + 1,
                    path.display()
                );
            };
            done.insert(image.to_string());
        }
        file.set_len(whole as u64).with_context(context)?;
        Ok(Self { file, path: path.into(), done })
    }

    fn write(&mut self, line: &serde_json::Value) -> Result<()> {
        // One call for a whole line.
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .with_context(|| format!("--append {}", self.path.display()))
    }
}

fn print_ranked(args: &PredictArgs, several: bool, image: &str, ranked: &Ranked) -> Result<()> {
    if args.json {
        return Ok(super::print_line(json_line(args, several, image, ranked))?);
    }
    let best = best(args, several, ranked);
    if args.csv {
        let mut rows = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        for (rank, (class, probability)) in best.iter().enumerate() {
            rows.serialize((image, rank + 1, class, probability))?;
        }
        let rows = String::from_utf8(rows.into_inner()?)?;
        return if rows.is_empty() { Ok(()) } else { Ok(super::print_line(rows.trim_end())?) };
    }
    super::print_line(image)?;
    if best.is_empty() && several {
        let threshold = 100.0 * args.threshold.unwrap_or(THRESHOLD);
        return Ok(super::print_line(format!("  no class above {threshold}%"))?);
    }
    best.iter().try_for_each(|(class, p)| Ok(super::print_line(format!("  {:6.2}%  {class}", 100.0 * p))?))
}
