//! A run that is killed at random moments, repeatedly, has bitwise the same result as an
//! undisturbed one; a full disk leaves the newest checkpoint usable.

use crate::common::Rendered;
use crate::common::content::content;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use efficienttrain::checkpoint::{Checkpoint, newest};

/// A run over three sizes with a moving average, checkpoints at every step and evaluations in
/// between.
fn command(model: &str, out: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    command.args([
        "train",
        "--model",
        model,
        "--synthetic-images",
        "64",
        "--base-size",
        "48",
        "--batch",
        "8",
    ]);
    command.args([
        "--epochs",
        "3",
        "--lr",
        "1e-3",
        "--ema-decay",
        "0.9",
        "--drop-path",
        "0.1",
        "--replay",
        "2",
    ]);
    command.args(["--eval-every", "20%", "--checkpoint-every", "1st"]);
    command.args(["--resume", "auto", "--out", out.to_str().unwrap()]).args(more);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn leftovers(out: &Path) -> usize {
    let folders = [out.to_path_buf(), out.join("checkpoints")];
    let names = folders.iter().flat_map(|f| std::fs::read_dir(f).into_iter().flatten());
    names.filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".writing-")).count()
}

/// Starts the run and kills it after `after`; returns true if it was complete before.
fn killed(mut run: Child, after: Duration) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < after {
        if let Some(status) = run.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    run.kill().unwrap();
    run.wait().unwrap();
    false
}

/// Kills runs at least `kills` times at moments drawn from `seed`, and lets each one finish; a fast
/// machine needs several runs for that.
fn check(model: &str, kills: usize, mut seed: u64) {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let keep = ["--keep-last", "3", "--keep-best", "2"];
    let begin = Instant::now();
    assert!(command(model, &whole, &keep).status().unwrap().success());
    // A fraction of the whole run's time, so that it is killed in its middle on slow and fast
    // machines.
    let longest = 400 + begin.elapsed().as_millis() as u64 / kills as u64;
    let mut done = 0;
    for number in 0.. {
        let disturbed = dir.path().join(format!("disturbed-{number}"));
        loop {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let after = Duration::from_millis((seed >> 33) % longest);
            let workers = (1 + done % 3).to_string();
            let run =
                command(model, &disturbed, &[&keep[..], &["--workers", &workers]].concat()).spawn().unwrap();
            // After enough kills, it may finish.
            let after = if done >= kills { Duration::from_secs(600) } else { after };
            if killed(run, after) {
                break;
            }
            done += 1;
            // At any moment, the existing checkpoint is complete.
            if let Some(found) = newest(&disturbed).unwrap() {
                assert!(found.damaged.is_empty(), "{:?}", found.damaged);
            }
        }
        compare(&whole, &disturbed);
        if done >= kills {
            break;
        }
    }
}

/// Checks that both runs left the same files.
fn compare(whole: &Path, disturbed: &Path) {
    assert_eq!(leftovers(disturbed), 0, "half-written files were left behind");
    assert_eq!(content(&whole.join("last.safetensors")), content(&disturbed.join("last.safetensors")));
    let kept = |out: &Path| {
        let files = std::fs::read_dir(out.join("checkpoints")).unwrap();
        let mut names: Vec<_> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(kept(whole), kept(disturbed));
    assert_eq!(kept(whole).iter().filter(|n| n.starts_with("step-")).count(), 3);
}

#[test]
#[ignore = "trains much: CI runs it"]
fn a_killed_run_ends_as_an_undisturbed_one() {
    check("resnet10", 6, 1);
}

#[test]
#[ignore = "trains much: CI runs it"]
fn a_run_killed_many_times_ends_as_an_undisturbed_one() {
    check("resnet10", 40, 2);
    check("deit_tiny", 40, 3);
}

/// A run that is killed before its newest checkpoint is linked creates the links on resume.
#[test]
fn names_that_a_killed_run_did_not_get_to_are_given() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, disturbed) = (dir.path().join("whole"), dir.path().join("disturbed"));
    let keep = ["--keep-last", "3", "--keep-best", "2"];
    let until = |out: &Path, step: u64| {
        let step = step.to_string();
        let more = [&keep[..], &["--stop-after", &step]].concat();
        assert!(command("resnet10", out, &more).status().unwrap().success());
    };
    let best = |out: &Path| {
        let files = std::fs::read_dir(out.join("checkpoints")).unwrap();
        let names = files.map(|f| f.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with("best-")).collect();
        names.sort();
        names
    };
    until(&whole, 22);
    let saved = Checkpoint::open(&whole.join("last.safetensors")).unwrap();
    let evaluated = saved.run().unwrap().history.evals.last().unwrap().step;
    until(&disturbed, evaluated);
    let names = ["best", "step"].map(|kind| format!("{kind}-{evaluated:08}.safetensors"));
    for name in &names {
        std::fs::remove_file(disturbed.join("checkpoints").join(name)).unwrap();
    }
    until(&disturbed, 22);
    assert!(best(&whole).contains(&names[0]), "{:?}", best(&whole));
    assert_eq!(best(&disturbed), best(&whole));
}

#[test]
fn a_full_disk_leaves_the_newest_checkpoint_and_the_run_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    assert!(command("resnet10", &out, &["--stop-after", "5"]).status().unwrap().success());
    let before = content(&out.join("last.safetensors"));
    // The system refuses every file above 20 MB, like a disk that becomes full in the middle of
    // one.
    let run = command("resnet10", &out, &["--stop-after", "8"]);
    let arguments: Vec<String> = run.get_args().map(|a| format!("'{}'", a.to_str().unwrap())).collect();
    let program = env!("CARGO_BIN_EXE_efficienttrain");
    let script = format!("trap '' XFSZ; ulimit -f 40000; exec '{program}' {}", arguments.join(" "));
    let said = Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("no checkpoint of step 6") && text.contains("last.safetensors"), "{text}");
    assert_eq!(leftovers(&out), 0);
    assert_eq!(content(&out.join("last.safetensors")), before);
    assert!(command("resnet10", &out, &["--stop-after", "8"]).status().unwrap().success());
    assert_eq!(Checkpoint::open(&out.join("last.safetensors")).unwrap().run().unwrap().step, 8);
}

#[test]
fn a_damaged_checkpoint_is_found_out_and_an_older_one_taken() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let run =
        |more: &[&str]| command("resnet10", &out, &[more, &["--keep-last", "2"]].concat()).status().unwrap();
    assert!(run(&["--stop-after", "6"]).success());
    // One bit, in the middle of the weights.
    let last = out.join("last.safetensors");
    let mut bytes = std::fs::read(&last).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&last, &bytes).unwrap();
    let error = Checkpoint::open(&last).unwrap_err().rendered();
    assert!(error.contains("last.safetensors") && error.contains("checksum"), "{error}");
    let found = newest(&out).unwrap().unwrap();
    assert_eq!(found.saved.run().unwrap().step, 5);
    assert!(found.damaged[0].contains("checksum"), "{:?}", found.damaged);
    assert!(run(&["--stop-after", "7"]).success());
    assert_eq!(Checkpoint::open(&last).unwrap().run().unwrap().step, 7);
}
