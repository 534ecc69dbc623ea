//! `efficienttrain features`, `probe` and `knn`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use efficienttrain::Sources;
use efficienttrain::checkpoint::{Checkpoint, RunRecord};
use efficienttrain::config::{PerChannel, TrainConfig};
use efficienttrain::inference::features::{
    Encoder, FeatureSet, Pool, ProbeOptions, extract, linear_probe, nearest_neighbors,
};

use super::inference::{InferenceArgs, note_left_out, warn_of_nonfinite};

/// File names of the two splits.
const FILES: (&str, &str) = ("train.safetensors", "val.safetensors");

/// Arguments of `features`.
#[derive(Args)]
pub(crate) struct FeaturesArgs {
    /// Checkpoint or weight file of `train` or `pretrain`, or a weight file of another program
    #[arg(long, value_name = "FILE")]
    weights: PathBuf,

    /// Folder to write `train.safetensors` and `val.safetensors` to, each with N rows of `features`
    /// and N `labels`
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Data set with both splits [default: that of the run, with its --images-per-class]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Without a val split: fraction of each class to use as one [default: as in the run, on its
    /// own data]
    #[arg(long, value_name = "SHARE")]
    val_share: Option<f64>,

    /// Model of a file with only weights, as `efficienttrain models` lists them
    #[arg(long, value_name = "NAME")]
    model: Option<String>,

    /// Edge of the images, in pixels [default: the base size of the run]
    #[arg(long, value_name = "PIXELS")]
    size: Option<usize>,

    /// Mean of the pixel values by which images are normalized, for weights that other numbers than
    /// ImageNet's belong to [default: that of the run, or ImageNet's]
    #[arg(long, value_name = "R,G,B")]
    mean: Option<PerChannel>,

    /// Standard deviation, like --mean
    #[arg(long, value_name = "R,G,B")]
    std: Option<PerChannel>,

    /// Feature vector of an image
    #[arg(long, value_enum, default_value_t = Pool::Head)]
    pool: Pool,

    /// Use the moving average (EMA) of the weights
    #[arg(long)]
    ema: bool,

    #[command(flatten)]
    inference: InferenceArgs,

    /// Also write NumPy files: `train_features.npy`, `train_labels.npy`, and the same for `val`
    #[arg(long)]
    npy: bool,
}

pub(crate) fn features(args: &FeaturesArgs) -> Result<()> {
    let saved = Checkpoint::open(&args.weights)?;
    warn_of_nonfinite(&saved, args.ema)?;
    let encoder = Encoder::load(&saved, args.model.as_deref(), args.size, args.ema)?;
    encoder.report.iter().for_each(|report| note_left_out(&args.weights, report));
    let run = saved.record.as_ref().map(|record| record.config.clone());
    let mut config = run.unwrap_or_default();
    if let Some(data) = &args.data {
        config = TrainConfig {
            data: Some(data.clone()),
            images_per_class: None,
            val_share: None,
            multi_label: false,
            ..config
        };
    }
    config.val_share = args.val_share.or(config.val_share);
    if config.multi_label {
        bail!(
            "--data: images of the run have any number of labels, and `probe` and `knn` need one each; give a data set \
             with one label an image"
        );
    }
    // Pre-training needs neither labels nor a second split, but evaluating the features does.
    config.target = None;
    let sources = match &saved.record {
        Some(run) if args.data.is_none() && run.config.target.is_none() => {
            Sources::of_run(&RunRecord { config, ..run.clone() })?
        }
        _ => Sources::open(&config)?,
    };
    // Reports an unwritable folder before, not after, all images have been processed.
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    let own = encoder.normalization;
    let normalization = TrainConfig {
        input_channels: Some(own.channels),
        mean: args.mean.or(Some(PerChannel(own.mean))),
        std: args.std.or(Some(PerChannel(own.std))),
        ..TrainConfig::default()
    }
    .checked_normalization()?;
    let params = encoder.params.to_device(&args.inference.device.open()?)?;
    for (name, source) in [(FILES.0, sources.train), (FILES.1, sources.val)] {
        super::note_set(name.trim_end_matches(".safetensors"), &*source);
        let (set, bad) =
            extract(&*encoder.model, &params, args.pool, source, normalization, args.inference.load())?;
        bad.iter().for_each(|b| super::eprint_line(format!("warning: skipped {}", b.reason)));
        let path = args.out.join(name);
        set.save(&path)?;
        if args.npy {
            set.save_npy(&args.out, name.trim_end_matches(".safetensors"))?;
        }
        super::print_line(format!("{}: {} images, {} features", path.display(), set.len(), set.width))?;
    }
    Ok(())
}

fn both(folder: &Path) -> Result<(FeatureSet, FeatureSet)> {
    if let Some(name) = [FILES.0, FILES.1].into_iter().find(|name| !folder.join(name).exists()) {
        bail!(
            "{} has no {name}; expected the folder that `efficienttrain features --out` wrote",
            folder.display()
        );
    }
    Ok((FeatureSet::load(&folder.join(FILES.0))?, FeatureSet::load(&folder.join(FILES.1))?))
}

/// Arguments of `probe`.
#[derive(Args)]
pub(crate) struct ProbeArgs {
    /// Folder that `efficienttrain features` wrote
    #[arg(value_name = "DIR")]
    features: PathBuf,

    /// L2 regularization: weight of half the squared norm of the classifier, added to the mean
    /// cross entropy
    #[arg(long, value_name = "L2", default_value_t = 1e-3)]
    l2: f64,

    /// Largest number of steps; fewer if it converges earlier
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    steps: usize,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn probe(args: &ProbeArgs) -> Result<()> {
    let (train, val) = both(&args.features)?;
    let probe = linear_probe(&train, &val, ProbeOptions { l2: args.l2, steps: args.steps })?;
    if args.json {
        return Ok(super::print_line(serde_json::to_string_pretty(&probe)?)?);
    }
    let converged = if probe.steps < args.steps { "converged" } else { "not converged" };
    super::print_line(format!(
        "linear probe: top-1 {:.2}% of {} images ({:.2}% of those it was trained on), {converged} after {} steps",
        100.0 * probe.top1,
        probe.images,
        100.0 * probe.train_top1,
        probe.steps
    ))?;
    Ok(())
}

/// Arguments of `knn`.
#[derive(Args)]
pub(crate) struct KnnArgs {
    /// Folder that `efficienttrain features` wrote
    #[arg(value_name = "DIR")]
    features: PathBuf,

    /// Number of neighbors that vote; several values are tried in turn
    #[arg(long, value_name = "K,...", value_delimiter = ',', default_values_t = [20])]
    k: Vec<usize>,

    /// Temperature T of the votes: a neighbor has the weight exp(cosine / T)
    #[arg(long, value_name = "T", default_value_t = 0.07)]
    temperature: f64,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn knn(args: &KnnArgs) -> Result<()> {
    let (train, val) = both(&args.features)?;
    let mut found = Vec::new();
    for &k in &args.k {
        found.push(nearest_neighbors(&train, &val, k, args.temperature)?);
    }
    if args.json {
        return Ok(super::print_line(serde_json::to_string_pretty(&found)?)?);
    }
    for of in found {
        super::print_line(format!(
            "{} neighbors: top-1 {:.2}% of {} images",
            of.k,
            100.0 * of.top1,
            of.images
        ))?;
    }
    Ok(())
}
