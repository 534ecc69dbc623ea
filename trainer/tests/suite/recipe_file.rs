//! Recipes from files: the same run as by name, base size and batches from the file, and errors of
//! invalid files.

use std::path::Path;

use crate::common::command::{accepted, efficienttrain, text};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain_schedule::{Plan, PlanOptions, Preset, Recipe};

fn refused(args: &[&str]) -> String {
    let out = efficienttrain(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    String::from_utf8(out.stderr).unwrap()
}

/// Returns the weights of a run as bits.
fn weights(out: &Path) -> Vec<(String, Vec<u32>)> {
    let tensors = Checkpoint::open(&out.join("model.safetensors")).unwrap().weights(false).unwrap();
    let bits = |t: &candle_core::Tensor| {
        let values =
            t.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        values.into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let mut named: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), bits(t))).collect();
    named.sort();
    named
}

const RUN: [&str; 9] =
    ["train", "--synthetic-images", "48", "--epochs", "0.6", "--lr", "1e-3", "--eval-every", "100%"];

#[test]
fn a_recipe_from_a_file_trains_as_the_one_of_that_name() {
    let dir = tempfile::tempdir().unwrap();
    let (by_name, by_file) = (dir.path().join("name"), dir.path().join("file"));
    let size = ["--base-size", "32", "--batch", "8"];
    let named = ["--model", "resnet10", "--recipe", "half-96", "--out", text(&by_name)];
    accepted(&[&RUN[..], &size, &named].concat());

    // A list with only the recipe, as printed by `recipes`.
    let file = dir.path().join("half.json");
    std::fs::write(&file, accepted(&["recipes", "resnet10-half-96", "--json"])).unwrap();
    let filed = ["--recipe", text(&file), "--out", text(&by_file)];
    accepted(&[&RUN[..], &size, &filed, &["--stop-after", "2"]].concat());
    // The run contains the recipe: neither resuming nor repeating it needs the file.
    std::fs::remove_file(&file).unwrap();
    accepted(&["train", "--resume", "--out", text(&by_file)]);
    assert!(weights(&by_name) == weights(&by_file));
    let again = dir.path().join("again");
    accepted(&["train", "--config", text(&by_file.join("config.toml")), "--out", text(&again)]);
    assert!(weights(&by_name) == weights(&again));
}

#[test]
fn every_preset_is_a_recipe_of_train() {
    let names = Preset::ALL.iter().map(|preset| preset.suffix()).filter(|name| *name != "etpp-replay");
    for name in names.chain(["none"]) {
        accepted(&["train", "--model", "resnet18", "--recipe", name, "--print-config"]);
    }
}

/// Writes a recipe at 40 pixels with its own batches, as JSON and as TOML.
fn own_recipe(dir: &Path) -> [std::path::PathBuf; 2] {
    let mut recipe = Recipe::named("resnet10-half-96").unwrap().at_base_size(40, 1).unwrap();
    recipe.name = "mine".into();
    recipe.curriculum.stages[0].batch_per_device = 12;
    recipe.curriculum.stages[1].batch_per_device = 6;
    let (json, toml) = (dir.join("mine.json"), dir.join("mine.TOML"));
    std::fs::write(&json, recipe.to_json().unwrap()).unwrap();
    std::fs::write(&toml, toml::to_string(&recipe).unwrap()).unwrap();
    [json, toml]
}

#[test]
fn a_file_gives_base_size_and_batches_where_they_are_not_set() {
    let dir = tempfile::tempdir().unwrap();
    let [json, toml] = own_recipe(dir.path());
    let recipe = Recipe::from_json(&std::fs::read_to_string(&json).unwrap()).unwrap();
    let sizes: Vec<u32> = recipe.curriculum.stages.iter().map(|stage| stage.size).collect();
    assert_eq!(sizes, [17, 40]);
    for file in [json, toml] {
        let out = dir.path().join("run");
        accepted(&[&RUN[..], &["--recipe", text(&file), "--out", text(&out)]].concat());
        let saved = Checkpoint::open(&out.join("last.safetensors")).unwrap();
        let record = saved.run().unwrap();
        assert_eq!((record.base_size, record.model.as_str()), (40, "resnet10"));
        let mut options = PlanOptions::new(0.6, 48, 1);
        options.equivalent_epochs = 0.6;
        assert_eq!(record.step, Plan::new(&recipe, options).unwrap().total_steps());
        std::fs::remove_dir_all(&out).unwrap();

        let printed = accepted(&["train", "--recipe", text(&file), "--print-config"]);
        let line = |key: &str| printed.lines().find(|l| l.starts_with(key)).unwrap().to_string();
        assert!(line("base-size =").contains("= 40 ") && line("base-size =").contains("recipe mine"));
        assert!(line("batch =").contains("\"recipe\""), "{}", line("batch ="));
        let given = ["--base-size", "80", "--batch", "16", "--print-config"];
        let printed = accepted(&[&["train", "--recipe", text(&file)], &given[..]].concat());
        assert!(printed.contains("base-size = 80 ") && printed.contains("batch = 16 "), "{printed}");
        let plan = accepted(&["plan", "--recipe", text(&file), "--train-images", "480", "--devices", "1"]);
        assert!(plan.lines().nth(1).unwrap().trim_start().starts_with("17 "), "{plan}");
    }
}

#[test]
fn a_wrong_file_is_named_with_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let [json, toml] = own_recipe(dir.path());
    let (json_text, toml_text) =
        (std::fs::read_to_string(&json).unwrap(), std::fs::read_to_string(&toml).unwrap());
    let list = accepted(&["recipes", "resnet10", "--json"]);
    let cases: Vec<(&Path, String, &[&str])> = vec![
        (&json, json_text.replace("\"share\"", "\"shar\""), &["shar", "share", "line"]),
        (&json, json_text.replace("\"share\": 0.5", "\"share\": -0.5"), &["stages[0].share", "-0.5"]),
        (&json, json_text.replace("\"lr\"", "\"learning\""), &["learning"]),
        (&json, "{}".into(), &["name"]),
        (&json, "[]".into(), &["list of 0"]),
        (&json, list, &["list of"]),
        (&toml, toml_text.replace("base_size = 40", "base_size = \"large\""), &["base_size", "large"]),
        (&toml, toml_text.replace("family", "familie"), &["familie"]),
        (&toml, "name =".into(), &["line 1"]),
    ];
    for (file, content, expected) in cases {
        std::fs::write(file, &content).unwrap();
        for args in [["train", "--recipe", text(file)], ["plan", "--recipe", text(file)]] {
            let said = refused(&args);
            let name = file.file_name().unwrap().to_str().unwrap();
            for word in expected.iter().chain([&name]) {
                assert!(said.contains(word), "{args:?} said `{said}`, not `{word}`");
            }
        }
    }
    assert!(refused(&["train", "--recipe", "no-such.json"]).contains("no-such.json"));
}

#[test]
fn one_batch_a_size() {
    let dir = tempfile::tempdir().unwrap();
    let run = ["--model", "resnet10", "--recipe", "half-96", "--base-size", "32", "--out"];
    let out = dir.path().join("run");
    accepted(&[&RUN[..], &run, &[text(&out), "--batch", "16,8"]].concat());
    let log = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    let start: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    let stages = start["plan"]["stages"].as_array().unwrap();
    let batches: Vec<u64> = stages.iter().map(|s| s["batch_per_device"].as_u64().unwrap()).collect();
    assert_eq!(batches, [16, 8]);
    let said = refused(&[&RUN[..], &run, &[text(&dir.path().join("other")), "--batch", "16,8,4"]].concat());
    assert!(said.contains("--batch") && said.contains("16, 32"), "{said}");
}
