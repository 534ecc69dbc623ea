//! `--log-url`: the lines of `log.jsonl`, sent to a server.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::common::command::text;
use crate::common::http::{Reply, serve};

const TOKEN: &str = "EFFICIENTTRAIN_LOG_TOKEN";

fn train(out: &Path, url: &str, token: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    command.args(["train", "--synthetic-images", "32", "--model", "resnet10", "--base-size", "32"]);
    command.args(["--batch", "4", "--epochs", "1", "--lr", "1e-3", "--out", text(out), "--log-url", url]);
    for name in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let output = command.env(TOKEN, token).output().unwrap();
    let all = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&all).into_owned())
}

#[test]
fn lines_arrive_as_they_are_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let arrived = Arc::new(Mutex::new((String::new(), 0)));
    let shared = arrived.clone();
    let url = serve(move |request| {
        let (lines, requests) = &mut *shared.lock().unwrap();
        *requests += 1;
        assert_eq!(request.path, "/hook?run=1");
        assert_eq!(request.headers["content-type"], "application/x-ndjson");
        assert_eq!(request.headers["authorization"], "Bearer secret");
        // Of the first try and of a later request, one each fails.
        if matches!(requests, 1 | 3) {
            return Reply::Answer(503, String::new());
        }
        lines.push_str(&request.body);
        Reply::Answer(204, String::new())
    });
    let (ok, said) = train(dir.path(), &format!("{url}/hook?run=1"), "secret");
    assert!(ok, "{said}");
    let (lines, requests) = &*arrived.lock().unwrap();
    assert!(*requests > 3);
    let log = std::fs::read_to_string(dir.path().join("log.jsonl")).unwrap();
    let without_note = |text: &str| {
        text.lines().filter(|line| !line.contains("status 503")).map(String::from).collect::<Vec<_>>()
    };
    assert!(log.lines().count() > 5);
    assert_eq!(without_note(lines), without_note(&log));
    // Paths of such addresses are often secrets.
    assert!(!log.contains("/hook"), "{log}");
}

#[test]
fn a_wrong_address_is_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let moved = serve(|_| Reply::Moved("https://other.example/".into()));
    let denies = serve(|_| Reply::Answer(401, String::new()));
    let missing = serve(|_| Reply::Answer(404, String::new()));
    let cases = [
        ("ftp://host/", "expected an address like https://host/path"),
        ("https://", "expected an address like"),
        ("http://me:secret@host/", "without name and password"),
        ("http://127.0.0.1:9/", "http://127.0.0.1:9 cannot be reached"),
        (&moved, "give that one instead: https://other.example/"),
        (&denies, TOKEN),
        (&missing, "refuses the request (status 404)"),
    ];
    for (index, (url, expected)) in cases.iter().enumerate() {
        let out = dir.path().join(index.to_string());
        let (ok, said) = train(&out, url, "");
        assert!(!ok && said.contains("--log-url: ") && said.contains(expected), "{url}: {said}");
        assert!(!out.join("last.safetensors").exists(), "{url}");
    }
}
