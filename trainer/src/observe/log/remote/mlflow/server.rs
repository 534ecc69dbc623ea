//! MLflow's REST API 2.0, as far as a run needs it.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::observe::log::remote::client::{Client, Failure, patiently};
use crate::observe::log::remote::mlflow::parameters::Texts;
use crate::observe::log::remote::mlflow::tracking::{Experiment, Tracking};
use crate::observe::log::remote::sender::{Destination, Ending};
use crate::observe::log::scalars::Scalars;

/// Largest number of parameters or tags in a request.
const TEXTS: usize = 100;

/// A run on a server.
#[derive(Debug)]
pub(crate) struct TrackedRun {
    client: Client,
    /// Address of the server.
    uri: String,
    id: String,
}

/// What a server has of a run.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) parameters: Texts,
    pub(crate) tags: Texts,
    /// Last step of each metric.
    pub(crate) steps: BTreeMap<String, u64>,
}

/// Numbers of a run and when they were measured. The time makes repetitions of a request harmless:
/// the server keeps equal records once.
#[derive(Clone, Debug)]
pub(crate) struct TimedScalars {
    /// Milliseconds since 1970.
    time: u64,
    scalars: Scalars,
}

impl From<Scalars> for TimedScalars {
    fn from(scalars: Scalars) -> Self {
        Self { time: now(), scalars }
    }
}

impl TrackedRun {
    /// Starts a new run in the experiment, which is created if it does not exist.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached, refuses it, or is no MLflow server.
    pub(crate) fn create(tracking: Tracking) -> Result<Self, Failure> {
        let Tracking { uri, client, experiment, run_name } = tracking;
        let mut run = Self { client, uri, id: String::new() };
        let experiment = match experiment {
            Experiment::Id(id) => id,
            Experiment::Name(name) => run.experiment(&name)?,
        };
        let tag = |key: &str, value: &str| json!({ "key": key, "value": value });
        let body = json!({
            "experiment_id": experiment,
            "run_name": run_name,
            "start_time": now(),
            "tags": [
                tag("mlflow.runName", &run_name),
                tag("mlflow.source.name", "efficienttrain"),
                tag("mlflow.source.type", "LOCAL"),
            ],
        });
        let answer = patiently(|| run.post("runs/create", &body))?;
        run.id = text_at(&answer, "/run/info/run_id")?;
        Ok(run)
    }

    /// Continues a run, and returns what the server has of it.
    ///
    /// # Errors
    /// Same as [`Self::create`]; the status is 404 if the server has no such run.
    pub(crate) fn resume(tracking: Tracking, id: String) -> Result<(Self, Stored), Failure> {
        let run = Self { client: tracking.client, uri: tracking.uri, id };
        let answer = patiently(|| run.get("runs/get", "run_id", &run.id))?;
        if answer["run"]["info"]["lifecycle_stage"] == "deleted" {
            return Err(Failure { status: Some(404), ..Failure::refused("has deleted the run") });
        }
        patiently(|| run.post("runs/update", &json!({ "run_id": run.id, "status": "RUNNING" })))?;
        let data = &answer["run"]["data"];
        let stored = Stored {
            parameters: texts(&data["params"]),
            tags: texts(&data["tags"]),
            steps: steps(&data["metrics"]),
        };
        Ok((run, stored))
    }

    /// Returns the identifier of the run.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Sets parameters, which cannot change any more, and tags.
    ///
    /// # Errors
    /// Returns an error if the server cannot be reached or refuses them.
    pub(crate) fn set(&self, parameters: &Texts, tags: &Texts) -> Result<(), Failure> {
        for (what, texts) in [("params", parameters), ("tags", tags)] {
            let pair = |(key, value)| json!({ "key": key, "value": value });
            let pairs: Vec<Value> = texts.iter().map(pair).collect();
            for part in pairs.chunks(TEXTS) {
                patiently(|| self.post("runs/log-batch", &json!({ "run_id": self.id, what: part })))?;
            }
        }
        Ok(())
    }

    /// Returns the identifier of an experiment, which is created if it does not exist.
    fn experiment(&self, name: &str) -> Result<String, Failure> {
        let find = || self.get("experiments/get-by-name", "experiment_name", name);
        let found = match patiently(find) {
            Err(failure) if failure.status == Some(404) => {
                match patiently(|| self.post("experiments/create", &json!({ "name": name }))) {
                    Ok(created) => return text_at(&created, "/experiment_id"),
                    // Another run has just created it.
                    Err(failure) if failure.status == Some(400) => find().map_err(|_| failure)?,
                    Err(failure) => return Err(failure),
                }
            }
            other => other?,
        };
        if found["experiment"]["lifecycle_stage"] == "deleted" {
            let what = format!(
                "has deleted the experiment `{name}`; restore it there, or set MLFLOW_EXPERIMENT_NAME to another one"
            );
            return Err(Failure::refused(what));
        }
        text_at(&found, "/experiment/experiment_id")
    }

    fn post(&self, call: &str, body: &Value) -> Result<Value, Failure> {
        let url = format!("{}/api/2.0/mlflow/{call}", self.uri);
        read(&self.client.post(&url, "application/json", body.to_string().as_bytes())?)
    }

    fn get(&self, call: &str, key: &str, value: &str) -> Result<Value, Failure> {
        read(&self.client.get(&format!("{}/api/2.0/mlflow/{call}", self.uri), key, value)?)
    }
}

impl Destination for TrackedRun {
    type Record = TimedScalars;

    fn name(&self) -> String {
        name(&self.uri)
    }

    fn send(&mut self, records: &[TimedScalars]) -> Result<(), Failure> {
        let metric = |time: u64, step: u64, &(key, value): &(&str, f64)| json!({ "key": key, "value": number(value), "timestamp": time, "step": step });
        let of_record = |TimedScalars { time, scalars }: &TimedScalars| {
            scalars.values.iter().map(|value| metric(*time, scalars.step, value)).collect::<Vec<_>>()
        };
        let metrics: Vec<Value> = records.iter().flat_map(of_record).collect();
        self.post("runs/log-batch", &json!({ "run_id": self.id, "metrics": metrics })).map(|_| ())
    }

    fn end(&mut self, ending: Ending) -> Result<(), Failure> {
        let status = match ending {
            Ending::Finished => "FINISHED",
            Ending::Stopped => "KILLED",
            Ending::Failed => "FAILED",
        };
        let body = json!({ "run_id": self.id, "status": status, "end_time": now() });
        self.post("runs/update", &body).map(|_| ())
    }
}

/// Returns the name of a server for messages.
pub(crate) fn name(uri: &str) -> String {
    format!("MLflow at {uri}")
}

fn read(text: &str) -> Result<Value, Failure> {
    let stranger = "does not answer like an MLflow server; check MLFLOW_TRACKING_URI";
    serde_json::from_str(text).map_err(|_| Failure::refused(stranger))
}

fn text_at(answer: &Value, pointer: &str) -> Result<String, Failure> {
    let missing = || {
        Failure::refused(format!(
            "does not answer like an MLflow server: no `{pointer}`; check MLFLOW_TRACKING_URI"
        ))
    };
    answer.pointer(pointer).and_then(Value::as_str).map(String::from).ok_or_else(missing)
}

/// Returns pairs of `key` and `value`.
fn texts(list: &Value) -> Texts {
    let pair = |entry: &Value| Some((entry["key"].as_str()?.into(), entry["value"].as_str()?.into()));
    list.as_array().into_iter().flatten().filter_map(pair).collect()
}

/// Returns the last step of each metric; some servers write numbers of 64 bits as texts.
fn steps(list: &Value) -> BTreeMap<String, u64> {
    let step = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let pair = |entry: &Value| Some((entry["key"].as_str()?.into(), step(&entry["step"])?));
    list.as_array().into_iter().flatten().filter_map(pair).collect()
}

/// Returns a number as JSON, which has no NaN: Protocol Buffers' names for it are accepted.
fn number(value: f64) -> Value {
    let name = if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    };
    if value.is_finite() { value.into() } else { name.into() }
}

/// Returns the milliseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
