//! Logs of a run: JSON lines, CSV tables, TensorBoard event files.
//!
//! A resumed run removes from its logs what an earlier process wrote after the checkpoint, because
//! those steps will be repeated: no step appears in a log twice.

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

/// Interval of logged steps, except in tables.
const STEP_INTERVAL: u64 = 10;

/// Opens the logs that the options select, in the run's folder, for a run whose next step is
/// `step`.
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

/// Reads the text of a log; empty if there is none yet.
fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(Error::io(path)),
    }
}
