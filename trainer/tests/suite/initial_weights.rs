//! Initial weights of a run: heads by class names, non-finite weights, averages and moments that an
//! earlier run did not have.

use crate::common::Rendered;
use std::path::{Path, PathBuf};

use crate::common::command::{efficienttrain, text};
use crate::common::{config, image_folder, options, run};
use candle_core::{Device, Tensor};
use efficienttrain::checkpoint::{Checkpoint, LAST};
use efficienttrain::config::{OptimizerName, RunOptions, TrainConfig};
use efficienttrain::training::warmed_decay;
use efficienttrain::{Run, Sources};

/// Writes a set with classes of these names.
fn set_of(dir: &Path, classes: &[&str]) -> PathBuf {
    image_folder(dir, classes.len(), 4);
    for split in ["train", "val"] {
        for (i, class) in classes.iter().enumerate() {
            let folder = dir.join(split);
            std::fs::rename(folder.join(format!("class{i}")), folder.join(class)).unwrap();
        }
    }
    dir.into()
}

fn on(data: PathBuf) -> TrainConfig {
    TrainConfig {
        data: Some(data),
        recipe: "baseline".into(),
        batch: 4.into(),
        epochs: 0.5,
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ..config("resnet10")
    }
}

fn rows(run: &Run) -> Vec<Vec<f32>> {
    let weight = run.state.params.by_name("fc.weight").unwrap().to_vec2::<f32>().unwrap();
    let bias = run.state.params.by_name("fc.bias").unwrap().to_vec1::<f32>().unwrap();
    weight.into_iter().zip(bias).map(|(row, bias)| [row, vec![bias]].concat()).collect()
}

fn remarks(run: &Run) -> String {
    run.remarks().collect::<Vec<_>>().join("\n").rendered()
}

#[test]
fn rows_of_the_head_follow_the_names_of_their_classes() {
    let dir = tempfile::tempdir().unwrap();
    let first = on(set_of(&dir.path().join("first"), &["a", "b", "c", "d"]));
    let mut trained = run(&first, options(&dir.path().join("run"), 1));
    trained.train(&mut ()).unwrap();
    let known = rows(&trained);
    for weights in ["model.safetensors", LAST] {
        let weights = dir.path().join("run").join(weights);
        let begin = |name: &str, classes: &[&str], with: Option<PathBuf>| {
            let folder = dir.path().join(name);
            let data = if folder.exists() { folder } else { set_of(&folder, classes) };
            let config = TrainConfig { init: with, seed: 99, ..on(data) };
            run(&config, options(&dir.path().join("unused"), 1))
        };
        // The same number of classes, one of which is different.
        let classes = ["b", "c", "d", "z"];
        let (begun, drawn) =
            (begin("other", &classes, Some(weights.clone())), begin("other", &classes, None));
        let expected = [&known[1], &known[2], &known[3], &rows(&drawn)[3]].map(Clone::clone);
        assert_eq!(rows(&begun), expected);
        let ema = begun.state.ema.as_ref().unwrap().by_name("fc.weight").unwrap();
        assert_eq!(ema.to_vec2::<f32>().unwrap()[0], known[1][..known[1].len() - 1]);
        let told = remarks(&begun);
        assert!(told.contains("3 of its 4 rows") && told.contains("randomly initialized: z"), "{told}");
        // More classes, and fewer.
        let begun = begin("more", &["a", "aa", "b", "c", "d"], Some(weights.clone()));
        let more = rows(&begun);
        assert_eq!([&more[0], &more[2], &more[3], &more[4]], [&known[0], &known[1], &known[2], &known[3]]);
        assert_eq!(
            rows(&begin("fewer", &["b", "d"], Some(weights.clone()))),
            [known[1].clone(), known[3].clone()]
        );
        // No common class, and the same classes.
        let classes = ["w", "x", "y", "z"];
        let (begun, drawn) = (begin("none", &classes, Some(weights.clone())), begin("none", &classes, None));
        assert_eq!(rows(&begun), rows(&drawn));
        let begun = begin("first", &["a", "b", "c", "d"], Some(weights));
        assert_eq!((rows(&begun), remarks(&begun).as_str()), (known.clone(), ""));
    }
}

#[test]
fn weights_that_are_not_finite_are_named_where_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let first = on(set_of(&dir.path().join("data"), &["a", "b"]));
    let mut trained = run(&first, options(&dir.path().join("run"), 1));
    trained.train(&mut ()).unwrap();
    let (weights, broken) = (dir.path().join("run").join(LAST), dir.path().join("broken.safetensors"));
    let broken_by = |value: f32| {
        let saved = Checkpoint::open(&weights).unwrap();
        let mut tensors: Vec<(String, Tensor)> = saved.weights(false).unwrap().into_iter().collect();
        let (_, bias) = tensors.iter_mut().find(|(name, _)| name == "layer2.0.bn1.bias").unwrap();
        let mut values = bias.to_vec1::<f32>().unwrap();
        values[3] = value;
        *bias = Tensor::new(values, &Device::Cpu).unwrap();
        candle_core::safetensors::save(&tensors.into_iter().collect(), &broken).unwrap();
    };
    for value in [f32::NAN, f32::NEG_INFINITY, f32::INFINITY] {
        broken_by(value);
        let config = TrainConfig { init: Some(broken.clone()), ..first.clone() };
        let begun = Run::new(config.clone(), options(dir.path(), 1), Sources::open(&config).unwrap());
        let message = begun.unwrap_err().rendered();
        for part in ["broken.safetensors", "`layer2.0.bn1.bias` has 1 of 128 values", "not finite"] {
            assert!(message.contains(part), "no `{part}` in {message}");
        }
    }
    let features = dir.path().join("features");
    let data = dir.path().join("data");
    let read = ["features", "--weights", text(&broken), "--model", "resnet10", "--size", "32"];
    let out = efficienttrain(&[&read[..], &["--data", text(&data), "--out", text(&features)]].concat());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(said.contains("warning") && said.contains("`layer2.0.bn1.bias`"), "{said}");
    let out = efficienttrain(&["probe", text(&features)]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("8 images with non-finite features"), "{said}");
}

/// Stops a run in its middle and resumes it with `then`.
fn resumed(out: &Path, first: &TrainConfig, then: &TrainConfig) -> Run {
    let mut stopped = run(first, RunOptions { stop_after: Some(3), ..options(out, 1) });
    stopped.train(&mut ()).unwrap();
    let saved = Checkpoint::open(&out.join(LAST)).unwrap();
    Run::resume_as(&saved, then.clone(), options(out, 1), Sources::open(then).unwrap()).unwrap()
}

fn baseline(ema_decay: f64) -> TrainConfig {
    TrainConfig { recipe: "baseline".into(), ema_decay: Some(ema_decay), ..config("resnet10") }
}

#[test]
fn an_average_or_moments_that_the_run_did_not_keep_begin_anew() {
    let dir = tempfile::tempdir().unwrap();
    let values = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut run = resumed(dir.path(), &baseline(0.0), &baseline(0.9));
    for (name, tensor) in run.state.params.iter().filter(|(name, _)| !name.ends_with("tracked")) {
        assert_eq!(values(run.state.ema.as_ref().unwrap().by_name(name).unwrap()), values(tensor), "{name}");
    }
    assert!(remarks(&run).contains("no moving average so far"), "{}", remarks(&run));
    assert!(run.train(&mut ()).unwrap() && run.history.last().unwrap().ema_top1.is_some());
    // In the other direction it is dropped, with a note.
    let run = resumed(dir.path(), &baseline(0.9), &baseline(0.0));
    assert!(run.state.ema.is_none() && remarks(&run).contains("dropped"), "{}", remarks(&run));

    let sgd = TrainConfig {
        opt: Some(OptimizerName::Sgd),
        lr: Some(0.01),
        weight_decay: Some(1e-4),
        ..baseline(0.9)
    };
    let lamb = TrainConfig { opt: Some(OptimizerName::Lamb), ..sgd.clone() };
    for then in [sgd, lamb] {
        let mut run = resumed(dir.path(), &baseline(0.9), &then);
        assert!(remarks(&run).contains("start at zero"), "{}", remarks(&run));
        assert_eq!(run.state.optimizer.steps, 0);
        let moments = run.state.optimizer.moments.iter().flat_map(|(_, store)| store.iter());
        let moments = moments.filter(|(name, _)| !name.contains("tracked"));
        assert!(moments.flat_map(|(_, t)| values(t)).all(|m| m == 0.0));
        assert!(run.train(&mut ()).unwrap());
    }
    // Other changes keep both.
    let run = resumed(dir.path(), &baseline(0.9), &baseline(0.8));
    assert_eq!((run.state.optimizer.steps, run.state.ema_updates, remarks(&run).as_str()), (3, 3, ""));
}

/// Compares the average of every step with its formula.
#[test]
fn a_warmed_up_average_is_that_of_its_decays() {
    let dir = tempfile::tempdir().unwrap();
    let warmed = TrainConfig { ema_warmup: true, epochs: 1.0, ..baseline(0.6) };
    let (mut expected, mut step) = (0.0, 0);
    let mut average = 0.0;
    let one = |params: &efficienttrain_models::ParamStore| {
        f64::from(params.by_name("fc.bias").unwrap().to_vec1::<f32>().unwrap()[1])
    };
    // Stops after every step, to test the state of the warm-up in checkpoints.
    let mut current = run(&warmed, RunOptions { stop_after: Some(1), ..options(dir.path(), 1) });
    while current.step() < current.total_steps() {
        current.train(&mut ()).unwrap();
        let decay = [0.0, 1.0 - 2f64.powf(-2.0 / 3.0), 1.0 - 3f64.powf(-2.0 / 3.0), 0.6].get(step).copied();
        let decay = decay.unwrap_or(0.6);
        assert_eq!(decay, warmed_decay(0.6, step as u64));
        expected = decay * expected + (1.0 - decay) * one(&current.state.params);
        average = one(current.state.ema.as_ref().unwrap());
        assert!((average - expected).abs() < 1e-7, "step {step}: {average} instead of {expected}");
        step += 1;
        let saved = Checkpoint::open(&dir.path().join(LAST)).unwrap();
        let o = RunOptions { stop_after: Some(step as u64 + 1), ..options(dir.path(), 1) };
        current = Run::resume(&saved, o, Sources::open(&warmed).unwrap()).unwrap();
    }
    assert!(step > 5 && average != 0.0);
}

#[test]
fn fine_tuning_warms_its_average_up_unless_told_otherwise() {
    let dir = tempfile::tempdir().unwrap();
    let data = set_of(&dir.path().join("data"), &["a", "b"]);
    let mut trained = run(&on(data.clone()), options(&dir.path().join("run"), 1));
    trained.train(&mut ()).unwrap();
    let weights = dir.path().join("run/model.safetensors");
    let printed = |command: &str, more: &[&str]| {
        let args = [command, "--init", text(&weights), "--data", text(&data), "--print-config"];
        let said = crate::common::command::accepted(&[&args[..], more].concat());
        said.lines().find(|line| line.starts_with("ema-warmup")).unwrap().to_string()
    };
    assert!(printed("finetune", &[]).starts_with("ema-warmup = true"));
    assert!(printed("finetune", &["--ema-warmup=false"]).starts_with("ema-warmup = false"));
    assert!(printed("train", &[]).starts_with("ema-warmup = false"));
    assert!(printed("train", &["--ema-warmup"]).starts_with("ema-warmup = true"));
    assert!(printed("train", &["--set", "ema-warmup=true"]).starts_with("ema-warmup = true"));
}
