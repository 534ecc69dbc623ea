//! Options from a file, `--set` and flags: precedence, errors, and repeating a run from its file.

use crate::common::Rendered;
use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use clap::{Args, Command};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::Interval;
use efficienttrain::config::{
    ConfigLayers, CropMethod, OptimizerName, RunOptions, TrainConfig, ValueOrigin, differences, to_toml,
};

fn refused(args: &[&str]) -> String {
    let out = efficienttrain(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stderr).unwrap()
}

/// Writes an options file for a run of a few steps.
fn options_file(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("run.toml");
    let options =
        "model = \"resnet10\"\nsynthetic-images = 48\nbase-size = 32\nbatch = 8\nepochs = 1\nlr = 0.001\n";
    std::fs::write(&path, options).unwrap();
    path
}

#[test]
fn a_later_layer_wins_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let file = options_file(dir.path());
    let printed = accepted(&[
        "train",
        "--config",
        text(&file),
        "--set",
        "epochs=2.5",
        "--batch",
        "4",
        "--print-config",
    ]);
    let line = |key: &str| {
        printed.lines().find(|l| l.starts_with(key)).unwrap_or_else(|| panic!("no {key} in {printed}"))
    };
    for (key, value, origin) in [
        ("base-size =", "= 32 ", "run.toml"),
        ("epochs =", "= 2.5 ", "# --set"),
        ("batch =", "= 4 ", "# flag"),
        ("seed =", "= 0 ", "# default"),
        ("# weight-decay =", "= 0.05 ", "# recipe resnet10-etpp"),
    ] {
        assert!(line(key).contains(value) && line(key).contains(origin), "{}", line(key));
    }
    let said = refused(&["train", "--set", "epochs=2", "--epochs", "3"]);
    assert!(said.contains("--epochs") && said.contains("--set epochs too"), "{said}");
    assert!(refused(&["train", "--set", "epochs=2", "--set", "epochs=3"]).contains("given twice"));
}

#[test]
fn what_is_printed_reads_back_as_it_was() {
    let config = TrainConfig {
        data: Some("a \"quoted\" folder".into()),
        epochs: 12.25,
        opt: Some(OptimizerName::Sgd),
        lr: Some(0.1),
        weight_decay: Some(1e-4),
        crop: CropMethod::Lanczos,
        stepwise_crop: true,
        seed: 1 << 40,
        ..TrainConfig::default()
    };
    let options =
        RunOptions { eval_every: Interval::Percent(12.5), workers: Some(3), ..RunOptions::default() };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), to_toml(&config, &options).unwrap()).unwrap();
    let read = ConfigLayers::new().file(file.path()).unwrap().resolve().unwrap();
    assert_eq!((&read.config, &read.options), (&config, &options));
    assert!(matches!(read.origins["crop"], ValueOrigin::File(_)));
    assert_eq!(read.origins["momentum"], ValueOrigin::Default);
    let changed = differences(&config, &TrainConfig { epochs: 1.0, ..config.clone() });
    assert_eq!(
        changed.iter().map(|d| (d.key.as_str(), d.ours.as_str(), d.theirs.as_str())).collect::<Vec<_>>(),
        [("epochs", "12.25", "1.0")]
    );
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_the_nearest_right_thing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    let missing = dir.path().join("missing.toml");
    let out = dir.path().join("out");
    let cases: &[(&str, &[&str])] = &[
        ("epoch = 3", &["wrong.toml: epoch:", "unknown key", "`epochs`"]),
        ("base_size = 64", &["base_size", "`base-size`"]),
        ("batch = \"many\"", &["wrong.toml: batch:", "many", "256,128,64"]),
        ("batch = -1", &["wrong.toml: batch:", "-1"]),
        ("lr = nan", &["wrong.toml: lr:", "finite"]),
        ("crop = \"lanzcos\"", &["wrong.toml: crop:", "lanzcos", "lanczos"]),
        ("eval-every = \"5\"", &["wrong.toml: eval-every:", "1ep"]),
        ("[optimiser]\nlr = 1", &["optimiser", "no sections"]),
        ("lr = ", &["wrong.toml", "line 1"]),
        ("lr = -0.5", &["--lr", "expected 0 to", "-0.5", "the value is from", "wrong.toml"]),
        ("momentum = 0.8", &["--momentum", "AdamW", "--opt sgd"]),
        ("replay-batches = 8", &["--replay-batches", "--replay"]),
        ("magnitude = 9\nauto-augment = \"none\"", &["--magnitude", "--auto-augment"]),
        ("replay = 2\nrecipe = \"baseline\"", &["--replay", "--recipe"]),
        ("opt = \"sgd\"", &["--opt", "--lr and --weight-decay"]),
        ("recipe = \"resnet18-etp\"", &["resnet18-etpp"]),
    ];
    // None of these may read the data, which does not exist.
    for (options, expected) in cases {
        std::fs::write(&file, options).unwrap();
        let said = refused(&["train", "--config", text(&file), "--data", "/nowhere", "--out", text(&out)]);
        for word in *expected {
            assert!(said.contains(word), "`{options}` said `{said}`, not `{word}`");
        }
    }
    let said = refused(&["train", "--config", text(&missing)]);
    assert!(said.contains("missing.toml"), "{said}");
    assert!(refused(&["train", "--set", "epochs"]).contains("KEY=VALUE"));
    assert!(refused(&["train", "--set", "sead=1"]).contains("`seed`"));
    assert!(refused(&["train", "--set", "seed=one"]).contains("--set seed"));
    assert!(!out.exists());
}

#[test]
fn a_run_is_repeated_from_the_file_it_left_and_goes_on_with_allowed_changes_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = options_file(dir.path());
    let out = |name: &str| dir.path().join(name);
    let weights = |name: &str| {
        let tensors = Checkpoint::open(&out(name).join("model.safetensors")).unwrap().weights(false).unwrap();
        let of = |t: &candle_core::Tensor| {
            let values =
                t.to_dtype(candle_core::DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            values.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        };
        let mut named: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), of(t))).collect();
        named.sort();
        named
    };
    let first = out("first");
    accepted(&["train", "--config", text(&file), "--set", "seed=5", "--out", text(&first)]);
    let left = first.join("config.toml");
    accepted(&["train", "--config", text(&left), "--out", text(&out("second"))]);
    assert_eq!(weights("first"), weights("second"));
    accepted(&["train", "--config", text(&left), "--seed", "6", "--out", text(&out("third"))]);
    assert_ne!(weights("first"), weights("third"));

    let half = out("half");
    accepted(&["train", "--config", text(&file), "--out", text(&half), "--stop-after", "2"]);
    let resume = ["train", "--config", text(&left), "--out", text(&half), "--resume", "--lr", "0.002"];
    let said = refused(&resume);
    assert!(
        said.contains("--seed 5 (the run has 0)") && said.contains("--lr 0.002 (the run has 0.001)"),
        "{said}"
    );
    assert!(!said.contains("--epochs"), "{said}");
    let said = refused(&[&resume[..], &["--allow-change", "lr"]].concat());
    assert!(said.contains("--seed") && !said.contains("--lr"), "{said}");
    accepted(&[&resume[..], &["--allow-change", "lr,seed"]].concat());
    let ended = Checkpoint::open(&half.join("last.safetensors")).unwrap();
    assert_eq!(ended.run().unwrap().config.lr, Some(0.002));
}

#[test]
fn a_dry_run_prints_plan_and_forecast_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = options_file(dir.path());
    let out = dir.path().join("out");
    let said = accepted(&["train", "--config", text(&file), "--out", text(&out), "--dry-run"]);
    for word in ["compute epochs", "GMACs", "memory: at most", "; checkpoint:", "time:", "evaluations"] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    // 4.9 M parameters with two moments, four bytes each.
    assert!(said.contains("4.91 M parameters") && said.contains("; checkpoint: 56 MiB"), "{said}");
    assert!(!out.exists());
}

#[test]
fn recipes_are_listed_with_their_origin() {
    let said = accepted(&["recipes"]);
    let line = said.lines().find(|l| l.starts_with("deit-small-etpp ")).unwrap();
    assert!(line.contains("authors' launcher") && line.contains("96, 160, 192, 224"), "{line}");
    assert!(said.lines().any(|l| l.starts_with("resnet10-baseline") && l.contains("this project")));
    let json: serde_json::Value = serde_json::from_str(&accepted(&["recipes", "swin", "--json"])).unwrap();
    assert!(json.as_array().unwrap().iter().all(|r| r["model"].as_str().unwrap().contains("swin")));
}

/// `--set` accepts the values of the flag, and so does a file if they are written as text.
#[test]
fn values_of_set_are_those_of_the_flags() {
    let cases: &[(&str, &[&str])] = &[
        ("lr", &[".001", "1.", "1e-3", "+0.5", "05"]),
        ("epochs", &["05", "5", "5.50", ".5"]),
        ("freeze", &["conv1.*", "conv1.*,layer1.*", "*"]),
        ("batch", &["8", "08", "256,128,64", "recipe"]),
        ("images-per-class", &["50", "50@3", "007"]),
        ("warmup", &["0st", "5%", "20ep"]),
        ("eval-every", &["500st"]),
        ("lr-step-every", &["10%"]),
        ("opt", &["adamw", "lamb", "sgd"]),
        ("lr-curve", &["cosine", "step"]),
        ("lr-scaling", &["none", "sqrt"]),
        ("loss", &["bce", "cross-entropy"]),
        ("precision", &["bf16"]),
        ("on-nonfinite", &["lower-lr"]),
        ("on-bad-numbers", &["lower-lr"]),
        ("auto-augment", &["3a", "none", "rand-m9-mstd0.5-inc1"]),
        ("magnitude", &["9", "0-9", "2.5-07", "0"]),
        ("log", &["csv", "csv,tensorboard"]),
        ("view", &["full"]),
        ("device", &["cpu"]),
        ("target", &["hog", "normalized-pixels", "normalised-pixels"]),
        ("decoder", &["256x8x4"]),
        ("mask-ratio", &[".5"]),
        ("crop", &["lanczos"]),
        ("order", &["augment-then-crop"]),
        ("seed", &["007", "18446744073709551615"]),
        ("workers", &["02"]),
        ("checkpoint-minutes", &[".5"]),
        ("keep-last", &["3"]),
        ("stop-after", &["010"]),
        ("data", &["2024", "true", "a=b", "1e3", "./a b"]),
        ("out", &["2024-01-01", "[x]"]),
        ("model", &["true", "resnet10"]),
        ("ema-warmup", &["true", "false"]),
    ];
    let command = RunOptions::augment_args(TrainConfig::augment_args(Command::new("train")));
    for (key, texts) in cases {
        for text in *texts {
            let flag = format!("--{key}={text}");
            let matches = command.clone().try_get_matches_from(["train", &flag]).unwrap();
            let by_flag = ConfigLayers::new().flags(&matches).unwrap().resolve().unwrap();
            let by_set = ConfigLayers::new().set(&format!("{key}={text}"));
            let by_set = by_set.unwrap_or_else(|e| panic!("{flag}: {e}")).resolve().unwrap();
            assert_eq!((&by_set.config, &by_set.options), (&by_flag.config, &by_flag.options), "{flag}");
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("options.toml");
            std::fs::write(&file, format!("{key} = {text:?}")).unwrap();
            let by_file = ConfigLayers::new().file(&file);
            let by_file = by_file.unwrap_or_else(|e| panic!("{flag}: {e}")).resolve().unwrap();
            assert_eq!((&by_file.config, &by_file.options), (&by_flag.config, &by_flag.options), "{flag}");
        }
    }
    // The file syntax works too.
    let written =
        ConfigLayers::new().set("freeze=[\"a.*\", \"b.*\"]").unwrap().set("model=\"resnet10\"").unwrap();
    let config = written.set("init-ema=true").unwrap().resolve().unwrap().config;
    assert_eq!(config.freeze, ["a.*", "b.*"]);
    assert_eq!((config.model.as_deref(), config.init_ema), (Some("resnet10"), true));
    for wrong in
        ["lr=fast", "lr=nan", "lr=inf", "epochs=", "opt=adam", "init-ema=maybe", "seed=-1", "batch=0"]
    {
        let key = wrong.split('=').next().unwrap();
        let said = ConfigLayers::new().set(wrong).unwrap_err().rendered();
        assert!(said.contains(&format!("--set {key}")), "{wrong}: {said}");
    }
}
