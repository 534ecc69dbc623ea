//! Output files of a search: the recipe that it found, a table of all trials, and a chart.

use std::path::{Path, PathBuf};

use efficienttrain_schedule::search::Outcome;
use serde::Serialize;

use crate::error::{Error, Result};
use crate::events::Figure;
use crate::experiments::search::chart::draw_outcome;
use crate::experiments::search::table::{HEAD, Row, rows};
use crate::util::atomic_file::replace;
use crate::util::csv::csv;

/// Contents of `outcome.json`.
#[derive(Serialize)]
struct OutcomeFile<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    /// Wall time of all trials, in seconds.
    seconds: f64,
    /// The trials, with the columns of `trials.csv`.
    table: &'a [Row],
}

/// Writes `recipe.json` (for `--recipe`), `outcome.json`, `trials.csv` and `search.svg` to a
/// folder, and returns the path of the recipe. `figure` is that of the accuracies.
///
/// # Errors
/// Returns an error if the disk fails.
pub fn write_outcome(folder: &Path, outcome: &Outcome, seconds: &[f64], figure: Figure) -> Result<PathBuf> {
    let path = folder.join("recipe.json");
    replace(&path, (outcome.recipe.to_json()? + "\n").as_bytes())?;
    let table = rows(outcome, seconds);
    let file = OutcomeFile { outcome, seconds: seconds.iter().sum(), table: &table };
    let json = folder.join("outcome.json");
    let text = serde_json::to_string_pretty(&file).map_err(|e| Error::io(&json)(e.into()))?;
    replace(&json, text.as_bytes())?;
    let text = csv(&HEAD, table.iter().map(Row::cells));
    replace(&folder.join("trials.csv"), text.as_bytes())?;
    draw_outcome(&folder.join("search.svg"), outcome, figure)?;
    Ok(path)
}
