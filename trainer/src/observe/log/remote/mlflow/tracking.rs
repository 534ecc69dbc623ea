//! Settings from the environment, under the names of MLflow's own client.

use std::path::Path;

use crate::config::options::check_url;
use crate::observe::log::remote::client::{Client, Login, Trust};
use crate::observe::log::remote::variable;

/// Experiment of runs for which none is named.
const EXPERIMENT: &str = "efficienttrain";

/// Where and as what a run is tracked.
#[derive(Debug)]
pub(crate) struct Tracking {
    /// Address of the server, without a slash at its end.
    pub(crate) uri: String,
    pub(crate) client: Client,
    pub(crate) experiment: Experiment,
    /// Name of the run.
    pub(crate) run_name: String,
}

/// Experiment that runs belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Experiment {
    Id(String),
    /// It is created if it does not exist.
    Name(String),
}

impl Tracking {
    /// Reads the environment. Without a name in it, the run is named like its folder.
    ///
    /// # Errors
    /// Returns an error that names the variable and what it should be.
    pub(crate) fn from_environment(out: &Path) -> Result<Self, String> {
        let hint = "set MLFLOW_TRACKING_TOKEN, or MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD";
        let name = variable("MLFLOW_EXPERIMENT_NAME").unwrap_or_else(|| EXPERIMENT.into());
        Ok(Self {
            uri: uri()?,
            client: Client::new(&login(), &trust(), hint)?,
            experiment: variable("MLFLOW_EXPERIMENT_ID").map_or(Experiment::Name(name), Experiment::Id),
            run_name: variable("MLFLOW_RUN_NAME").unwrap_or_else(|| folder_name(out)),
        })
    }
}

fn uri() -> Result<String, String> {
    let example = "the address of an MLflow server, such as http://localhost:5000";
    let Some(uri) = variable("MLFLOW_TRACKING_URI") else {
        return Err(format!("set the environment variable MLFLOW_TRACKING_URI to {example}"));
    };
    let lower = uri.to_ascii_lowercase();
    if !lower.starts_with("http://") && !lower.starts_with("https://") {
        return Err(format!(
            "MLFLOW_TRACKING_URI: only servers are supported, got `{uri}`; give {example} (`mlflow server` starts one \
             on a folder or database)"
        ));
    }
    check_url(&uri).map_err(|what| format!("MLFLOW_TRACKING_URI: {what}"))?;
    Ok(uri.trim_end_matches('/').into())
}

/// Like MLflow's client, prefers a password to a token.
fn login() -> Login {
    let password = variable("MLFLOW_TRACKING_USERNAME").zip(variable("MLFLOW_TRACKING_PASSWORD"));
    match (password, variable("MLFLOW_TRACKING_TOKEN")) {
        (Some((name, password)), _) => Login::Password { name, password },
        (None, Some(token)) => Login::Token(token),
        (None, None) => Login::Nobody,
    }
}

fn trust() -> Trust {
    let insecure = variable("MLFLOW_TRACKING_INSECURE_TLS");
    if insecure.is_some_and(|value| matches!(value.to_ascii_lowercase().as_str(), "true" | "1")) {
        return Trust::All;
    }
    variable("MLFLOW_TRACKING_SERVER_CERT_PATH").map_or(Trust::Public, Trust::File)
}

/// Returns the name of a folder, also of `.`.
fn folder_name(out: &Path) -> String {
    let path = crate::util::paths::absolute(out.into());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
