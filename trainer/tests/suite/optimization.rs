//! Freezing, layer-wise decay, losses, and non-finite steps.

use crate::common::Rendered;
use efficienttrain::data::BatchImages;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{bits, config, options, run};
use candle_core::{Device, Tensor};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::Precision;
use efficienttrain::config::{LossName, NonFinitePolicy, RunOptions, TrainConfig};
use efficienttrain::data::Batch;
use efficienttrain::events::{Event, NonFiniteStep, Observer};
use efficienttrain::training::Loss;
use efficienttrain::training::TrainState;
use efficienttrain::{Error, Run, Sources};
use efficienttrain_models::ops::{Traced, soft_cross_entropy};
use efficienttrain_models::{ModelOptions, predict};
use efficienttrain_schedule::{Plan, PlanOptions, Recipe};

fn short(config: TrainConfig) -> TrainConfig {
    TrainConfig { epochs: 0.5, ..config }
}

/// Returns how far each tensor has moved from its initial value.
fn moved(before: &[(String, Vec<u32>)], after: &[(String, Vec<u32>)]) -> Vec<(String, f64)> {
    let distance = |a: &[u32], b: &[u32]| {
        let square =
            |(a, b): (&u32, &u32)| (f64::from(f32::from_bits(*a)) - f64::from(f32::from_bits(*b))).powi(2);
        a.iter().zip(b).map(square).sum::<f64>().sqrt()
    };
    before.iter().zip(after).map(|((name, a), (_, b))| (name.clone(), distance(a, b))).collect()
}

#[test]
fn frozen_parts_stay_bit_for_bit_and_the_rest_moves() {
    let dir = tempfile::tempdir().unwrap();
    let freeze = vec!["conv1.*".into(), "bn1.*".into(), "layer1.*".into()];
    let config = short(TrainConfig { freeze, ema_decay: Some(0.0), ..config("resnet10") });
    let mut run = run(&config, options(dir.path(), 1));
    let before = bits(&run);
    run.train(&mut ()).unwrap();
    for (name, distance) in moved(&before, &bits(&run)) {
        let frozen = ["conv1.", "bn1.", "layer1."].iter().any(|part| name.starts_with(part));
        assert_eq!(distance == 0.0, frozen, "{name} moved by {distance}");
    }
    let refused = |freeze: &str| {
        let config = short(TrainConfig { freeze: vec![freeze.into()], ..config.clone() });
        Run::new(config.clone(), options(dir.path(), 1), Sources::open(&config).unwrap())
            .unwrap_err()
            .rendered()
    };
    assert!(refused("layer9.*").contains("--freeze") && refused("layer9.*").contains("conv1.weight"));
    assert!(refused("*").contains("nothing is left"));
}

/// The loss of a training step with frozen statistics equals that of the network in evaluation on
/// the same batch.
#[test]
fn frozen_statistics_are_what_training_normalizes_by() {
    let options = ModelOptions { num_classes: 3, input_size: [32; 2], ..ModelOptions::default() };
    let recipe = Recipe::named("resnet10-baseline").unwrap();
    let batch = Batch {
        images: BatchImages::Normalized(
            (0..4 * 32 * 32 * 3).map(|i| ((i * 37 % 101) as f32 - 20.0) / 50.0).collect(),
        ),
        targets: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]].concat(),
        labels: vec![0, 1, 2, 0],
        label_sets: Vec::new(),
        samples: vec![0, 1, 2, 3],
        size: 32,
        channels: 3,
        bad: Vec::new(),
    };
    let settings = Plan::new(&recipe, PlanOptions::new(1.0, 100_000, 1)).unwrap().at(1).unwrap();
    let loss = |freeze: &[&str]| {
        let mut state = TrainState::new(&options, &recipe, 0).unwrap();
        state.freeze(&freeze.iter().map(|f| (*f).into()).collect::<Vec<_>>()).unwrap();
        let images = batch.tensor(&Device::Cpu).unwrap().permute((0, 3, 1, 2)).unwrap();
        let logits =
            predict(state.model.classifier().unwrap(), &state.params, &images.contiguous().unwrap()).unwrap();
        let logits: Vec<Vec<f32>> = logits.to_vec2().unwrap();
        let of = |(row, &label): (&Vec<f32>, &u32)| {
            let mass: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            mass.ln() - f64::from(row[label as usize])
        };
        let evaluated = logits.iter().zip(&batch.labels).map(of).sum::<f64>() / 4.0;
        let mut step = state.begin_step().unwrap();
        step.accumulate(&batch, 1.0, 0.0, 0).unwrap();
        (step.update(&settings, None).unwrap().loss, evaluated)
    };
    let (trained, evaluated) = loss(&["conv1.*", "bn1.*", "layer*"]);
    assert!((trained - evaluated).abs() < 1e-5, "{trained} in training, {evaluated} in evaluation");
    // If only weights are frozen, like with `requires_grad` off in PyTorch, training uses the
    // statistics of the batch.
    let (trained, evaluated) = loss(&["*conv*", "*bn?.weight", "*bn?.bias"]);
    assert!((trained - evaluated).abs() > 1e-2, "{trained} in training, {evaluated} in evaluation");
}

/// Without weight decay, one step of Adam moves each weight by the learning rate of its layer.
#[test]
fn lower_layers_move_less_under_layer_wise_decay() {
    let dir = tempfile::tempdir().unwrap();
    let step = |layer_decay| {
        let c = TrainConfig {
            layer_decay,
            weight_decay: Some(0.0),
            ema_decay: Some(0.0),
            warmup: Some("0st".parse().unwrap()),
            ..config("resnet10")
        };
        let mut run = run(&c, RunOptions { stop_after: Some(1), ..options(dir.path(), 1) });
        let before = bits(&run);
        run.train(&mut ()).unwrap();
        moved(&before, &bits(&run)).into_iter().collect::<std::collections::BTreeMap<_, _>>()
    };
    let (plain, decayed) = (step(1.0), step(0.5));
    let ratio = |name: &str| decayed[name] / plain[name];
    // The last norm of each block starts at 0, so the layers before it do not move yet. ResNet-10
    // has a layer for the stem, each of four blocks, and the head.
    for (name, expected) in
        [("fc.weight", 1.0), ("layer4.0.bn2.weight", 0.5), ("conv1.weight", 0.5f64.powi(5))]
    {
        assert!((ratio(name) / expected - 1.0).abs() < 0.02, "{name}: {} instead of {expected}", ratio(name));
    }
}

/// With a weight decay so strong that it moves weights by itself: by `lr * decay` of their value if
/// their gradient is negligible.
#[test]
fn patterns_exempt_parameters_from_decay() {
    let dir = tempfile::tempdir().unwrap();
    let trained = |no_decay: &[&str]| {
        let config = TrainConfig {
            no_decay: no_decay.iter().map(|pattern| pattern.to_string()).collect(),
            weight_decay: Some(2.0),
            warmup: Some("0st".parse().unwrap()),
            ..config("resnet10")
        };
        let mut options = options(dir.path(), 1);
        options.stop_after = Some(1);
        let mut run = run(&config, options);
        let first = run.state.params.by_name("fc.weight").unwrap().copy().unwrap();
        run.train(&mut ()).unwrap();
        let last = run.state.params.by_name("fc.weight").unwrap().clone();
        (first, last, run.state.params.by_name("conv1.weight").unwrap().copy().unwrap())
    };
    let norm =
        |t: &candle_core::Tensor| t.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().sqrt();
    let ((first, decayed, conv), (_, exempt, same_conv)) = (trained(&[]), trained(&["fc.*"]));
    // AdamW decouples decay from the gradient: the two results differ by `lr * decay` of the
    // initial weights.
    let difference = (&exempt - &decayed).unwrap();
    let share = norm(&difference) / norm(&first);
    let (lr, decay) = (1e-3, 2.0);
    assert!((share / (lr * decay) - 1.0).abs() < 1e-3, "{share}");
    assert_eq!(norm(&(conv - same_conv).unwrap()), 0.0);
    let config = TrainConfig { no_decay: vec!["nothing.*".into()], ..config("resnet10") };
    let sources = efficienttrain::Sources::open(&config).unwrap();
    let message = efficienttrain::Run::new(config, options(dir.path(), 1), sources).unwrap_err().rendered();
    assert!(message.contains("--no-decay") && message.contains("nothing.*"), "{message}");
}

#[test]
#[ignore = "trains much: CI runs it"]
fn binary_cross_entropy_trains() {
    let dir = tempfile::tempdir().unwrap();
    let config = TrainConfig {
        loss: LossName::Bce,
        epochs: 8.0,
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ..config("resnet10")
    };
    let mut losses = Losses::default();
    run(&config, options(dir.path(), 1)).train(&mut losses).unwrap();
    // Guessing a tenth for each class costs 0.325; the initial weights guess a half, 0.69.
    assert!(losses.0[0] > 0.5 && losses.0[losses.0.len() - 1] < 0.33, "{:?}", losses.0);
}

#[derive(Default)]
struct Losses(Vec<f64>);

impl Observer for Losses {
    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        if let Event::Step(step) = event {
            self.0.push(step.loss);
        }
        Ok(())
    }
}

/// Cross entropy that is NaN in some of its calls. The first call checks the gradients.
#[derive(Debug)]
struct Broken {
    calls: AtomicU32,
    at: Vec<u32>,
}

impl Broken {
    fn at(at: &[u32]) -> Arc<Self> {
        Arc::new(Self { calls: AtomicU32::new(0), at: at.to_vec() })
    }
}

impl Loss for Broken {
    fn loss(&self, logits: &Tensor, targets: &Tensor) -> Result<Traced, Error> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let logits = if self.at.contains(&call) {
            (logits * f64::NAN).map_err(efficienttrain_models::Error::from)?
        } else {
            logits.clone()
        };
        Ok(soft_cross_entropy(&logits, targets)?)
    }
}

#[derive(Default)]
struct Noted(Vec<NonFiniteStep>, Vec<f64>);

impl Observer for Noted {
    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        match event {
            Event::NonFinite(bad) => self.0.push(bad.clone()),
            Event::Step(step) => self.1.push(step.lr),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn a_run_stops_at_bad_numbers_and_keeps_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let config = short(config("resnet10"));
    // Call 0 checks the gradients; step s is call s + 1.
    let mut run = run(&config, options(dir.path(), 1)).with_loss(Broken::at(&[4]));
    let stage = format!("step 3 of stage {}:", run.plan().at(3).unwrap().stage + 1);
    let error = run.train(&mut ()).unwrap_err();
    let text = error.rendered();
    for word in [&stage as &str, "loss NaN", "synthetic", "and 5 more", "step-00000003.safetensors", "--lr"] {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
    let Error::StoppedByNonFinite { kept, .. } = error else { panic!("{text}") };
    let tensors = candle_core::safetensors::load(&kept, &candle_core::Device::Cpu).unwrap();
    assert_eq!(tensors["pixels.0"].dims()[0], 8);
    let about: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(kept.with_extension("json")).unwrap()).unwrap();
    assert_eq!((about["images"].as_array().unwrap().len(), &about["settings"]["step"]), (8, &3.into()));
}

#[test]
fn bad_steps_are_left_out_up_to_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let policy = |on_nonfinite, max_bad_steps| {
        short(TrainConfig { on_nonfinite, max_bad_steps, ..config("resnet10") })
    };
    let trained = |config: &TrainConfig, at: &[u32]| {
        let mut noted = Noted::default();
        let mut run = run(config, options(dir.path(), 1)).with_loss(Broken::at(at));
        let outcome = run.train(&mut noted);
        (outcome, noted, run)
    };
    let (outcome, noted, run) = trained(&policy(NonFinitePolicy::Skip, 2), &[3, 5]);
    assert!(outcome.unwrap());
    assert_eq!(noted.0.iter().map(|b| b.step).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(run.history.bad_steps, [2, 4]);
    assert!(noted.0[0].images.len() == 8 && noted.0[0].loss == "NaN" && noted.0[0].action.contains("1 more"));
    // Neither weights nor running statistics are affected.
    for (name, values) in bits(&run) {
        assert!(values.iter().all(|&v| f32::from_bits(v).is_finite()), "{name}");
    }
    let saved = Checkpoint::open(&dir.path().join("last.safetensors")).unwrap();
    assert_eq!(saved.run().unwrap().history.bad_steps, [2, 4]);

    let (outcome, _, _) = trained(&policy(NonFinitePolicy::Skip, 1), &[3, 5]);
    assert!(outcome.unwrap_err().rendered().contains("--max-bad-steps"));

    let (outcome, noted, run) = trained(&policy(NonFinitePolicy::LowerLr, 2), &[3]);
    assert!(outcome.unwrap());
    let plan = run.plan();
    let expected: Vec<f64> = (0..plan.total_steps())
        .filter(|&step| step != 2)
        .map(|step| plan.at(step).unwrap().lr * if step > 2 { 0.5 } else { 1.0 })
        .collect();
    assert_eq!(noted.1, expected);
}

#[test]
fn bad_numbers_without_skipping_are_no_different_run() {
    // Copying buffers for a step that may be undone does not change the run.
    let dir = tempfile::tempdir().unwrap();
    let trained = |on_nonfinite| {
        let mut run = run(&short(TrainConfig { on_nonfinite, ..config("resnet10") }), options(dir.path(), 1));
        run.train(&mut ()).unwrap();
        bits(&run)
    };
    assert_eq!(trained(NonFinitePolicy::Stop), trained(NonFinitePolicy::Skip));
}

/// With either loss the run learns, keeps its weights in single precision, and resumes bitwise.
#[test]
fn half_precision_trains_and_resumes() {
    for loss in [LossName::CrossEntropy, LossName::Bce] {
        let dir = tempfile::tempdir().unwrap();
        let config = short(TrainConfig { precision: Precision::Bf16, loss, ..config("resnet10") });
        let mut whole = run(&config, options(&dir.path().join("whole"), 1));
        whole.train(&mut ()).unwrap();
        let stopped = dir.path().join("stopped");
        let mut first = run(&config, RunOptions { stop_after: Some(2), ..options(&stopped, 2) });
        first.train(&mut ()).unwrap();
        let sources = Sources::open(&config).unwrap();
        let saved = Checkpoint::open(&stopped.join("last.safetensors")).unwrap();
        let mut second = Run::resume(&saved, options(&stopped, 1), sources).unwrap();
        second.train(&mut ()).unwrap();
        assert!(bits(&whole) == bits(&second), "a resumed run differs");
        let mut single =
            run(&short(TrainConfig { loss, ..config.clone() }), options(&dir.path().join("single"), 1));
        single.state.precision = Precision::F32;
        single.train(&mut ()).unwrap();
        assert!(bits(&whole) != bits(&single), "half precision changes nothing");
        let last = |run: &Run| run.history.last().unwrap().loss;
        let (half, full) = (last(&whole), last(&single));
        assert!(
            (half - full).abs() < 0.05 * full,
            "evaluation loss {half} in half precision, {full} in single"
        );
    }
}
