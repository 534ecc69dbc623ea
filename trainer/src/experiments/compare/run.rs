//! Trains every contestant with every seed.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::checkpoint::folder::{RunFolder, newest};
use crate::config::differences;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::experiments::compare::table::Row;
use crate::observe::chart::Curve;
use crate::observe::log;
use crate::run::Run;
use crate::run::checks::check_labels;
use crate::run::setup::check_batches;
use crate::run::sources::Sources;

/// A configuration to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Contestant {
    /// Name that distinguishes it from the others.
    pub name: String,
    /// Configuration. The comparison sets the seed of training, but not of the choice of
    /// `--images-per-class`.
    pub config: TrainConfig,
}

impl Contestant {
    /// Returns the name of its folder for a seed.
    fn folder(&self, seed: u64) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.=".contains(c) { c } else { '-' };
        format!("{}-seed{seed}", self.name.chars().map(plain).collect::<String>())
    }
}

/// Trains a run with logs in its folder; returns true if it is complete.
fn logged(run: &mut Run, observer: &mut dyn Observer) -> Result<bool> {
    run.claim()?;
    let logs = log::open(run.config(), run.options(), run.step())?;
    run.train(&mut Logged { logs, observer })
}

/// Forwards events to the logs and another observer.
struct Logged<'a> {
    logs: Vec<Box<dyn Observer>>,
    observer: &'a mut dyn Observer,
}

impl Observer for Logged<'_> {
    fn observe(&mut self, event: &Event) -> Result<()> {
        self.logs.observe(event)?;
        self.observer.observe(event)
    }

    fn sync(&mut self) -> Result<()> {
        self.logs.sync()?;
        self.observer.sync()
    }

    fn notices(&mut self) -> Vec<String> {
        let mut notices = self.logs.notices();
        notices.extend(self.observer.notices());
        notices
    }
}

/// Contestants, seeds, and the output folder.
#[derive(Debug)]
pub struct Comparison {
    contestants: Vec<Contestant>,
    seeds: Vec<u64>,
    options: RunOptions,
    sources: Sources,
    stop: Arc<AtomicBool>,
    _claim: RunFolder,
}

impl Comparison {
    /// Creates a comparison in the folder of `options`. All errors in the contestants'
    /// configurations are reported here.
    ///
    /// # Errors
    /// Returns an error if a contestant's configuration does not fit the data, two have the same
    /// name, or another process uses the folder.
    pub fn new(
        contestants: Vec<Contestant>,
        seeds: Vec<u64>,
        options: RunOptions,
        sources: Sources,
    ) -> Result<Self> {
        if contestants.is_empty() || seeds.is_empty() {
            return Err(Error::config("recipes", "there is nothing to train; give recipes and seeds"));
        }
        for (index, contestant) in contestants.iter().enumerate() {
            let folder = contestant.folder(0);
            if contestants[..index].iter().any(|other| other.folder(0) == folder) {
                return Err(Error::config("recipes", format!("`{}` is given twice", contestant.name)));
            }
            if contestant.config.target.is_some() {
                let what = "a comparison needs accuracies, and pre-training has none; leave it out";
                return Err(Error::config("target", what));
            }
            Run::check(&contestant.config)?;
            check_labels(&contestant.config, &sources)?;
            let plan = contestant.config.plan(sources.train.len())?;
            check_batches(&contestant.config, &options, &plan, sources.train.classes().len())?;
        }
        let claim = RunFolder::claim(&options.out)?;
        Ok(Self { contestants, seeds, options, sources, stop: Arc::default(), _claim: claim })
    }

    /// Returns a flag that makes [`Self::run`] finish its step, save, and return when set.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Trains the remaining runs. Returns a row and a curve (of the first seed) per contestant, or
    /// none if it was asked to stop before the end.
    ///
    /// # Errors
    /// Returns an error if data, model or disk fail, or a folder contains a run of another
    /// configuration.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<Option<(Vec<Row>, Vec<Curve>)>> {
        let (mut rows, mut curves) = (Vec::new(), Vec::new());
        for contestant in &self.contestants {
            let mut runs = Vec::new();
            for &seed in &self.seeds {
                let mut run = self.open_or_resume(contestant, seed)?;
                if run.step() < run.total_steps() && !logged(&mut run, observer)? {
                    return Ok(None);
                }
                runs.push(run);
            }
            rows.push(Row::of(&contestant.name, &runs)?);
            let evals = runs.first().map_or_else(Vec::new, |run| run.history.evals.clone());
            curves.push(Curve { name: contestant.name.clone(), evals });
        }
        Ok(Some((rows, curves)))
    }

    /// Resumes the run of a contestant, or starts it.
    fn open_or_resume(&self, contestant: &Contestant, seed: u64) -> Result<Run> {
        let out: PathBuf = self.options.out.join(contestant.folder(seed));
        let config = contestant.config.with_seed(seed);
        let options = RunOptions { out: out.clone(), ..self.options.clone() };
        let run = Run::new(config, options, self.sources.clone())?.with_stop_flag(self.stop.clone());
        let Some(found) = newest(&out)? else { return Ok(run) };
        let stored = &found.saved.run()?.config;
        // The data may have moved; its content is compared.
        let changed: Vec<String> = differences(&run.config, stored)
            .into_iter()
            .filter(|difference| difference.key != "data")
            .map(|d| format!("--{} {} (the run has {})", d.key, d.ours, d.theirs))
            .collect();
        if changed.is_empty() {
            return run.restore(&found.saved);
        }
        let what =
            format!("{} contains another run: {}; choose another folder", out.display(), changed.join(", "));
        Err(Error::config("out", what))
    }
}
