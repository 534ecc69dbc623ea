//! Images with several labels, or none.

use std::path::{Path, PathBuf};

use crate::common::command::{accepted, efficienttrain, text};
use crate::common::{bits, config, image_folder, options, run};
use crate::ranks::same_on;
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::{
    Interval, LogFormat, LossName, PolicyName, RunOptions, SamplerName, TrainConfig,
};
use efficienttrain::data::{Source, is_multi_label};
use efficienttrain::experiments::compare::{Comparison, Contestant, to_markdown};
use efficienttrain::{Run, Sources};
use image::{Rgb, RgbImage};

/// Writes lists of images with two independent labels: `red` ones have a red ground, `striped` ones
/// vertical stripes. A quarter has both, a quarter neither.
fn listed(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    for (split, count) in [("train", 48u32), ("val", 24)] {
        let folder = data.join(split);
        std::fs::create_dir_all(&folder).unwrap();
        let mut rows = String::from("path,labels\n");
        for i in 0..count {
            let (red, striped) = (i % 2 == 0, i / 2 % 2 == 0);
            let shade = (i * 37 % 50) as u8;
            let image = RgbImage::from_fn(32, 32, |x, y| {
                let lit = if striped { x / 4 % 2 == 0 } else { y / 4 % 2 == 0 };
                let light = if lit { 80 } else { 0 };
                let ground = if red { [150, 20, 20] } else { [20, 20, 150] };
                Rgb(ground.map(|value: u8| value + light + shade / 2))
            });
            image.save(folder.join(format!("{i}.png"))).unwrap();
            let labels = [("red", red), ("striped", striped)];
            let labels: Vec<&str> = labels.iter().filter(|(_, has)| *has).map(|(name, _)| *name).collect();
            // Both separators, and labels in any order.
            let cell = if i % 8 == 0 { "striped;red".into() } else { labels.join("|") };
            rows += &format!("{split}/{i}.png,{cell}\n");
        }
        std::fs::write(data.join(format!("{split}.csv")), rows).unwrap();
    }
    data
}

fn of(data: &Path) -> TrainConfig {
    TrainConfig {
        data: Some(data.into()),
        multi_label: true,
        loss: LossName::Bce,
        batch: 8.into(),
        epochs: 6.0,
        recipe: "baseline".into(),
        lr: Some(4e-3),
        auto_augment: Some("none".parse::<PolicyName>().unwrap()),
        mixup: Some(0.0),
        cutmix: Some(0.0),
        erasing: Some(0.0),
        min_crop_area: 0.6,
        ..config("resnet10")
    }
}

/// A short run with mixing and replay, for which only its course matters.
fn short(data: &Path) -> TrainConfig {
    TrainConfig {
        recipe: "etpp".into(),
        epochs: 2.0,
        mixup: Some(0.8),
        cutmix: Some(1.0),
        replay: Some(2),
        replay_batches: Some(2),
        ..of(data)
    }
}

#[test]
fn lists_have_any_number_of_labels_and_so_have_their_parts() {
    let dir = tempfile::tempdir().unwrap();
    let data = listed(dir.path());
    let sources = Sources::open(&of(&data)).unwrap();
    assert_eq!(sources.train.classes(), ["red", "striped"]);
    let of_first = |set: &dyn Source| (0..4).map(|i| set.label_set(i).unwrap().to_vec()).collect::<Vec<_>>();
    for set in [&sources.train, &sources.val] {
        assert_eq!(of_first(&**set), [vec![0, 1], vec![1], vec![0], vec![]]);
    }
    // Without the option, a cell is a name.
    let plain = TrainConfig { multi_label: false, loss: LossName::CrossEntropy, ..of(&data) };
    let error = Sources::open(&plain).unwrap_err().to_string();
    assert!(error.contains("line 5: has no label") && error.contains("multi-label"), "{error}");
    std::fs::remove_file(data.join("val.csv")).unwrap();
    std::fs::remove_dir_all(data.join("val")).unwrap();
    let parts = Sources::open(&TrainConfig { val_share: Some(0.25), ..of(&data) }).unwrap();
    assert_eq!((parts.train.len(), parts.val.len()), (36, 12));
    for labels in [&[0, 1][..], &[1], &[0], &[]] {
        let count = |set: &dyn Source| (0..set.len()).filter(|&i| set.label_set(i) == Some(labels)).count();
        assert!(count(&*parts.val) >= 2 && count(&*parts.train) >= 6, "{labels:?}");
    }
}

#[test]
fn a_run_learns_both_labels_and_its_commands_speak_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (data, out) = (listed(dir.path()), dir.path().join("run"));
    let given =
        RunOptions { log: vec![LogFormat::Csv], eval_every: Interval::Percent(50.0), ..options(&out, 2) };
    let mut trained = run(&of(&data), given.clone());
    let remarks: Vec<String> = trained.remarks().collect();
    assert!(remarks.iter().any(|r| r.contains("1.00 labels per training image")), "{remarks:?}");
    assert!(remarks.iter().any(|r| r.contains("12 of 48 have none")), "{remarks:?}");
    let mut logs = efficienttrain::observe::log::open(trained.config(), trained.options(), 0).unwrap();
    trained.train(&mut logs).unwrap();
    let last = trained.history.last().unwrap().clone();
    let several = last.multi_label.unwrap();
    assert!(several.map > 0.95 && several.macro_f1 > 0.8, "{several:?}");
    assert_eq!(last.score(), several.map.max(several.ema_map.unwrap()));
    let lines = efficienttrain::observe::progress::lines(&efficienttrain::events::Event::Eval(last.clone()));
    assert!(lines[0].contains("mAP") && !lines[0].contains("top-1"), "{lines:?}");
    let table = std::fs::read_to_string(out.join("evals.csv")).unwrap();
    assert!(table.lines().next().unwrap().ends_with("ema_top1,map,ema_map,micro_f1,macro_f1"), "{table}");
    assert_eq!(table.lines().count(), 1 + trained.history.evals.len());

    let weights = out.join("last.safetensors");
    let (weights, per_class) = (text(&weights), dir.path().join("classes.csv"));
    let said = accepted(&["eval", "--weights", weights, "--json", "--per-class", text(&per_class)]);
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    // The same images, preprocessing and weights as at the end of the run.
    assert_eq!(said["multi_label"]["map"].as_f64(), Some(several.map));
    assert_eq!((said["loss"].as_f64(), said["images"].as_u64()), (Some(last.loss), Some(24)));
    let rows = std::fs::read_to_string(&per_class).unwrap();
    let head = "class,positives,predicted,correct,average_precision,precision,recall,f1";
    assert!(rows.starts_with(head) && rows.contains("\nred,12,") && rows.contains("\nstriped,12,"), "{rows}");
    assert!(accepted(&["eval", "--weights", weights]).contains("mAP"));

    let image = |i: usize| data.join(format!("val/{i}.png"));
    let predict = |arguments: &[&str]| accepted(&[&["predict", "--weights", weights], arguments].concat());
    let said = predict(&["--json", text(&image(0)), text(&image(3))]);
    let lines: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["classes"].as_array().unwrap().len(), 2, "{said}");
    assert_eq!(lines[1]["classes"].as_array().unwrap().len(), 0, "{said}");
    assert_eq!(lines[1]["probabilities"].as_object().unwrap().len(), 2);
    let both = predict(&[text(&image(0))]);
    assert!(both.contains("red") && both.contains("striped"), "{both}");
    assert!(predict(&[text(&image(3))]).contains("no class above 50%"));
    assert_eq!(predict(&["--threshold", "0", text(&image(3))]).lines().count(), 3);
    assert_eq!(predict(&["--top", "1", text(&image(3))]).lines().count(), 2);
    assert_eq!(predict(&["--csv", "--threshold", "0.5", text(&image(3))]).lines().count(), 1);
    let onnx = dir.path().join("model.onnx");
    accepted(&["export", "--weights", weights, "--out", text(&onnx), "--sigmoid"]);
    let bytes = std::fs::read(&onnx).unwrap();
    assert!(["Sigmoid", "multi_label"].iter().all(|t| memchr::memmem::find(&bytes, t.as_bytes()).is_some()));
    let refused = |arguments: &[&str]| {
        let output = efficienttrain(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let other = dir.path().join("other.onnx");
    let softmax = refused(&["export", "--weights", weights, "--out", text(&other), "--softmax"]);
    assert!(softmax.contains("--sigmoid") && !other.exists(), "{softmax}");
    let matrix = refused(&["eval", "--weights", weights, "--confusion", text(&other)]);
    assert!(matrix.contains("--confusion"), "{matrix}");
    let features = refused(&["features", "--weights", weights, "--out", text(&dir.path().join("features"))]);
    assert!(features.contains("one label an image"), "{features}");
    let folders = image_folder(&dir.path().join("folders"), 2, 1);
    let eval = refused(&["eval", "--weights", weights, "--data", text(&folders)]);
    assert!(eval.contains("--multi-label: image folders have one label"), "{eval}");
    let page = dir.path().join("report.html");
    accepted(&["report", text(&out), "--images", "0", "--out", text(&page)]);
    let page = std::fs::read_to_string(&page).unwrap();
    assert!(page.contains("<th class=n>mAP</th>") && page.contains("Mean average precision"), "{page}");
    assert!(page.contains("binary cross entropy") && !page.contains("op-1"), "{page}");
}

#[test]
fn a_run_is_the_same_after_a_stop_and_on_two_ranks() {
    let dir = tempfile::tempdir().unwrap();
    let data = listed(dir.path());
    let whole = {
        let mut whole = run(&short(&data), options(&dir.path().join("whole"), 2));
        whole.train(&mut ()).unwrap();
        (bits(&whole), whole.history.evals.iter().map(|e| (e.step, e.multi_label)).collect::<Vec<_>>())
    };
    let folder = dir.path().join("parts");
    let given = RunOptions { stop_after: Some(5), cache_mib: 1, ..options(&folder, 1) };
    assert!(!run(&short(&data), given).train(&mut ()).unwrap());
    let saved = Checkpoint::open(&folder.join("last.safetensors")).unwrap();
    let sources = Sources::of_run(saved.run().unwrap()).unwrap();
    let mut resumed = Run::resume(&saved, options(&folder, 3), sources).unwrap();
    assert!(!resumed.remarks().any(|remark| remark.contains("not those of the run")));
    resumed.train(&mut ()).unwrap();
    let evals: Vec<_> = resumed.history.evals.iter().map(|e| (e.step, e.multi_label)).collect();
    assert!(bits(&resumed) == whole.0 && evals == whole.1, "{evals:?}, expected {:?}", whole.1);
    let outcome = same_on(&[1, 2], &TrainConfig { devices: 2, batch: 4.into(), epochs: 1.0, ..short(&data) });
    assert!(!outcome.evaluations.is_empty() && outcome.multi_label.iter().all(Option::is_some));
}

#[test]
fn a_comparison_is_one_of_mean_average_precision() {
    let dir = tempfile::tempdir().unwrap();
    let data = listed(dir.path());
    let config = TrainConfig { epochs: 0.5, ..of(&data) };
    let sources = Sources::open(&config).unwrap();
    let contestant = |config: &TrainConfig| Contestant { name: "one".into(), config: config.clone() };
    let compare = |config: &TrainConfig, folder: &str| {
        let options = options(&dir.path().join(folder), 2);
        Comparison::new(vec![contestant(config)], vec![0], options, sources.clone())
    };
    let (rows, curves) = compare(&config, "a").unwrap().run(&mut ()).unwrap().unwrap();
    let map = curves[0].evals.last().unwrap().score();
    assert_eq!((rows[0].map.as_slice(), rows[0].top1.len()), (&[map][..], 0));
    assert!(to_markdown(&rows).contains("| mAP % |") && to_markdown(&rows).contains("mAP % of the baseline"));
    // All contestants train on the same data.
    let single = TrainConfig { multi_label: false, loss: LossName::CrossEntropy, ..config.clone() };
    assert!(compare(&single, "b").unwrap_err().to_string().contains("any number of labels"));
}

#[test]
fn what_has_no_meaning_for_several_labels_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let data = listed(dir.path());
    let folders = image_folder(&dir.path().join("folders"), 2, 2);
    let error = |config: TrainConfig| {
        config.recipe().map(|_| ()).and_then(|()| Sources::open(&config).map(|_| ())).unwrap_err().to_string()
    };
    let good = of(&data);
    for (config, expected) in [
        (TrainConfig { loss: LossName::CrossEntropy, ..good.clone() }, "option `loss`"),
        (TrainConfig { sampler: SamplerName::Balanced, ..good.clone() }, "option `sampler`"),
        (
            TrainConfig { class_weights: Some("balanced".parse().unwrap()), ..good.clone() },
            "option `class-weights`",
        ),
        (
            TrainConfig { images_per_class: Some("3".parse().unwrap()), ..good.clone() },
            "option `images-per-class`",
        ),
        (TrainConfig { data: None, ..good.clone() }, "option `multi-label`"),
        (
            TrainConfig { data: Some(folders), ..good.clone() },
            "image folders have one label an image; bring lists",
        ),
    ] {
        let message = error(config);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    // Images without any label give no figure to judge a run by.
    std::fs::write(data.join("val.csv"), "0.png,\n1.png,\n").unwrap();
    let sources = Sources::open(&good).unwrap();
    assert!(is_multi_label(&*sources.val));
    let message = Run::new(good, options(&dir.path().join("run"), 1), sources).unwrap_err().to_string();
    assert!(message.contains("none of the evaluation images has a label"), "{message}");
}

#[test]
fn the_option_chooses_the_loss_unless_one_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let data = listed(dir.path());
    let train = |more: &[&str]| {
        efficienttrain(&[&["train", "--data", text(&data), "--multi-label", "--print-config"], more].concat())
    };
    let said = String::from_utf8(train(&[]).stdout).unwrap();
    assert!(said.contains("\nloss = \"bce\""), "{said}");
    let refused = String::from_utf8(train(&["--loss", "cross-entropy"]).stderr).unwrap();
    assert!(refused.contains("--loss") && refused.contains("--multi-label"), "{refused}");
    let check = accepted(&["data", "check", "--multi-label", text(&data)]);
    assert!(
        check.contains("train: 48 images, 2 classes") && check.contains("without a label:  12"),
        "{check}"
    );
    assert!(accepted(&["data", "stats", "--multi-label", text(&data)]).contains("48 images"));
    let packed = dir.path().join("packed");
    let pack = efficienttrain(&["data", "pack", "--multi-label", text(&data), "--out", text(&packed)]);
    let pack = String::from_utf8(pack.stderr).unwrap();
    assert!(pack.contains("--multi-label") && !packed.exists(), "{pack}");
}
