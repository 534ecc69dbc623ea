//! `efficienttrain report`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use efficienttrain::Sources;
use efficienttrain::observe::report;
use efficienttrain::observe::report::{RunLog, Shown, StageImages};

/// Arguments of `report`.
#[derive(Args)]
pub(crate) struct ReportArgs {
    /// Folders of runs (`train --out`), or folders of several runs (`compare --out`)
    #[arg(value_name = "DIR", required = true)]
    runs: Vec<PathBuf>,

    /// Page to write
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,

    /// Data set, if it has moved since the run
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Accuracy in percent, top-1 or mAP, that the page says the time to [default: the final one of plain
    /// training; without such a run, the lowest final one]
    #[arg(long, value_name = "PERCENT")]
    target: Option<f64>,

    /// Training images to show at each stage; 0 for none
    #[arg(long, value_name = "N", default_value_t = 3)]
    images: usize,
}

pub(crate) fn run(args: &ReportArgs) -> Result<()> {
    if let Some(target) = args.target.filter(|target| !(0.0..=100.0).contains(target)) {
        bail!("--target: expected an accuracy from 0 to 100 percent, got {target}");
    }
    let folders: Vec<PathBuf> = args.runs.iter().flat_map(|folder| runs_in(folder)).collect();
    let mut shown: Vec<Shown> = folders.iter().map(|folder| read_run(args, folder)).collect::<Result<_>>()?;
    disambiguate(&mut shown, &folders);
    report::write(&args.out, &shown, args.target.map(|percent| percent / 100.0))?;
    let without = shown.iter().filter_map(|run| run.images.as_ref().err().filter(|_| args.images > 0));
    without.for_each(|why| super::eprint_line(format!("warning: no images: {why}")));
    Ok(super::print_line(args.out.display())?)
}

/// Returns the folder of a run, or the runs in a folder of several, sorted by name.
fn runs_in(folder: &Path) -> Vec<PathBuf> {
    let is_run = |path: &PathBuf| path.join("log.jsonl").exists();
    if is_run(&folder.to_path_buf()) {
        return vec![folder.into()];
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<PathBuf> = entries.filter(is_run).collect();
    runs.sort();
    // A folder without runs is reported when it is read.
    if runs.is_empty() { vec![folder.into()] } else { runs }
}

/// Names runs by their paths if their folders have the same name.
fn disambiguate(shown: &mut [Shown], folders: &[PathBuf]) {
    let names: Vec<String> = shown.iter().map(|run| run.log.name.clone()).collect();
    for (run, folder) in shown.iter_mut().zip(folders) {
        if names.iter().filter(|name| **name == run.log.name).count() > 1 {
            run.log.name = folder.display().to_string();
        }
    }
}

fn read_run(args: &ReportArgs, folder: &Path) -> Result<Shown> {
    let log = RunLog::read(folder)?;
    if args.images == 0 {
        return Ok(Shown { log, images: Err("none were asked for".into()) });
    }
    let mut config = log.config.clone();
    if args.data.is_some() {
        config.data.clone_from(&args.data);
    }
    let images = Sources::open(&config).and_then(|s| StageImages::draw(&log, &*s.train, args.images));
    Ok(Shown { log, images: images.map_err(|e| e.to_string()) })
}
