//! Logs that are sent to servers, from a thread of their own: MLflow, and lines to a URL.
//!
//! A server that is slow or gone neither slows nor ends a run. Records wait in a queue and are sent
//! again; whatever cannot be sent in the end is counted and told.

pub(crate) mod client;
pub(crate) mod mlflow;
pub(crate) mod sender;
pub(crate) mod webhook;

use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::config::values::LogFormat;
use crate::error::{Error, Result};
use crate::events::Observer;
use crate::observe::log::remote::mlflow::MlflowLog;
use crate::observe::log::remote::webhook::WebhookLog;

/// Opens the logs to servers that the options select, for a run whose next step is `step`.
///
/// # Errors
/// Returns an error that names the option if a server cannot be reached or refuses the run.
pub(crate) fn open(config: &TrainConfig, options: &RunOptions, step: u64) -> Result<Vec<Box<dyn Observer>>> {
    let mut logs: Vec<Box<dyn Observer>> = Vec::new();
    if options.log.contains(&LogFormat::Mlflow) {
        logs.push(Box::new(MlflowLog::open(config, options, step)?));
    }
    if let Some(url) = &options.log_url {
        logs.push(Box::new(WebhookLog::open(url).map_err(|what| Error::config("log-url", what))?));
    }
    Ok(logs)
}

/// Returns the value of an environment variable, without spaces around it; none if it is empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().map(|value| value.trim().to_string()).filter(|value| !value.is_empty())
}
