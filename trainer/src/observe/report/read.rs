//! Reads the log and options in the folder of a run.

use std::path::Path;

use crate::config::layers::ConfigLayers;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::events::history::EvalRecord;
use crate::events::{Event, NonFiniteStep, Start, StepRecord};

/// A run, read from its log and its options.
#[derive(Clone, Debug)]
pub struct RunLog {
    /// Name of its folder.
    pub name: String,
    /// Options.
    pub config: TrainConfig,
    /// Text of the options file.
    pub config_text: String,
    /// Start of the run, with the plan.
    pub start: Start,
    /// Logged steps.
    pub steps: Vec<StepRecord>,
    /// All evaluations.
    pub evals: Vec<EvalRecord>,
    /// Steps with a non-finite loss or gradient.
    pub bad_steps: Vec<NonFiniteStep>,
    /// Number of unreadable images.
    pub bad_images: usize,
    /// Steps and seconds at its end, and true if the plan was complete; none for a run that
    /// continues or was killed.
    pub end: Option<(u64, f64, bool)>,
    /// Compute of the plan that the steps refer to, in compute epochs.
    planned: Option<f64>,
}

impl RunLog {
    /// Reads `log.jsonl` and `config.toml` of a run's folder.
    ///
    /// # Errors
    /// Returns an error with file and line if one is missing or invalid.
    pub fn read(folder: &Path) -> Result<Self> {
        let (log, options) = (folder.join("log.jsonl"), folder.join("config.toml"));
        if !log.exists() {
            let what = "has no log.jsonl; expected the folder of a run (`train --out`)".into();
            return Err(Error::Key { place: folder.display().to_string(), what });
        }
        let text = std::fs::read_to_string(&log).map_err(Error::io(&log))?;
        let config_text = std::fs::read_to_string(&options).map_err(Error::io(&options))?;
        let config = ConfigLayers::new().file(&options)?.resolve()?.config;
        let events = events(&log, &text)?;
        let start = events.iter().rev().find_map(|event| match event {
            Event::Start(start) => Some(start.clone()),
            _ => None,
        });
        let Some(start) = start else {
            let what = "does not contain the start of a run; expected the log that `train` writes".into();
            return Err(Error::Key { place: log.display().to_string(), what });
        };
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.into());
        let name = canonical
            .file_name()
            .map_or_else(|| folder.display().to_string(), |n| n.to_string_lossy().into());
        let mut run = Self {
            name,
            config,
            config_text,
            start,
            steps: Vec::new(),
            evals: Vec::new(),
            bad_steps: Vec::new(),
            bad_images: 0,
            end: None,
            planned: None,
        };
        events.into_iter().for_each(|event| run.take(event));
        Ok(run)
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Step(step) => self.steps.push(step),
            Event::Eval(eval) => self.evals.push(eval),
            Event::NonFinite(step) => self.bad_steps.push(step),
            Event::BadImage(_) => self.bad_images += 1,
            Event::End { step, finished, seconds } => self.end = Some((step, seconds, finished)),
            Event::Start(start) => {
                // The run was resumed after its earlier end, perhaps with another plan.
                self.end = None;
                let whole = start.plan.equivalent_epochs;
                let share = self.planned.replace(whole).map_or(1.0, |before| before / whole);
                self.steps.iter_mut().for_each(|step| step.compute *= share);
            }
            Event::Stage(_)
            | Event::Note { .. }
            | Event::Checkpoint { .. }
            | Event::CheckpointFailed { .. } => {}
        }
    }
}

/// Parses the events of a log. An incomplete last line is still being written.
fn events(path: &Path, text: &str) -> Result<Vec<Event>> {
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let event = |(i, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|e| Error::Key {
            place: format!("{}: line {}", path.display(), i + 1),
            what: format!("is not an event of this version ({e})"),
        })
    };
    whole.enumerate().map(event).collect()
}
