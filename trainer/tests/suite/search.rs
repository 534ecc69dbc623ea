//! Searches by real training: killed ones end like undisturbed ones, and the found recipe trains to
//! the final state of the search.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::command::{accepted, efficienttrain, text};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::events::Figure;
use efficienttrain::experiments::search::{AlgorithmName, SearchRun, SearchSettings, write_outcome};
use efficienttrain_schedule::search::{Outcome, Report, Verdict};

fn config() -> TrainConfig {
    TrainConfig {
        synthetic_images: 60,
        model: Some("resnet10".into()),
        recipe: "baseline".into(),
        epochs: 1.2,
        base_size: 32,
        batch: 8.into(),
        lr: Some(1e-3),
        ..TrainConfig::default()
    }
}

fn settings() -> SearchSettings {
    SearchSettings { stages: 2, sizes: vec![16, 32], fine_tune: 0.2, ..SearchSettings::default() }
}

fn searched(settings: &SearchSettings, out: &Path) -> (Outcome, Vec<f64>) {
    let options = RunOptions { out: out.into(), workers: Some(2), ..RunOptions::default() };
    let mut search = SearchRun::open(config(), settings, options).unwrap();
    let outcome = search.run(&mut |_| {}).unwrap().expect("nobody stopped it");
    (outcome, search.seconds().to_vec())
}

/// All tensors of a checkpoint, bit for bit.
fn content(path: &Path) -> Vec<(String, Vec<u64>)> {
    let tensors = candle_core::safetensors::load(path, &candle_core::Device::Cpu).unwrap();
    let bits = |t: &candle_core::Tensor| {
        let t = t.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap();
        t.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect::<Vec<_>>()
    };
    let mut named: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), bits(t))).collect();
    named.sort();
    named
}

fn states(out: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(out.join("states")).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn the_found_recipe_trains_to_the_state_that_the_search_ended_with() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("search");
    let (outcome, seconds) = searched(&SearchSettings { seeds: vec![3], ..settings() }, &out);
    // Two stages with two candidates; both of a stage start from one state, which was trained once.
    assert_eq!((outcome.trials.len(), seconds.len()), (4, 4));
    assert!(outcome.equivalent_epochs < outcome.exhaustive_epochs);
    let recipe = write_outcome(&out, &outcome, &seconds, Figure::Top1).unwrap();
    for file in ["outcome.json", "trials.csv", "search.svg"] {
        assert!(out.join(file).metadata().unwrap().len() > 100, "{file}");
    }
    let table = std::fs::read_to_string(out.join("trials.csv")).unwrap();
    assert_eq!(table.lines().count(), 5);
    assert_eq!(table.matches(",chosen").count(), 2, "{table}");

    let again = dir.path().join("again");
    let run =
        ["train", "--recipe", text(&recipe), "--synthetic-images", "60", "--epochs", "1.2", "--seed", "3"];
    // The built-in images depend on the seed of the configuration, which was 0 in the search: uses
    // the same ones.
    let same = Checkpoint::open(&states(&out)[0]).unwrap();
    let config = TrainConfig { epochs: 1.2, seed: 3, ..same.run().unwrap().config.clone() };
    let sources = efficienttrain::Sources::open(&self::config()).unwrap();
    let options = RunOptions { out: again.clone(), ..RunOptions::default() };
    let mut trained = efficienttrain::Run::new(config, options, sources).unwrap();
    assert!(trained.train(&mut ()).unwrap());
    assert_eq!(trained.plan(), &outcome.plan().unwrap());
    assert_eq!(states(&out).len(), 1);
    assert!(content(&states(&out)[0]) == content(&again.join("last.safetensors")));
    // On the command line, the file contains base size, batch and learning rate.
    accepted(&[&run[..], &["--out", text(&dir.path().join("by-file"))]].concat());
    let by_file = Checkpoint::open(&dir.path().join("by-file/last.safetensors")).unwrap();
    assert_eq!(by_file.run().unwrap().step, outcome.plan().unwrap().total_steps());
}

/// Command of a search with seeds, early stopping and checkpoints at every step.
fn command(out: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_efficienttrain"));
    command.args([
        "search",
        "--model",
        "resnet10",
        "--synthetic-images",
        "60",
        "--base-size",
        "32",
        "--batch",
        "8",
    ]);
    command.args(["--epochs", "1.5", "--lr", "1e-3", "--stages", "2", "--sizes", "16,32", "--seeds", "4"]);
    command.args([
        "--early-stop",
        "0.4",
        "--early-stop-margin",
        "0.3",
        "--checkpoint-every",
        "1st",
        "--fine-tune",
        "0.2",
    ]);
    command.args(["--resume", "--out", text(out)]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Returns the result of a search, without times.
fn found(out: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(out.join("outcome.json")).unwrap();
    let mut outcome: serde_json::Value = serde_json::from_str(&text).unwrap();
    outcome["seconds"].take();
    for row in outcome["table"].as_array_mut().unwrap() {
        row["seconds"].take();
    }
    outcome
}

#[test]
#[ignore = "trains much: CI runs it"]
fn a_search_that_is_killed_ends_as_an_undisturbed_one() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, disturbed) = (dir.path().join("whole"), dir.path().join("disturbed"));
    let begin = Instant::now();
    assert!(command(&whole).status().unwrap().success());
    let longest = 200 + begin.elapsed().as_millis() as u64 / 4;
    let (mut kills, mut seed) = (0, 5u64);
    loop {
        let mut search = command(&disturbed).spawn().unwrap();
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let after =
            if kills >= 4 { Duration::from_secs(600) } else { Duration::from_millis((seed >> 33) % longest) };
        let begin = Instant::now();
        let mut ended = None;
        while ended.is_none() && begin.elapsed() < after {
            ended = search.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        if let Some(status) = ended {
            assert!(status.success(), "{status}");
            break;
        }
        search.kill().unwrap();
        search.wait().unwrap();
        kills += 1;
    }
    assert!(kills >= 2, "the search ended after {kills} kills");
    assert_eq!(found(&whole), found(&disturbed));
    let recipe = |out: &Path| std::fs::read(out.join("recipe.json")).unwrap();
    assert_eq!(recipe(&whole), recipe(&disturbed));
    assert_eq!(states(&whole).len(), 1, "one state a seed is left");
    for (ours, theirs) in states(&whole).iter().zip(states(&disturbed)) {
        assert_eq!(ours.file_name(), theirs.file_name());
        assert!(content(ours) == content(&theirs), "{}", ours.display());
    }
    // A finished search is not trained again.
    let begin = Instant::now();
    let before = std::fs::read(whole.join("search.json")).unwrap();
    assert!(command(&whole).status().unwrap().success());
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!(before, std::fs::read(whole.join("search.json")).unwrap());
}

#[test]
fn hopeless_candidates_are_given_up_and_reported_so() {
    let dir = tempfile::tempdir().unwrap();
    let seeds = vec![1, 2];
    let early =
        SearchSettings { early_stop: Some(0.5), early_stop_margin: 0.0, stages: 1, seeds, ..settings() };
    let (outcome, _) = searched(&early, dir.path());
    let verdicts: Vec<&Verdict> = outcome.stages[0].candidates.iter().map(|c| &c.verdict).collect();
    let measured = || outcome.stages[0].candidates.iter().filter_map(|c| c.measured);
    assert!(measured().all(|m| m.seeds == 2 && m.spread.is_some()));
    // Without a margin, every candidate behind the best is given up; two that tie after the probe
    // both continue.
    let given_up = verdicts.iter().filter(|v| ***v == Verdict::GivenUp).count();
    assert_eq!(outcome.trials.len(), 2 * (4 - given_up), "{verdicts:?}");
    assert_eq!(outcome.to_string().contains("given up"), given_up > 0);
}

#[test]
#[ignore = "trains much: CI runs it"]
fn the_greedy_search_keeps_sizes_that_do_not_lower_the_accuracy() {
    let dir = tempfile::tempdir().unwrap();
    // Any difference is a tie, so the smallest size is always chosen.
    let greedy = SearchSettings { algorithm: AlgorithmName::Greedy, tie: 1.0, ..settings() };
    let (outcome, _) = searched(&greedy, dir.path());
    let sizes: Vec<u32> = outcome.recipe.curriculum.stages.iter().map(|stage| stage.size).collect();
    assert_eq!(sizes, [16, 16]);
    assert!(outcome.stages.iter().all(|stage| stage.tied) && outcome.baseline.is_some());
    // Plain training, then one candidate per stage.
    assert_eq!(outcome.trials.len(), 3);
    assert!(
        outcome
            .trials
            .iter()
            .all(|row| matches!(row.report, Report::Accuracy(a) if (0.0..=1.0).contains(&a)))
    );
    assert_eq!(states(dir.path()).len(), 1);
}

#[test]
#[ignore = "trains much: CI runs it"]
fn magnitudes_and_batches_are_searched_too() {
    let dir = tempfile::tempdir().unwrap();
    let wide = SearchSettings {
        stages: 1,
        sizes: vec![16],
        magnitudes: vec![0.0, 9.0],
        batches: vec![8, 16],
        fine_tune: 0.0,
        ..SearchSettings::default()
    };
    let (outcome, _) = searched(&wide, dir.path());
    assert_eq!(outcome.trials.len(), 4);
    let stage = &outcome.recipe.curriculum.stages[0];
    assert!([8, 16].contains(&stage.batch_per_device) && [0.0, 9.0].contains(&stage.magnitude.mean()));
}

#[test]
fn what_is_wrong_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("search");
    searched(&SearchSettings { stages: 1, sizes: vec![32], ..settings() }, &out);
    let base =
        ["search", "--model", "resnet10", "--synthetic-images", "60", "--base-size", "32", "--batch", "8"];
    let refused = |more: &[&str]| {
        let said = efficienttrain(&[&base[..], more, &["--out", text(&out)]].concat());
        assert_eq!(said.status.code(), Some(1), "{more:?}");
        String::from_utf8(said.stderr).unwrap()
    };
    assert!(refused(&[]).contains("--resume"));
    let said =
        refused(&["--resume", "--stages", "3", "--lr", "1e-3", "--recipe", "baseline", "--epochs", "2"]);
    assert!(said.contains("search.json") && said.contains("shares") && said.contains("--epochs"), "{said}");
    let other = dir.path().join("other");
    for (args, expected) in [
        (&["--sizes", "16,64"][..], &["--sizes", "64"][..]),
        (&["--sizes", "32,16"], &["ascending"]),
        (&["--early-stop", "1.5"], &["--early-stop", "between 0 and 1"]),
        (&["--early-stop", "0.5", "--algorithm", "greedy"], &["--early-stop", "greedy"]),
        (&["--seeds", "1,1"], &["seeds[1]"]),
        (&["--epochs", "1", "--stages", "1"], &["--epochs", "--fine-tune"]),
        (&["--epochs", "0.5", "--fine-tune", "0"], &["--epochs", "optimizer step"]),
        (&["--batch", "auto"], &["--batch", "train"]),
        (&["--model", "deit_tiny", "--sizes", "20,32"], &["--sizes", "16"]),
    ] {
        let out = text(&other);
        let model: &[&str] = if args[0] == "--model" { &[] } else { &["--model", "resnet10"] };
        let fixed = ["search", "--synthetic-images", "60", "--base-size", "32", "--out", out];
        let batch: &[&str] = if args.contains(&"auto") { &[] } else { &["--batch", "8"] };
        let said = efficienttrain(&[&fixed[..], model, batch, args].concat());
        let said = String::from_utf8(said.stderr).unwrap();
        for word in expected {
            assert!(said.contains(word), "{args:?} said `{said}`, not `{word}`");
        }
    }
    assert!(!other.exists(), "a refused search left a folder behind");
}
