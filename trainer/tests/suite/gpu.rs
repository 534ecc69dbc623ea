//! Training on a GPU, if `EFFICIENTTRAIN_TEST_GPU` says that there is one to test on. Out-of-memory
//! behavior is tested only on the emulated GPU (`.ci/pretend-gpu`), whose memory can be set.

use std::path::Path;
use std::process::{Command, Output};

use efficienttrain::config::{DeviceName, Interval};
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::inference::features::FeatureSet;
use efficienttrain_models::ops::cuda;

use crate::common::command::{accepted, text};
use crate::common::{config, options, run};

/// Memory of the emulated GPU, in MiB.
const MIB: &str = "EFFICIENTTRAIN_PRETEND_GPU_MIB";

fn there_is_one() -> bool {
    std::env::var_os("EFFICIENTTRAIN_TEST_GPU").is_some()
}

/// Runs the binary on an emulated GPU with this much memory.
fn within(mib: u64, args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_efficienttrain");
    Command::new(program).args(args).env(MIB, mib.to_string()).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Returns a column of a run's `steps.csv`.
fn column(out: &Path, name: &str) -> Vec<f64> {
    let table = std::fs::read_to_string(out.join("steps.csv")).unwrap();
    let mut lines = table.lines();
    let at = lines.next().unwrap().split(',').position(|column| column == name).unwrap();
    lines.map(|line| line.split(',').nth(at).unwrap().parse().unwrap()).collect()
}

#[test]
fn losses_follow_those_of_the_cpu() {
    if !there_is_one() {
        return;
    }
    let bce =
        ["train", "--model", "resnet10", "--eval-every", "100%", "--loss", "bce", "--bce-threshold", "0.2"];
    let mae = ["pretrain", "--model", "deit_tiny", "--decoder", "32x2x1"];
    let sixteen = ["--precision", "bf16"];
    for (args, precision, off) in [(&bce[..], &[][..], 1e-4), (&mae, &[], 1e-4), (&mae, &sixteen, 2e-2)] {
        let small = ["--synthetic-images", "16", "--recipe", "baseline", "--base-size", "32", "--batch", "4"];
        let more = ["--epochs", "1", "--log", "csv"];
        let losses = |device: &str, precision: &[&str]| {
            let dir = tempfile::tempdir().unwrap();
            let last = ["--device", device, "--out", text(dir.path())];
            accepted(&[args, &small, &more, &last, precision].concat());
            column(dir.path(), "loss")
        };
        let (want, got) = (losses("cpu", &[]), losses("cuda", precision));
        assert_eq!((want.len(), got.len()), (4, 4));
        for (want, got) in want.iter().zip(&got) {
            assert!((want - got).abs() < off * want, "{args:?} {precision:?}: {got}, on the CPU {want}");
        }
    }
}

#[test]
fn evaluation_prediction_and_features_are_those_of_the_cpu() {
    if !there_is_one() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let data = crate::common::image_folder(&at("data"), 3, 4);
    let trained =
        ["train", "--model", "resnet10", "--recipe", "baseline", "--base-size", "32", "--batch", "4"];
    accepted(&[&trained[..], &["--epochs", "1", "--data", text(&data), "--out", text(&at("run"))]].concat());
    let weights = at("run").join("model.safetensors");
    let json = |args: &[&str], device: &str| -> serde_json::Value {
        let common = ["--weights", text(&weights), "--device", device, "--batch", "5", "--json"];
        serde_json::from_str(&accepted(&[args, &common].concat())).unwrap()
    };
    let near = |a: &serde_json::Value, b: &serde_json::Value| {
        let off = (a.as_f64().unwrap() - b.as_f64().unwrap()).abs();
        assert!(off < 1e-4, "{a} and {b}");
    };
    let [cpu, gpu] = ["cpu", "cuda"].map(|device| json(&["eval", "--size", "48"], device));
    near(&gpu["loss"], &cpu["loss"]);
    assert_eq!(gpu["images"], cpu["images"]);
    let one = std::fs::read_dir(data.join("val/class0")).unwrap().next().unwrap().unwrap().path();
    let [cpu, gpu] = ["cpu", "cuda"].map(|device| json(&["predict", text(&one)], device));
    for (class, probability) in cpu["probabilities"].as_object().unwrap() {
        near(&gpu["probabilities"][class], probability);
    }
    let [cpu, gpu] = ["cpu", "cuda"].map(|device| {
        accepted(&["features", "--weights", text(&weights), "--device", device, "--out", text(&at(device))]);
        FeatureSet::load(&at(device).join("val.safetensors")).unwrap()
    });
    assert_eq!((gpu.labels, gpu.width), (cpu.labels, cpu.width));
    let off = gpu.features.iter().zip(&cpu.features).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-3, "features are off by {off}");
}

/// Returns the peak memory of a step with one pass, which is not recorded, in MiB.
fn peak(batch: u32) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        synthetic_images: 16,
        recipe: "baseline".into(),
        epochs: 1.0,
        base_size: 128,
        batch: batch.into(),
        ema_decay: Some(0.0),
        ..config("resnet10")
    };
    let device = DeviceName::Cuda(Some(0)).open().unwrap();
    cuda::reset_peak(&device).unwrap();
    let options = RunOptions {
        device: DeviceName::Cuda(Some(0)),
        stop_after: Some(1),
        eval_every: Interval::Percent(100.0),
        ..options(dir.path(), 1)
    };
    run(&config, options).train(&mut ()).unwrap();
    cuda::memory_in_use(&device).unwrap().1.div_ceil(1 << 20)
}

#[test]
fn a_small_memory_is_an_error_that_names_what_fits() {
    if !there_is_one() || std::env::var_os(MIB).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let fixed =
        ["train", "--device", "cuda", "--model", "resnet10", "--recipe", "baseline", "--base-size", "128"];
    let more =
        ["--synthetic-images", "16", "--epochs", "1", "--ema-decay", "0", "--eval-every", "100%", "--out"];
    let train = |mib: u64, out: &str, batch: &[&str]| {
        let out = dir.path().join(out);
        within(mib, &[&fixed[..], &more, &[text(&out)], batch].concat())
    };
    // Gradients of 4.9 million numbers stay between two passes.
    let (fits, too_large) = (peak(8) + 20, peak(16));
    assert!(fits + 4 < too_large, "{fits} MiB and {too_large} MiB are too near");
    let memory = u64::midpoint(fits, too_large);
    let failed = train(memory, "failed", &["--batch", "16"]);
    let message = said(&failed);
    assert!(!failed.status.success());
    for part in [
        "step 0: out of memory on cuda with a batch of 16 at 128 pixels",
        &format!("it has {memory} MiB"),
        "a batch of 8 fits (tried now with random images). Give --batch 8 --accumulation 2, ",
        "--checkpoint-activations",
        "--batch auto",
    ] {
        assert!(message.contains(part), "`{message}` does not say `{part}`");
    }
    // The suggestion works.
    let smaller = train(memory, "smaller", &["--batch", "8", "--accumulation", "2"]);
    assert!(smaller.status.success(), "{}", said(&smaller));
    let chosen = train(memory, "auto", &["--batch", "auto", "--stop-after", "1"]);
    let message = said(&chosen);
    assert!(chosen.status.success() && message.contains("size 128: 8 (images/s with 8: "), "{message}");

    // Less memory than the smallest batch size that is tried first.
    let tight = train(peak(8) - 6, "tight", &["--batch", "auto", "--stop-after", "1"]);
    let message = said(&tight);
    assert!(tight.status.success() && message.contains("size 128: 4 (images/s with 4: "), "{message}");
    // Less memory than the weights.
    let none = train(8, "none", &["--batch", "4"]);
    let message = said(&none);
    assert!(!none.status.success());
    assert!(
        message.contains("--device: not enough memory for weights") && message.contains("has 8 MiB"),
        "{message}"
    );
}
