//! Evaluates the trials of a search by training runs.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use efficienttrain_schedule::Plan;
use efficienttrain_schedule::search::{Evaluator, FineTuneRun, Outcome, Report, SavedState, Search, Trial};

use crate::checkpoint::folder::{LAST, RunFolder, newest};
use crate::checkpoint::read::Checkpoint;
use crate::config::cost::CostRule;
use crate::config::interval::Interval;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::events::Figure;
use crate::experiments::search::settings::SearchSettings;
use crate::experiments::search::store::{Folder, Stored, remove_folder};
use crate::measure::with_known_cost;
use crate::run::Run;
use crate::run::sources::Sources;

/// Event of a search.
#[derive(Debug)]
pub enum TrialEvent<'a> {
    /// A trial starts, or resumes after a stop.
    Start(&'a Trial),
    /// A trial is done.
    End {
        /// The finished trial.
        trial: &'a Trial,
        /// Result of the trial.
        report: &'a Report,
        /// Wall time, in seconds.
        seconds: f64,
    },
}

/// A search and its folder.
#[derive(Debug)]
pub struct SearchRun {
    options: RunOptions,
    sources: Sources,
    folder: Folder,
    stored: Stored,
    stop: Arc<AtomicBool>,
    _claim: RunFolder,
}

impl SearchRun {
    /// Opens the search in the folder of `options`: resumes an existing one, or starts it.
    ///
    /// # Errors
    /// Returns an error if an option, the data or the model is invalid, the folder contains another
    /// search, or another process uses it.
    pub fn open(config: TrainConfig, settings: &SearchSettings, options: RunOptions) -> Result<Self> {
        let sources = Sources::open(&config)?;
        Self::with_sources(config, settings, options, sources)
    }

    /// Like [`Self::open`], on custom data.
    ///
    /// # Errors
    /// Same as [`Self::open`].
    pub fn with_sources(
        mut config: TrainConfig,
        settings: &SearchSettings,
        options: RunOptions,
        sources: Sources,
    ) -> Result<Self> {
        config.embed_recipe()?;
        options.check()?;
        if config.target.is_some() {
            let what = "a search compares accuracies, and pre-training has none; leave it out";
            return Err(Error::config("target", what));
        }
        let folder = Folder(options.out.clone());
        if matches!(config.cost, CostRule::Wanted(_)) {
            config.cost = match folder.stored()? {
                Some(stored) => stored.config.cost,
                None => with_known_cost(&config, &options, &sources, &settings.sizes(&config)?)?.cost,
            };
        }
        config.plan(sources.train.len())?;
        let search = settings.search(&config, sources.train.len())?;
        let claim = RunFolder::claim(&options.out)?;
        let stored = folder.open(Stored { config, search, seconds: Vec::new() })?;
        folder.tidy(&stored.search)?;
        Ok(Self { options, sources, folder, stored, stop: Arc::default(), _claim: claim })
    }

    /// Returns true if a folder contains a search.
    pub fn exists(out: &Path) -> bool {
        Folder(out.into()).exists()
    }

    /// Returns the settings and the reports so far.
    pub fn search(&self) -> &Search {
        &self.stored.search
    }

    /// Returns the figure of the trials' accuracies.
    pub fn figure(&self) -> Figure {
        Figure::of_run(self.stored.config.multi_label)
    }

    /// Returns the wall time of each trial in seconds, in the order of the reports.
    pub fn seconds(&self) -> &[f64] {
        &self.stored.seconds
    }

    /// Returns a flag that makes [`Self::run`] finish its step, save, and return when set.
    pub fn stop_flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Runs all remaining trials, or until [`Self::stop_flag`] is set (none then).
    ///
    /// # Errors
    /// Returns an error if data, model or disk fail, or every candidate of a stage diverged; the
    /// reports so far are kept.
    pub fn run(&mut self, observer: &mut dyn FnMut(&TrialEvent)) -> Result<Option<Outcome>> {
        let mut search = self.stored.search.clone();
        let mut trials = Trials { run: self, observer, seconds: 0.0, error: None };
        let outcome = search.run(&mut trials)?;
        trials.error.map_or(Ok(outcome), Err)
    }

    /// Trains and evaluates a trial, and returns its accuracy and time; none if it was asked to
    /// stop before.
    fn train(&self, trial: &Trial) -> Result<Option<(f64, f64)>> {
        let (mut run, before) = self.open_or_resume(trial)?;
        let out = run.options.out.clone();
        for &step in trial.keep.iter().chain([&trial.steps.end]) {
            if !train_to(&mut run, step)? {
                return Ok(None);
            }
            if trial.keep.contains(&step) {
                self.folder.keep(&out.join(LAST), SavedState { trial: trial.id, step })?;
            }
        }
        let measured = match &trial.fine_tune {
            None => run.measure(&mut ())?.map(|accuracy| (accuracy, 0.0)),
            Some(fine_tune) => self.fine_tuned(trial, fine_tune, &out)?,
        };
        Ok(measured.map(|(accuracy, seconds)| (accuracy, run.history.seconds - before + seconds)))
    }

    /// Resumes or starts the run of a trial, from its initial state or the very start. Also returns
    /// the time of the run before the trial.
    fn open_or_resume(&self, trial: &Trial) -> Result<(Run, f64)> {
        let out = self.folder.trial(trial.id);
        let run = self.new_run(&trial.plan, trial.seed, &out)?;
        let start = trial.start.map(|state| Checkpoint::open(&self.folder.state(state))).transpose()?;
        let before = start.as_ref().map_or(Ok(0.0), |saved| saved.run().map(|run| run.history.seconds))?;
        let interrupted = newest(&out)?.map(|found| found.saved);
        let run = match interrupted.or(start) {
            Some(saved) => run.restore(&saved)?,
            None => run,
        };
        Ok((run, before))
    }

    /// Runs the short training at full size after a trial, always from its start.
    fn fine_tuned(&self, trial: &Trial, of: &FineTuneRun, from: &Path) -> Result<Option<(f64, f64)>> {
        let out = from.join("fine-tune");
        remove_folder(&out)?;
        let run = self.new_run(&of.plan, trial.seed, &out)?;
        let mut run = run.branch_from(&Checkpoint::open(&from.join(LAST))?, of.samples_before)?;
        if !train_to(&mut run, of.plan.total_steps())? {
            return Ok(None);
        }
        Ok(run.measure(&mut ())?.map(|accuracy| (accuracy, run.history.seconds)))
    }

    /// Creates a new run of a plan.
    fn new_run(&self, plan: &Plan, seed: u64, out: &Path) -> Result<Run> {
        let config = self.stored.config.of_recipe(plan.recipe(), plan.options().equivalent_epochs)?;
        // A trial is evaluated only at its end.
        let options = RunOptions {
            out: out.into(),
            eval_every: Interval::Percent(100.0),
            keep_last: 1,
            keep_best: 0,
            ..self.options.clone()
        };
        let run = Run::new(config.with_seed(seed), options, self.sources.clone())?;
        debug_assert_eq!(run.plan(), plan, "the configuration does not result in the trial's plan");
        Ok(run.with_stop_flag(self.stop.clone()))
    }
}

/// Trains up to a step; returns true if the run has reached it.
fn train_to(run: &mut Run, step: u64) -> Result<bool> {
    if run.step() < step {
        run.options.stop_after = Some(step);
        run.train(&mut ())?;
    }
    Ok(run.step() >= step)
}

/// Evaluator of a search while it runs.
struct Trials<'a> {
    run: &'a mut SearchRun,
    observer: &'a mut dyn FnMut(&TrialEvent),
    /// Time of the current trial, in seconds.
    seconds: f64,
    error: Option<Error>,
}

impl Evaluator for Trials<'_> {
    fn evaluate(&mut self, trial: &Trial) -> ControlFlow<(), Report> {
        (self.observer)(&TrialEvent::Start(trial));
        let report = match self.run.train(trial) {
            Ok(Some((accuracy, seconds))) => {
                self.seconds = seconds;
                Report::Accuracy(accuracy)
            }
            Ok(None) => return ControlFlow::Break(()),
            // Only this error depends on the candidate.
            Err(error @ (Error::NotFinite { .. } | Error::StoppedByNonFinite { .. })) => {
                self.seconds = 0.0;
                Report::Failed(error.to_string())
            }
            Err(error) => {
                self.error = Some(error);
                return ControlFlow::Break(());
            }
        };
        (self.observer)(&TrialEvent::End { trial, report: &report, seconds: self.seconds });
        ControlFlow::Continue(report)
    }

    fn reported(&mut self, search: &Search) -> ControlFlow<()> {
        self.run.stored.search = search.clone();
        self.run.stored.seconds.push(self.seconds);
        let stored = self.run.folder.store(&self.run.stored);
        match stored.and_then(|()| self.run.folder.tidy(search)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.error = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}
