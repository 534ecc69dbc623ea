//! `efficienttrain data`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use efficienttrain::config::InputChannels;
use efficienttrain::data::{
    BadImage, Check, DEFAULT_IMAGE_LIMIT, NamedSource, OpenOptions, PackOptions, Packed, SplitNotes, Stats,
    check, open_all, pack, stats, write_classes,
};
use serde::Serialize;

/// Number of broken images to list; `--json` lists all.
const NAMED: usize = 20;

/// Arguments of `data`.
#[derive(Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Subcommand)]
enum DataCommand {
    /// Decode every image and report classes, counts, sizes and broken files
    Check(CheckArgs),
    /// Compute mean and standard deviation of the colors
    Stats(StatsArgs),
    /// Write tar shards for fast or remote reading
    Pack(PackArgs),
}

/// Data set that a subcommand reads.
#[derive(Args)]
struct Input {
    /// Data set, one split of it, or one `.tar`, `.parquet` or CIFAR `.bin` file
    #[arg(value_name = "DIR|FILE")]
    path: PathBuf,

    /// Largest memory to decode one image with, in MiB
    #[arg(long, value_name = "MIB", default_value_t = (DEFAULT_IMAGE_LIMIT >> 20) as u32)]
    max_image_mib: u32,

    /// Read a list like `train --multi-label`: any number of labels an image, separated by `|` or
    /// `;`
    #[arg(long)]
    multi_label: bool,
}

impl Input {
    fn open(&self) -> Result<Vec<NamedSource>> {
        let limit = u64::from(self.max_image_mib) << 20;
        Ok(open_all(&self.path, OpenOptions { limit, multi_label: self.multi_label })?)
    }
}

#[derive(Args)]
struct CheckArgs {
    #[command(flatten)]
    input: Input,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct StatsArgs {
    #[command(flatten)]
    input: Input,

    /// Images to measure, spread evenly over each split [default: all]
    #[arg(long, value_name = "N")]
    images: Option<usize>,

    /// Options file to write, with the first split's `mean` and `std` for `train --config`
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,

    /// Overwrite an existing file
    #[arg(long, requires = "write")]
    force: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Channels to measure: 3, or 1 for gray images, to which color images are converted
    #[arg(long, value_name = "1|3", default_value_t = InputChannels::Rgb)]
    input_channels: InputChannels,
}

impl StatsArgs {
    /// Writes one number for each channel.
    fn numbers(&self, values: [f64; 3], between: &str) -> String {
        let numbers = values[..self.input_channels.count()].iter().map(|x| format!("{x:.4}"));
        numbers.collect::<Vec<_>>().join(between)
    }
}

#[derive(Args)]
struct PackArgs {
    #[command(flatten)]
    input: Input,

    /// Folder to write to; must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Largest short edge, in pixels: larger images are scaled down, smaller JPEGs are copied byte
    /// for byte
    #[arg(long, value_name = "PIXELS", default_value_t = PackOptions::default().max_size)]
    max_size: u32,

    /// Quality of the JPEGs to write, 1 to 100
    #[arg(long, value_name = "Q", default_value_t = PackOptions::default().quality)]
    quality: u8,

    /// Shards per split
    #[arg(long, value_name = "N", default_value_t = PackOptions::default().shards)]
    shards: usize,
}

/// Results of one split, for JSON.
#[derive(Serialize)]
struct Of<T> {
    split: String,
    #[serde(flatten)]
    result: T,
}

pub(crate) fn run(args: &DataArgs) -> Result<()> {
    match &args.command {
        DataCommand::Check(args) => run_check(args),
        DataCommand::Stats(args) => run_stats(args),
        DataCommand::Pack(args) => run_pack(args),
    }
}

fn run_check(args: &CheckArgs) -> Result<()> {
    let sets = args.input.open()?;
    let results: Vec<_> = sets.into_iter().map(|(split, set)| Of { split, result: check(&*set) }).collect();
    if args.json {
        super::print_line(serde_json::to_string_pretty(&results)?)?;
    } else {
        results.iter().try_for_each(|of| show_check(&of.split, &of.result))?;
    }
    let broken: usize = results.iter().map(|of| of.result.broken.len()).sum();
    if broken > 0 {
        bail!("{}: {broken} images are broken; repair or remove them", args.input.path.display());
    }
    Ok(())
}

fn show_check(split: &str, c: &Check) -> Result<()> {
    super::print_line(format!(
        "{split}: {} images, {} classes, {} broken",
        c.images,
        c.classes.len(),
        c.broken.len()
    ))?;
    let by_count = |class: &&efficienttrain::data::ClassCount| class.images;
    if let (Some(few), Some(many)) =
        (c.classes.iter().min_by_key(by_count), c.classes.iter().max_by_key(by_count))
    {
        super::print_line(format!(
            "  images per class:  {} ({}) to {} ({})",
            few.images, few.name, many.images, many.name
        ))?;
    }
    if let Some(images) = c.without_label {
        super::print_line(format!("  images without a label:  {images}"))?;
    }
    for (edge, range) in [("width", c.width), ("height", c.height)] {
        super::print_line(format!("  {edge}: {} to {}, median {}", range.min, range.max, range.median))?;
    }
    if let Some(first) = c.misnamed.first() {
        super::print_line(format!(
            "  {} images are in another format than their file extension says, such as {first}",
            c.misnamed.len()
        ))?;
    }
    let empty_classes = c.classes.iter().filter(|of| of.images == 0).map(|of| of.name.clone()).collect();
    let notes = SplitNotes { skipped: c.skipped.clone(), empty_classes };
    notes.lines(split).iter().try_for_each(|line| super::print_line(format!("  {line}")))?;
    for image in c.broken.iter().take(NAMED) {
        super::print_message(format!("  broken: {}", image.reason))?;
    }
    if c.broken.len() > NAMED {
        super::print_line(format!("  and {} more; --json lists all", c.broken.len() - NAMED))?;
    }
    Ok(())
}

fn run_stats(args: &StatsArgs) -> Result<()> {
    if args.images == Some(0) {
        bail!("--images: expected at least 1, got 0");
    }
    // Before all images are read in vain.
    if let Some(path) = args.write.as_ref().filter(|path| path.exists() && !args.force) {
        bail!("--write: {} exists already; choose another name, or give --force", path.display());
    }
    let mut results = Vec::new();
    for (split, set) in args.input.open()? {
        super::note_set(&split, &*set);
        let result = stats(&*set, args.input_channels, args.images)?;
        warn(&result.broken);
        results.push(Of { split, result });
    }
    if let (Some(path), Some(first)) = (&args.write, results.first()) {
        write_statistics(path, args, first)?;
    }
    if args.json {
        return Ok(super::print_line(serde_json::to_string_pretty(&results)?)?);
    }
    for Of { split, result } in results {
        let (mean, std) = (args.numbers(result.mean, ", "), args.numbers(result.std, ", "));
        super::print_line(format!("{split}: mean [{mean}]  std [{std}]  ({} images)", result.images))?;
    }
    Ok(())
}

/// Writes the options by which training normalizes with these numbers.
fn write_statistics(path: &Path, args: &StatsArgs, of: &Of<Stats>) -> Result<()> {
    let text = format!(
        "# Mean and standard deviation of {} images of {} ({}).\ninput-channels = {}\nmean = \"{}\"\nstd = \"{}\"\n",
        of.result.images,
        args.input.path.display(),
        of.split,
        args.input_channels,
        args.numbers(of.result.mean, ","),
        args.numbers(of.result.std, ",")
    );
    std::fs::write(path, text).with_context(|| format!("--write {}", path.display()))
}

fn run_pack(args: &PackArgs) -> Result<()> {
    let options = PackOptions { max_size: args.max_size, quality: args.quality, shards: args.shards };
    options.check()?;
    let holds_something = std::fs::read_dir(&args.out).is_ok_and(|mut entries| entries.next().is_some());
    if holds_something {
        bail!("--out {}: the folder is not empty; choose a new one", args.out.display());
    }
    if args.input.multi_label {
        bail!("--multi-label: shards have one label an image; train on the images and their lists instead");
    }
    let sets = args.input.open()?;
    std::fs::create_dir_all(&args.out).with_context(|| format!("--out {}", args.out.display()))?;
    if let Some((_, set)) = sets.first() {
        write_classes(&args.out, set.classes())?;
    }
    for (split, set) in sets {
        super::note_set(&split, &*set);
        // A set without splits is written to the folder itself.
        let dir = if split == "all" { args.out.clone() } else { args.out.join(&split) };
        let packed = pack(&*set, &dir, &split, options)?;
        warn(&packed.broken);
        super::print_line(line(&split, &packed))?;
    }
    Ok(())
}

fn line(split: &str, packed: &Packed) -> String {
    format!(
        "{split}: {} images in {} shards, {:.1} MB; {} copied unchanged, {} skipped",
        packed.images,
        packed.shards.len(),
        packed.bytes as f64 / 1e6,
        packed.copied,
        packed.broken.len()
    )
}

fn warn(broken: &[BadImage]) {
    broken.iter().for_each(|b| super::eprint_line(format!("warning: skipped {}", b.reason)));
}
