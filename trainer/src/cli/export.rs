//! `efficienttrain export`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use efficienttrain::checkpoint;
use efficienttrain::inference::onnx::export_onnx;
use efficienttrain::inference::predict::Predictor;
use efficienttrain_models::onnx::OnnxOutput;

use super::inference::open_weights;

/// Format of an exported file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// Weights under timm's names, for this program and others
    Safetensors,
    /// The model with its weights, for ONNX Runtime and others: opset 17, any batch
    Onnx,
}

/// Arguments of `export`.
#[derive(Args)]
pub(crate) struct ExportArgs {
    /// Checkpoint or weight file that `train` wrote
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Use the moving average (EMA) of the weights
    #[arg(long)]
    ema: bool,

    /// Use the mean of the newest N checkpoints that the run has kept (--keep-last)
    #[arg(long, value_name = "N")]
    average: Option<NonZeroUsize>,

    /// File to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Format of the file [default: `onnx` if its name ends so, else `safetensors`]
    #[arg(long, value_enum)]
    format: Option<ExportFormat>,

    /// Edge of the images, in pixels; position embeddings follow [default: the base size of the
    /// run]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,

    /// Let an ONNX file give probabilities instead of logits, of classes that exclude each other
    #[arg(long)]
    softmax: bool,

    /// Let an ONNX file give a probability for each class by itself, for weights of `--multi-label`
    /// or `--loss bce`
    #[arg(long, conflicts_with = "softmax")]
    sigmoid: bool,

    /// Overwrite an existing file
    #[arg(long)]
    force: bool,
}

impl ExportArgs {
    fn format(&self) -> ExportFormat {
        let onnx = self.out.extension().is_some_and(|end| end.eq_ignore_ascii_case("onnx"));
        self.format.unwrap_or(if onnx { ExportFormat::Onnx } else { ExportFormat::Safetensors })
    }

    fn output(&self) -> OnnxOutput {
        match (self.softmax, self.sigmoid) {
            (true, _) => OnnxOutput::Softmax,
            (_, true) => OnnxOutput::Sigmoid,
            _ => OnnxOutput::Logits,
        }
    }
}

pub(crate) fn run(args: &ExportArgs) -> Result<()> {
    let format = args.format();
    if args.out.exists() && !args.force {
        bail!("--out: {} exists already; choose another name, or give --force", args.out.display());
    }
    let asked = [("softmax", args.softmax), ("sigmoid", args.sigmoid)];
    if let (Some((option, _)), false) = (asked.iter().find(|(_, given)| *given), format == ExportFormat::Onnx)
    {
        bail!("--{option}: a file of weights has no output; give --format onnx");
    }
    let (saved, ema) = open_weights(&args.weights, args.ema, args.average)?;
    let mut record = saved.described_run()?;
    // At the size to which the position embeddings belong.
    let size = args.size.unwrap_or(record.base_size);
    let predictor = Predictor::load(&saved, ema)?.at_size(size)?;
    match format {
        ExportFormat::Safetensors => {
            (record.size, record.base_size) = (size, size);
            checkpoint::export(&args.out, &*predictor.model, &predictor.params, &record)?;
        }
        ExportFormat::Onnx => export_onnx(&args.out, &predictor, &record, args.output())?,
    }
    super::print_line(summary(args, &record.model, record.step, &args.out))?;
    Ok(())
}

fn summary(args: &ExportArgs, model: &str, step: u64, out: &Path) -> String {
    let ema = if args.ema { "the average" } else { "the weights" };
    let weights = args.average.map_or(ema.to_string(), |count| format!("the mean of {count} checkpoints"));
    format!("{weights} of {model} at step {step} in {}", out.display())
}
