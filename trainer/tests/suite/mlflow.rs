//! Runs on an MLflow server, played by a server on this machine that speaks its REST API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::common::command::text;
use crate::common::content::content;
use crate::common::http::{Reply, Request, serve};

const URI: &str = "MLFLOW_TRACKING_URI";
const RUN: &str = "0123456789abcdef";

/// What the server was told, and what it shall do wrong.
#[derive(Default)]
struct Told {
    experiments: Vec<String>,
    created: Vec<Value>,
    params: BTreeMap<String, String>,
    tags: BTreeMap<String, String>,
    metrics: Vec<Value>,
    /// Statuses in order.
    statuses: Vec<String>,
    authorizations: BTreeSet<String>,
    /// Replies to the next requests that carry metrics.
    faults: Vec<Reply>,
    /// Status of all answers, if it is not 200.
    refuses: Option<u16>,
}

type Shared = Arc<Mutex<Told>>;

fn server(change: impl FnOnce(&mut Told)) -> (String, Shared) {
    let mut told = Told::default();
    change(&mut told);
    let told = Arc::new(Mutex::new(told));
    let shared = told.clone();
    (serve(move |request| answer(request, &mut shared.lock().unwrap())), told)
}

fn answer(request: &Request, told: &mut Told) -> Reply {
    told.authorizations.insert(request.headers.get("authorization").cloned().unwrap_or_default());
    if let Some(status) = told.refuses {
        return Reply::Answer(status, r#"{"message": "not for you"}"#.into());
    }
    let call = request.path.strip_prefix("/api/2.0/mlflow/").unwrap_or_else(|| panic!("{}", request.path));
    let missing = || Reply::Answer(404, r#"{"error_code": "RESOURCE_DOES_NOT_EXIST"}"#.into());
    match call.split('?').next().unwrap() {
        "experiments/get-by-name" => {
            let name = call.split_once("experiment_name=").unwrap().1;
            match told.experiments.iter().position(|known| known == name) {
                Some(id) => Reply::json(&json!({ "experiment": { "experiment_id": id.to_string() } })),
                None => missing(),
            }
        }
        "experiments/create" => {
            told.experiments.push(request.json()["name"].as_str().unwrap().into());
            Reply::json(&json!({ "experiment_id": (told.experiments.len() - 1).to_string() }))
        }
        "runs/create" => {
            let run = request.json();
            told.tags.extend(pairs(&run["tags"]));
            told.created.push(run);
            Reply::json(&json!({ "run": { "info": { "run_id": RUN, "lifecycle_stage": "active" } } }))
        }
        "runs/get" if call.ends_with(RUN) => Reply::json(&stored(told)),
        "runs/get" => missing(),
        "runs/update" => {
            told.statuses.push(request.json()["status"].as_str().unwrap().into());
            Reply::json(&json!({}))
        }
        "runs/log-batch" => log_batch(&request.json(), told),
        other => panic!("{other} is not called"),
    }
}

fn log_batch(batch: &Value, told: &mut Told) -> Reply {
    assert_eq!(batch["run_id"], RUN);
    if let Some(metrics) = batch["metrics"].as_array() {
        assert!(metrics.len() <= 1000);
        if !told.faults.is_empty() {
            return told.faults.remove(0);
        }
        told.metrics.extend(metrics.iter().cloned());
    }
    for (key, value) in pairs(&batch["params"]) {
        assert!(value.chars().count() <= 500, "{key}");
        let before = told.params.insert(key.clone(), value.clone());
        assert!(before.is_none_or(|before| before == value), "{key} is changed");
    }
    told.tags.extend(pairs(&batch["tags"]));
    Reply::json(&json!({}))
}

/// The run as the server returns it.
fn stored(told: &Told) -> Value {
    let list = |texts: &BTreeMap<String, String>| {
        texts.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect::<Vec<_>>()
    };
    let mut last = BTreeMap::new();
    for metric in &told.metrics {
        last.insert(metric["key"].to_string(), metric.clone());
    }
    let metrics: Vec<Value> = last.into_values().collect();
    json!({ "run": {
        "info": { "run_id": RUN, "lifecycle_stage": "active" },
        "data": { "params": list(&told.params), "tags": list(&told.tags), "metrics": metrics },
    } })
}

fn pairs(list: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_string();
    list.as_array().into_iter().flatten().map(|pair| (text(&pair["key"]), text(&pair["value"]))).collect()
}

/// Names and values of variables.
type Environment<'a> = &'a [(&'a str, &'a str)];

/// Runs the program with an environment that names only this server.
fn efficienttrain(args: &[&str], environment: Environment) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    let ours = ["MLFLOW_", "EFFICIENTTRAIN_", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    for (name, _) in std::env::vars() {
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    let output = command.args(args).envs(environment.iter().copied()).output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&all).into_owned())
}

const TRAIN: [&str; 15] = [
    "train",
    "--synthetic-images",
    "64",
    "--model",
    "resnet10",
    "--base-size",
    "32",
    "--batch",
    "4",
    "--epochs",
    "2",
    "--lr",
    "1e-3",
    "--eval-every",
    "7st",
];

fn train(out: &Path, environment: Environment, more: &[&str]) -> (bool, String) {
    efficienttrain(&[&TRAIN[..], &["--out", text(out)], more].concat(), environment)
}

/// Steps and values of a metric, in the order they arrived.
fn curve(told: &Told, key: &str) -> Vec<(u64, f64)> {
    let of_key = told.metrics.iter().filter(|metric| metric["key"] == key);
    of_key.map(|metric| (metric["step"].as_u64().unwrap(), metric["value"].as_f64().unwrap())).collect()
}

/// A column of a table, by step.
fn column(path: &Path, name: &str) -> BTreeMap<u64, f64> {
    let mut table = csv::Reader::from_path(path).unwrap();
    let place = table.headers().unwrap().iter().position(|heading| heading == name).unwrap();
    let rows = table.records().map(Result::unwrap);
    rows.map(|row| (row[0].parse().unwrap(), row[place].parse().unwrap())).collect()
}

#[test]
fn a_run_is_tracked_and_goes_on_as_the_same_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run-a");
    let (uri, told) =
        server(|told| told.faults = vec![Reply::Answer(503, String::new()), Reply::Drop, Reply::Drop]);
    let uri = format!("{uri}/");
    let environment = [(URI, &uri[..]), ("MLFLOW_TRACKING_TOKEN", "secret")];
    let (ok, said) = train(
        &out,
        &environment,
        &["--log", "mlflow,csv", "--stop-after", "15", "--checkpoint-every", "8st"],
    );
    assert!(ok, "{said}");
    assert!(said.contains("note: MLflow at") && said.contains("status 503"), "{said}");
    assert!(!said.contains("could not be sent"), "{said}");
    {
        let told = told.lock().unwrap();
        assert!(told.faults.is_empty());
        assert_eq!(told.experiments, ["efficienttrain"]);
        assert_eq!((told.created.len(), &told.created[0]["experiment_id"]), (1, &json!("0")));
        assert_eq!(told.created[0]["run_name"], "run-a");
        for (tag, value) in
            [("runName", "run-a"), ("source.name", "efficienttrain"), ("source.type", "LOCAL")]
        {
            assert_eq!(told.tags[&format!("mlflow.{tag}")], value);
        }
        for (key, value) in
            [("synthetic-images", "64"), ("model", "resnet10"), ("lr", "0.001"), ("eval-every", "7st")]
        {
            assert_eq!(told.params[key], value);
        }
        assert_eq!(told.authorizations.iter().collect::<Vec<_>>(), ["Bearer secret"]);
        assert_eq!(told.statuses, ["KILLED"]);
    }
    // The process was killed after step 8 in truth: it repeats the steps from there.
    let environment =
        [(URI, &uri[..]), ("MLFLOW_TRACKING_USERNAME", "me"), ("MLFLOW_TRACKING_PASSWORD", "pass")];
    let (ok, said) =
        efficienttrain(&["train", "--resume", "--out", text(&out), "--log", "mlflow,csv"], &environment);
    assert!(ok, "{said}");
    let told = told.lock().unwrap();
    assert_eq!((told.created.len(), told.experiments.len()), (1, 1));
    assert_eq!(told.statuses, ["KILLED", "RUNNING", "FINISHED"]);
    // `printf me:pass | base64`
    assert!(told.authorizations.contains("Basic bWU6cGFzcw=="));
    let steps = out.join("steps.csv");
    for (key, name) in [("train/loss", "loss"), ("train/lr", "lr"), ("curriculum/size", "size")] {
        // Steps carry the number of steps before them in tables, and that after them here.
        let expected: Vec<(u64, f64)> = column(&steps, name)
            .into_iter()
            .filter(|(step, _)| step % 10 == 0)
            .map(|(s, v)| (s + 1, v))
            .collect();
        assert!(expected.len() > 2);
        assert_eq!(curve(&told, key), expected, "{key}");
    }
    let evals = out.join("evals.csv");
    for name in ["top1", "top5", "loss"] {
        let expected: Vec<(u64, f64)> = column(&evals, name).into_iter().collect();
        assert_eq!(curve(&told, &format!("eval/{name}")), expected, "{name}");
    }
    assert!(told.metrics.iter().all(|metric| metric["timestamp"].as_u64().unwrap() > 1_500_000_000_000));
}

#[test]
fn steps_that_were_sent_are_repeated_only_with_other_options() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let (uri, told) = server(|_| ());
    let environment = [(URI, &uri[..]), ("MLFLOW_EXPERIMENT_NAME", "mine"), ("MLFLOW_RUN_NAME", "first")];
    let (ok, said) = train(&out, &environment, &["--log", "mlflow", "--stop-after", "5"]);
    assert!(ok, "{said}");
    let checkpoint = std::fs::read(out.join("last.safetensors")).unwrap();
    let resume = |more: &[&str]| {
        std::fs::write(out.join("last.safetensors"), &checkpoint).unwrap();
        let args = [&["train", "--resume", "--out", text(&out)], more].concat();
        let (ok, said) = efficienttrain(&args, &environment);
        assert!(ok, "{said}");
    };
    let steps = |told: &Shared| {
        curve(&told.lock().unwrap(), "train/loss").iter().map(|(step, _)| *step).collect::<Vec<_>>()
    };
    resume(&["--stop-after", "12"]);
    assert_eq!(steps(&told), [1, 11]);
    // From step 5 again.
    resume(&["--stop-after", "22"]);
    assert_eq!(steps(&told), [1, 11, 21]);
    // Another learning rate gives other values.
    resume(&["--stop-after", "12", "--lr", "2e-3", "--allow-change", "lr"]);
    assert_eq!(steps(&told), [1, 11, 21, 11]);
    let told = told.lock().unwrap();
    assert_eq!((&told.params["lr"][..], &told.tags["changed.lr"][..]), ("0.001", "0.002"));
    assert_eq!(
        (&told.experiments[..], &told.created[0]["run_name"]),
        (&["mine".into()][..], &json!("first"))
    );
}

#[test]
fn a_wrong_set_up_is_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let (denies, _) = server(|told| told.refuses = Some(403));
    let page = serve(|_| Reply::Answer(200, "<html>welcome</html>".into()));
    let moved = serve(|_| Reply::Moved("https://tracking.example/".into()));
    let cases: [(Environment, &[&str]); 8] = [
        (&[], &["MLFLOW_TRACKING_URI", "http://localhost:5000"]),
        (&[(URI, "sqlite:///mlruns.db")], &["sqlite:///mlruns.db", "mlflow server"]),
        (&[(URI, "http://me:pass@host")], &["without name and password"]),
        (&[(URI, "http://127.0.0.1:9")], &["MLflow at http://127.0.0.1:9", "cannot be reached"]),
        (&[(URI, "http://no-such-host.invalid")], &["no-such-host.invalid", "cannot be reached"]),
        (&[(URI, &denies)], &["refuses access (status 403: not for you)", "MLFLOW_TRACKING_TOKEN"]),
        (&[(URI, &page)], &["does not answer like an MLflow server"]),
        (&[(URI, &moved)], &["https://tracking.example/"]),
    ];
    for (index, (environment, expected)) in cases.iter().enumerate() {
        let out = dir.path().join(index.to_string());
        let (ok, said) = train(&out, environment, &["--log", "mlflow"]);
        assert!(!ok && said.contains("--log: "), "{said}");
        assert!(!said.contains("pass@"), "{said}");
        for word in *expected {
            assert!(said.contains(word), "{environment:?} said `{said}`, not `{word}`");
        }
        assert!(!out.join("log.jsonl").exists() && !out.join("last.safetensors").exists(), "{environment:?}");
    }
}

#[test]
fn a_run_that_the_server_does_not_have_is_not_continued() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let (uri, _) = server(|_| ());
    let (ok, said) = train(&out, &[(URI, &uri)], &["--log", "mlflow", "--stop-after", "2"]);
    assert!(ok, "{said}");
    let file = out.join("mlflow.json");
    let known = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, known.replace(RUN, "fedcba")).unwrap();
    let resume = || efficienttrain(&["train", "--resume", "--out", text(&out)], &[(URI, &uri)]);
    let (ok, said) = resume();
    assert!(!ok && said.contains("does not have the run fedcba") && said.contains(&uri), "{said}");
    std::fs::write(&file, "{").unwrap();
    let (ok, said) = resume();
    assert!(!ok && said.contains("mlflow.json") && said.contains("remove it"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let (ok, said) = resume();
    assert!(ok, "{said}");
}

#[test]
fn a_server_that_dies_changes_no_weight_and_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, tracked) = (dir.path().join("plain"), dir.path().join("tracked"));
    let (ok, said) = train(&plain, &[], &[]);
    assert!(ok, "{said}");
    let (uri, told) = server(|told| told.faults = vec![Reply::Die]);
    let (ok, said) = train(&tracked, &[(URI, &uri)], &["--log", "mlflow"]);
    assert!(ok, "{said}");
    assert_eq!(content(&tracked.join("model.safetensors")), content(&plain.join("model.safetensors")));
    let told = told.lock().unwrap();
    assert!(told.faults.is_empty() && told.metrics.is_empty());
    assert_eq!(said.matches("cannot be reached").count(), 1, "{said}");
    // All of them: those of each tenth step, and the evaluations.
    let log = std::fs::read_to_string(tracked.join("log.jsonl")).unwrap();
    let events = || log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let is_sent = |e: &Value| {
        e["event"] == "eval" || e["event"] == "step" && e["step"].as_u64().unwrap().is_multiple_of(10)
    };
    let records = events().filter(is_sent).count();
    assert!(records > 4);
    let lost = format!("{records} records of the run could not be sent to MLflow at {uri}");
    assert!(said.contains(&format!("note: {lost}")), "{said}");
    let noted = events().any(|e| e["event"] == "note" && e["text"].as_str().unwrap().contains(&lost));
    assert!(noted, "{log}");
}
