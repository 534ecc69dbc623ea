//! Storage of a search: settings and reports in one file, states in a folder beside it.

use std::path::{Path, PathBuf};

use efficienttrain_schedule::search::{SavedState, Search, TrialId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::checkpoint::folder::file_names;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::util::atomic_file::link;
use crate::util::atomic_file::replace;

/// File name of a search.
const FILE: &str = "search.json";

/// State of a search, with the times of its trials.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// Configuration of the run to search for.
    pub(crate) config: TrainConfig,
    /// Settings and reports.
    pub(crate) search: Search,
    /// Wall time of each trial, in the order of the reports, in seconds.
    pub(crate) seconds: Vec<f64>,
}

/// Folder of a search.
#[derive(Clone, Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// Returns the search of the folder, if there is one.
    pub(crate) fn stored(&self) -> Result<Option<Stored>> {
        let path = self.0.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(&path)(e)),
        };
        let wrong =
            |e: serde_json::Error| Error::Key { place: path.display().to_string(), what: e.to_string() };
        serde_json::from_str(&text).map_err(wrong).map(Some)
    }

    /// Resumes the search of the folder, which must be the same as `fresh`, or starts it.
    pub(crate) fn open(&self, fresh: Stored) -> Result<Stored> {
        let Some(stored) = self.stored()? else {
            self.store(&fresh)?;
            return Ok(fresh);
        };
        let place = self.0.join(FILE).display().to_string();
        let wrong = |what: String| Error::Key { place: place.clone(), what };
        let changed = differing(&settings_of(&stored)?, &settings_of(&fresh)?);
        if !changed.is_empty() {
            return Err(wrong(format!(
                "the search was started with other values of {}; give the same command, or another option `out`",
                changed.join(", ")
            )));
        }
        Ok(stored)
    }

    /// Returns true if there is a search in the folder.
    pub(crate) fn exists(&self) -> bool {
        self.0.join(FILE).exists()
    }

    /// Replaces the file atomically.
    pub(crate) fn store(&self, stored: &Stored) -> Result<()> {
        let path = self.0.join(FILE);
        let text = serde_json::to_string_pretty(stored).map_err(|e| Error::io(&path)(e.into()))?;
        replace(&path, text.as_bytes())
    }

    /// Returns the folder of a trial.
    pub(crate) fn trial(&self, id: TrialId) -> PathBuf {
        self.0.join("trials").join(id.to_string())
    }

    /// Returns the file of a state.
    pub(crate) fn state(&self, state: SavedState) -> PathBuf {
        self.0.join("states").join(state_name(state))
    }

    /// Stores a checkpoint as a state.
    pub(crate) fn keep(&self, checkpoint: &Path, state: SavedState) -> Result<()> {
        let path = self.state(state);
        if path.exists() { Ok(()) } else { link(checkpoint, &path) }
    }

    /// Deletes what no later trial needs: other states than those listed, and trials that have been
    /// reported.
    pub(crate) fn tidy(&self, search: &Search) -> Result<()> {
        let needed: Vec<String> = search.needed_states()?.into_iter().map(state_name).collect();
        let states = self.0.join("states");
        for name in file_names(&states)?.into_iter().filter(|name| !needed.contains(name)) {
            let path = states.join(name);
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
        for entry in search.finished() {
            remove_folder(&self.trial(entry.id))?;
        }
        Ok(())
    }
}

fn state_name(state: SavedState) -> String {
    format!("{}-step{:08}.safetensors", state.trial, state.step)
}

/// Removes a folder if it exists.
pub(crate) fn remove_folder(path: &Path) -> Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path)(e)),
        _ => Ok(()),
    }
}

/// Returns everything that affects the outcome of a search, as one flat list.
fn settings_of(stored: &Stored) -> Result<Vec<(String, Value)>> {
    let failed = |e: serde_json::Error| Error::Key { place: FILE.into(), what: e.to_string() };
    let config = serde_json::to_value(&stored.config).map_err(failed)?;
    let search = serde_json::to_value(&stored.search).map_err(failed)?;
    let mut flat = Vec::new();
    let parts =
        [(&config, "option `", "`"), (&search["recipe"], "recipe.", ""), (&search["options"], "", "")];
    for (part, before, after) in parts {
        let pairs = part.as_object().into_iter().flatten();
        let name = |key: &str| format!("{before}{}{after}", key.replace('_', "-"));
        flat.extend(pairs.map(|(key, value)| (name(key), value.clone())));
    }
    // The data may have moved; its size is among the options.
    flat.retain(|(key, _)| key != "option `data`");
    Ok(flat)
}

fn differing(ours: &[(String, Value)], theirs: &[(String, Value)]) -> Vec<String> {
    let other = |key: &str| theirs.iter().find(|(k, _)| k == key).map(|(_, value)| value);
    ours.iter().filter(|(key, value)| other(key) != Some(value)).map(|(key, _)| key.clone()).collect()
}
