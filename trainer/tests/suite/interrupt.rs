//! Signals: the first one ends a run after its step and leaves a checkpoint to resume from, a
//! second one ends it at once.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::image_folder;
use efficienttrain::checkpoint::Checkpoint;

const SIGINT: i32 = 2;
/// Time limit for a machine that is busy with other tests; a run that ignores signals would take
/// minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Returns true if this process ignores Ctrl-C, like background processes of a shell; its children
/// would ignore it too.
fn ignores_interrupts() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (SIGINT - 1)) != 0
}

fn start(args: &[&str]) -> Child {
    let program = env!("CARGO_BIN_EXE_efficienttrain");
    let mut command = Command::new(program);
    if ignores_interrupts() {
        command = Command::new("env");
        command.args(["--default-signal=INT", program]);
    }
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns the step of the newest checkpoint, which must be complete; none before the first.
fn saved_step(path: &Path) -> Option<u64> {
    path.exists().then(|| Checkpoint::open(path).unwrap().run().unwrap().step)
}

/// Waits for a checkpoint of a later step than `after`.
fn wait_for_step(path: &Path, after: Option<u64>, run: &mut Child) {
    let begin = Instant::now();
    while saved_step(path) <= after {
        assert!(begin.elapsed() < PATIENCE, "no checkpoint after step {after:?}");
        assert!(run.try_wait().unwrap().is_none(), "the run has ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(signal: &str, run: &Child) {
    let sent = Command::new("kill").args([signal, &run.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

/// Waits for the end of a process.
fn ended(run: &mut Child, within: Duration) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = run.try_wait().unwrap() {
            return status;
        }
        if begin.elapsed() > within {
            run.kill().unwrap();
            panic!("the run goes on after a signal");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Arguments of a run that would take minutes.
fn long_run<'a>(data: &'a str, out: &'a str) -> Vec<&'a str> {
    let fixed = ["train", "--model", "resnet10", "--base-size", "32", "--batch", "4", "--epochs", "500"];
    [&fixed[..], &["--workers", "3", "--resume", "auto", "--data", data, "--out", out]].concat()
}

#[test]
fn a_signal_ends_a_run_that_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 20);
    let out = dir.path().join("run");
    let checkpoint = out.join("last.safetensors");
    let args = long_run(data.to_str().unwrap(), out.to_str().unwrap());
    // With a checkpoint at every step, a signal often arrives while one is written.
    let args = [&args[..], &["--checkpoint-every", "1st"]].concat();
    let mut before = None;
    for (attempt, signal) in ["-INT", "-TERM", "-INT", "-TERM"].into_iter().enumerate() {
        let mut run = start(&args);
        wait_for_step(&checkpoint, before, &mut run);
        std::thread::sleep(Duration::from_millis(13 * attempt as u64));
        send(signal, &run);
        assert_eq!(ended(&mut run, PATIENCE).code(), Some(75), "{signal}");
        let step = saved_step(&checkpoint);
        assert!(step > before, "{step:?} after {before:?}");
        before = step;
    }
}

#[test]
fn the_step_is_finished_and_saved_though_no_checkpoint_was_due() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 20);
    let out = dir.path().join("run");
    let args = long_run(data.to_str().unwrap(), out.to_str().unwrap());
    let args = [&args[..], &["--checkpoint-every", "100%", "--eval-every", "100%"]].concat();
    let mut run = start(&args);
    let log = out.join("log.jsonl");
    let begin = Instant::now();
    while !std::fs::read_to_string(&log).unwrap_or_default().contains("\"step\":10") {
        assert!(begin.elapsed() < PATIENCE, "no step in {}", log.display());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(saved_step(&out.join("last.safetensors")), None);
    // Another process, which has not received a signal yet.
    let second = start(&args);
    let said = second.wait_with_output().unwrap();
    assert_eq!(said.status.code(), Some(1), "two processes in one folder");
    send("-TERM", &run);
    assert_eq!(ended(&mut run, PATIENCE).code(), Some(75));
    assert!(saved_step(&out.join("last.safetensors")) > Some(10));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    // Steps of many seconds.
    let mut run = start(&[
        "train",
        "--model",
        "resnet18",
        "--recipe",
        "baseline",
        "--synthetic-images",
        "600",
        "--batch",
        "512",
        "--base-size",
        "224",
        "--epochs",
        "5",
        "--out",
        out.to_str().unwrap(),
    ]);
    let begin = Instant::now();
    while !std::fs::read_to_string(out.join("log.jsonl")).unwrap_or_default().contains("stage") {
        assert!(begin.elapsed() < PATIENCE, "the run does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    send("-INT", &run);
    std::thread::sleep(Duration::from_millis(200));
    assert!(run.try_wait().unwrap().is_none(), "the step was not finished");
    send("-INT", &run);
    assert_eq!(ended(&mut run, Duration::from_secs(5)).code(), Some(128 + SIGINT));
}
