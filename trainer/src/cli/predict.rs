//! `efficienttrain predict`.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use clap::Args;
use efficienttrain_trainer::checkpoint::Saved;
use efficienttrain_trainer::predict::{Predictor, logits_of_tensor};

/// Arguments of `predict`.
#[derive(Args)]
pub(crate) struct PredictArgs {
    /// Image files
    #[arg(value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// Checkpoint or weights: those of a run for images, any weights (safetensors or .pth, names of timm, torchvision or the authors) for a tensor
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Use the moving average of the weights
    #[arg(long)]
    ema: bool,

    /// Classes to show for each image
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,

    /// Print JSON, with the probability of every class
    #[arg(long)]
    json: bool,

    /// Model that the weights belong to, for a tensor
    #[arg(long, value_name = "NAME", requires = "tensor")]
    model: Option<String>,

    /// Safetensors file with the key `input`, f32 `[N, C, H, W]`, normalised
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
    let read = candle_core::safetensors::load(tensor, &Device::Cpu);
    let mut tensors = read.with_context(|| format!("--tensor: cannot read {}", tensor.display()))?;
    let Some(input) = tensors.remove("input") else {
        bail!("--tensor: {} has no key `input`; expected f32 [N, 3, H, W] under it", tensor.display());
    };
    let logits = logits_of_tensor(model, &Saved::open(&args.weights)?, args.ema, &input)?;
    let named = HashMap::from([("logits", logits)]);
    candle_core::safetensors::save(&named, out)
        .with_context(|| format!("--out: cannot write {}", out.display()))
}

fn on_images(args: &PredictArgs) -> Result<()> {
    if args.images.is_empty() {
        bail!("nothing to predict; give image files, or --tensor with --model and --out");
    }
    let predictor = Predictor::load(&Saved::open(&args.weights)?, args.ema)?;
    let mut failed = 0;
    for path in &args.images {
        match predictor.probabilities(path) {
            Ok(ranked) if args.json => {
                let classes: serde_json::Map<_, _> = ranked.into_iter().map(|(c, p)| (c, p.into())).collect();
                super::show(serde_json::json!({ "image": path, "probabilities": classes }))?;
            }
            Ok(ranked) => {
                super::show(path.display())?;
                let best = ranked.iter().take(args.top);
                best.map(|(class, p)| format!("  {:6.2}%  {class}", 100.0 * p)).try_for_each(super::show)?;
            }
            Err(error) => {
                eprintln!("error: {error}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} images could not be read", args.images.len());
    }
    Ok(())
}
