//! Logs of a run: one JSON object a line, tables, event files for TensorBoard.
//!
//! A run that goes on cuts from its logs what an earlier process wrote after the checkpoint, because that will happen
//! again: no step stands in a log twice.

pub(crate) mod json;
pub(crate) mod tables;
pub(crate) mod tensorboard;

use std::path::Path;

pub use json::JsonLog;
pub use tables::CsvLog;
pub use tensorboard::TensorBoardLog;

use crate::config::options::RunOptions;
use crate::config::values::LogFormat;
use crate::error::{Error, Result};
use crate::events::Observer;

/// Steps between two steps in a log that is not a table.
const STEP_INTERVAL: u64 = 10;

/// The logs that the options ask for, in the run's folder, for a run whose next step is `step`.
///
/// # Errors
/// Returns an error if a file cannot be read or written.
pub fn open(options: &RunOptions, step: u64) -> Result<Vec<Box<dyn Observer>>> {
    let out = &options.out;
    let mut logs: Vec<Box<dyn Observer>> = vec![Box::new(JsonLog::open(&out.join("log.jsonl"), step)?)];
    if options.log.contains(&LogFormat::Csv) {
        logs.push(Box::new(CsvLog::open(out, step)?));
    }
    if options.log.contains(&LogFormat::Tensorboard) {
        logs.push(Box::new(TensorBoardLog::open(&out.join("tensorboard"), step)?));
    }
    Ok(logs)
}

/// The text of a log; empty where there is none yet.
fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(Error::io(path)),
    }
}
