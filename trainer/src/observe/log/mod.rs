//! Logs of a run: JSON lines, CSV tables, TensorBoard event files, MLflow, lines to a URL.
//!
//! A resumed run removes from its log files what an earlier process wrote after the checkpoint,
//! because those steps will be repeated: no step appears in a file twice.

pub(crate) mod json;
#[cfg(feature = "mlflow")]
pub(crate) mod remote;
pub(crate) mod scalars;
pub(crate) mod tables;
pub(crate) mod tensorboard;

use std::path::Path;

pub use json::JsonLog;
pub use tables::CsvLog;
pub use tensorboard::TensorBoardLog;

use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::config::values::LogFormat;
use crate::error::{Error, Result};
use crate::events::Observer;

/// Interval of logged steps, except in tables.
const STEP_INTERVAL: u64 = 10;

/// Opens the logs that the options select, in the run's folder, for a run whose next step is
/// `step`. MLflow is told the values of all options.
///
/// # Errors
/// Returns an error if a file cannot be read or written, or a server cannot be reached or refuses
/// the run.
pub fn open(config: &TrainConfig, options: &RunOptions, step: u64) -> Result<Vec<Box<dyn Observer>>> {
    let out = &options.out;
    // First, so that a run that a server refuses changes no file.
    let mut logs = remote_logs(config, options, step)?;
    logs.push(Box::new(JsonLog::open(&out.join("log.jsonl"), step)?));
    if options.log.contains(&LogFormat::Csv) {
        logs.push(Box::new(CsvLog::open(out, step)?));
    }
    if options.log.contains(&LogFormat::Tensorboard) {
        logs.push(Box::new(TensorBoardLog::open(&out.join("tensorboard"), step)?));
    }
    Ok(logs)
}

#[cfg(feature = "mlflow")]
use remote::open as remote_logs;

#[cfg(not(feature = "mlflow"))]
fn remote_logs(_: &TrainConfig, options: &RunOptions, _: u64) -> Result<Vec<Box<dyn Observer>>> {
    let what = "this build sends no logs; build it with the feature `mlflow`, or leave the option out";
    if options.log.contains(&LogFormat::Mlflow) {
        return Err(Error::config("log", what));
    }
    if options.log_url.is_some() {
        return Err(Error::config("log-url", what));
    }
    Ok(Vec::new())
}

/// Reads the text of a log; empty if there is none yet.
fn read(path: &Path) -> Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        text => text.map_err(Error::io(path)),
    }
}
