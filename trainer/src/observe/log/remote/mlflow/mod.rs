//! Runs on an MLflow server.
//!
//! The options become parameters, the scalars of TensorBoard metrics. A resumed run continues the
//! same run of MLflow, whose identifier is in its folder. MLflow keeps every value it is sent, so
//! steps that a resumed run repeats are not sent again: their values would be the same. If the
//! options were changed meanwhile they are, since their values differ.

pub(crate) mod parameters;
pub(crate) mod server;
pub(crate) mod tracking;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::events::{Event, Observer};
use crate::observe::log::remote::client::Failure;
use crate::observe::log::remote::mlflow::parameters::{Texts, parameters, same_outcome};
use crate::observe::log::remote::mlflow::server::{Stored, TimedScalars, TrackedRun};
use crate::observe::log::remote::mlflow::tracking::Tracking;
use crate::observe::log::remote::sender::{Destination, Ending, Limits, Sender};
use crate::observe::log::scalars::Scalars;
use crate::util::atomic_file::replace;

/// File in the run's folder with its identifier.
const FILE: &str = "mlflow.json";
/// Prefix of tags with the values of options that were changed when the run was resumed, since
/// parameters cannot change.
const CHANGED: &str = "changed.";
/// Value of an option that is not set any more.
const UNSET: &str = "unset";

/// Content of [`FILE`].
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Identity {
    tracking_uri: String,
    run_id: String,
}

/// Sends the numbers of a run to MLflow.
#[derive(Debug)]
pub(crate) struct MlflowLog {
    sender: Sender<TimedScalars>,
    /// Last steps of metrics that an earlier process has sent.
    sent: BTreeMap<String, u64>,
}

impl MlflowLog {
    /// Starts a run of MLflow, or continues that of a run whose next step, `step`, is not its
    /// first.
    ///
    /// # Errors
    /// Returns an error that says what to do if the environment names no server, or the server
    /// cannot be reached, refuses the run, or does not have the one to continue.
    pub(crate) fn open(config: &TrainConfig, options: &RunOptions, step: u64) -> Result<Self> {
        let wrong = |what: String| Error::config("log", what);
        let tracking =
            Tracking::from_environment(&options.out).map_err(|what| wrong(format!("mlflow: {what}")))?;
        let path = options.out.join(FILE);
        let stored = if step > 0 { identity(&path)? } else { None };
        let (uri, ours) = (tracking.uri.clone(), parameters(config, options));
        let refused = |failure: Failure| wrong(format!("{} {}", server::name(&uri), failure.what));
        let (run, sent) = match stored {
            None => (new_run(tracking, &path, &ours, &refused)?, BTreeMap::new()),
            Some(identity) => resume(tracking, &path, identity, config, &ours, &refused)?,
        };
        Ok(Self { sender: Sender::start(run, Limits::default())?, sent })
    }

    /// Returns true if an earlier process has sent the numbers of this step.
    fn has(&self, scalars: &Scalars) -> bool {
        let last = scalars.values.first().and_then(|(key, _)| self.sent.get(*key));
        last.is_some_and(|last| scalars.step <= *last)
    }
}

/// Starts a run of MLflow and stores its identifier.
fn new_run(
    tracking: Tracking,
    path: &Path,
    ours: &Texts,
    refused: &dyn Fn(Failure) -> Error,
) -> Result<TrackedRun> {
    let tracking_uri = tracking.uri.clone();
    let run = TrackedRun::create(tracking).map_err(refused)?;
    let identity = Identity { tracking_uri, run_id: run.id().into() };
    let text = serde_json::to_vec_pretty(&identity).map_err(|e| Error::io(path)(e.into()))?;
    replace(path, &text)?;
    set(run, ours, &Texts::new()).map_err(refused)
}

/// Sets parameters and tags; if that fails, the run has failed on the server too.
fn set(mut run: TrackedRun, parameters: &Texts, tags: &Texts) -> Result<TrackedRun, Failure> {
    match run.set(parameters, tags) {
        Ok(()) => Ok(run),
        Err(failure) => {
            // The first error is the one to tell.
            let _ = run.end(Ending::Failed);
            Err(failure)
        }
    }
}

/// Continues a run of MLflow. Returns also the last steps of its metrics, if the steps after them
/// give the same values again.
fn resume(
    tracking: Tracking,
    path: &Path,
    identity: Identity,
    config: &TrainConfig,
    ours: &Texts,
    refused: &dyn Fn(Failure) -> Error,
) -> Result<(TrackedRun, BTreeMap<String, u64>)> {
    let explained = |failure: Failure| match failure.status {
        Some(404) => refused(Failure::refused(format!(
            "does not have the run {} of {}, which was on {}; set MLFLOW_TRACKING_URI to where it is, or remove the \
             file for a new run of MLflow",
            identity.run_id,
            path.display(),
            identity.tracking_uri
        ))),
        _ => refused(failure),
    };
    let (run, stored) = TrackedRun::resume(tracking, identity.run_id.clone()).map_err(explained)?;
    let theirs = present(&stored);
    let new = ours.iter().filter(|(key, _)| !stored.parameters.contains_key(*key));
    let new = new.map(|(key, value)| (key.clone(), value.clone())).collect();
    let run = set(run, &new, &changed(ours, &theirs, &stored)).map_err(refused)?;
    let sent = if same_outcome(config, ours, &theirs) { stored.steps } else { BTreeMap::new() };
    Ok((run, sent))
}

/// Returns the options as the server has them, changes included.
fn present(stored: &Stored) -> Texts {
    let mut present = stored.parameters.clone();
    for (key, value) in &stored.tags {
        match key.strip_prefix(CHANGED) {
            Some(key) if value == UNSET => drop(present.remove(key)),
            Some(key) => drop(present.insert(key.into(), value.clone())),
            None => {}
        }
    }
    present
}

/// Returns tags for options that the server has with other values. `theirs` are the present ones.
fn changed(ours: &Texts, theirs: &Texts, stored: &Stored) -> Texts {
    let differs = |key: &&String| ours.get(*key) != theirs.get(*key);
    let value = |key: &String| ours.get(key).map_or_else(|| UNSET.into(), String::clone);
    stored.parameters.keys().filter(differs).map(|key| (format!("{CHANGED}{key}"), value(key))).collect()
}

/// Reads the identifier of a run; none if it has none yet.
fn identity(path: &Path) -> Result<Option<Identity>> {
    let text = crate::observe::log::read(path)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |e: serde_json::Error| Error::Key {
        place: path.display().to_string(),
        what: format!("does not name a run of MLflow ({e}); remove it for a new one"),
    };
    serde_json::from_str(&text).map(Some).map_err(wrong)
}

impl Observer for MlflowLog {
    fn observe(&mut self, event: &Event) -> Result<()> {
        if let Some(scalars) = Scalars::of(event).filter(|scalars| !self.has(scalars)) {
            self.sender.push(scalars.into());
        }
        if let Event::End { finished, .. } = event {
            self.sender.close(if *finished { Ending::Finished } else { Ending::Stopped });
        }
        Ok(())
    }

    fn notices(&mut self) -> Vec<String> {
        self.sender.take_notices()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> Texts {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn changed_options_become_tags_which_later_changes_are_compared_with() {
        let first = texts(&[("lr", "1"), ("seed", "7"), ("workers", "2")]);
        let ours = texts(&[("lr", "2"), ("seed", "7"), ("opt", "sgd")]);
        let stored = Stored { parameters: first.clone(), ..Stored::default() };
        let tags = changed(&ours, &present(&stored), &stored);
        assert_eq!(tags, texts(&[("changed.lr", "2"), ("changed.workers", "unset")]));
        // New options become parameters.
        let parameters = texts(&[("lr", "1"), ("opt", "sgd"), ("seed", "7"), ("workers", "2")]);
        let stored = Stored { parameters, tags, ..Stored::default() };
        assert_eq!(present(&stored), ours);
        assert!(changed(&ours, &ours, &stored).is_empty());
        // Back to the first values.
        let back = changed(&first, &present(&stored), &stored);
        assert_eq!(back, texts(&[("changed.lr", "1"), ("changed.opt", "unset"), ("changed.workers", "2")]));
    }
}
