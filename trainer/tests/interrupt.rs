//! Ctrl-C ends a run at once and leaves a checkpoint to go on from.

#![cfg(unix)]

mod common;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::image_folder;
use efficienttrain_trainer::checkpoint::Saved;

const SIGINT: i32 = 2;
/// What a machine that is busy with other tests may take; a run that does not listen would go on for minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whether this process was started so that it ignores Ctrl-C, as shells start what runs in the background: children would
/// ignore it too.
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

/// The step of the newest checkpoint, which must be whole; none before the first.
fn saved_step(path: &Path) -> Option<u64> {
    path.exists().then(|| Saved::open(path).unwrap().run().unwrap().step)
}

/// Waits until there is a checkpoint of a later step than `after`.
fn wait_for_step(path: &Path, after: Option<u64>, run: &mut Child) {
    let begin = Instant::now();
    while saved_step(path) <= after {
        assert!(begin.elapsed() < PATIENCE, "no checkpoint after step {after:?}");
        assert!(run.try_wait().unwrap().is_none(), "the run has ended by itself");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Presses Ctrl-C, and waits for the end.
fn interrupt(run: &mut Child) {
    let sent = Command::new("kill").args(["-INT", &run.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = run.try_wait().unwrap() {
            break status;
        }
        if begin.elapsed() > Duration::from_secs(5) {
            run.kill().unwrap();
            panic!("the run goes on after Ctrl-C");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(status.signal(), Some(SIGINT), "{status}");
}

#[test]
fn ctrl_c_ends_a_run_that_can_be_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let data = image_folder(&dir.path().join("data"), 3, 20);
    let out = dir.path().join("run");
    let (data, folder) = (data.to_str().unwrap(), out.to_str().unwrap());
    let checkpoint = out.join("last.safetensors");
    // A checkpoint at every step: an interrupt often falls into the writing of one.
    let mut first =
        vec!["train", "--model", "resnet10", "--base-size", "32", "--batch", "4", "--epochs", "500"];
    first.extend(["--data", data, "--out", folder, "--workers", "3", "--checkpoint-every", "1st"]);
    let again =
        ["train", "--resume", "--out", folder, "--workers", "3", "--checkpoint-every", "1st"].to_vec();
    let mut before = None;
    for (attempt, args) in [&first, &again, &again, &again].into_iter().enumerate() {
        let mut run = start(args);
        wait_for_step(&checkpoint, before, &mut run);
        std::thread::sleep(Duration::from_millis(13 * attempt as u64));
        interrupt(&mut run);
        let step = saved_step(&checkpoint);
        assert!(step > before, "{step:?} after {before:?}");
        before = step;
    }
}
