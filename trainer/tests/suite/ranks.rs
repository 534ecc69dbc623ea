//! The same run on several processes, which are threads here: bitwise as on one.

use std::time::Duration;

use crate::common::{bits, config, options};
use candle_core::DType;
use efficienttrain::checkpoint::{Checkpoint, LAST};
use efficienttrain::config::{
    BatchNormMode, Interval, NonFinitePolicy, OptimizerName, Precision, RunOptions, SumType, TargetName,
    TrainConfig,
};
use efficienttrain::distributed::Group;
use efficienttrain::events::{Event, Observer};
use efficienttrain::{Error, Run, Sources};

/// Everything that a run ends with.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    weights: Vec<(String, Vec<u32>)>,
    moments: Vec<(String, Vec<u32>)>,
    pub(crate) evaluations: Vec<(u64, u64, u64, u64, Option<u64>)>,
    pub(crate) multi_label: Vec<Option<[u64; 3]>>,
    bad_steps: Vec<u64>,
    steps: u64,
}

fn outcome(run: &Run) -> Outcome {
    let moments = run.state.optimizer.moments.iter().flat_map(|(part, store)| {
        store.iter().map(move |(name, t)| {
            let values = t.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            (format!("{part}/{name}"), values.into_iter().map(f32::to_bits).collect())
        })
    });
    let evaluation = |e: &efficienttrain::events::EvalRecord| {
        (e.step, e.top1.to_bits(), e.top5.to_bits(), e.loss.to_bits(), e.ema_top1.map(f64::to_bits))
    };
    let multi_label = |e: &efficienttrain::events::EvalRecord| {
        e.multi_label.map(|several| [several.map, several.micro_f1, several.macro_f1].map(f64::to_bits))
    };
    Outcome {
        weights: bits(run),
        moments: moments.collect(),
        evaluations: run.history.evals.iter().map(evaluation).collect(),
        multi_label: run.history.evals.iter().map(multi_label).collect(),
        bad_steps: run.history.bad_steps.clone(),
        steps: run.step(),
    }
}

/// A test's folder, with the data of one run.
struct Job<'a> {
    config: &'a TrainConfig,
    options: RunOptions,
}

/// Runs `work` on `ranks` threads, each with a run of its own.
fn on_ranks<T: Send>(ranks: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let groups = Group::threads(ranks, Duration::from_secs(60)).unwrap();
    // A rank that leaves before the others is an error of theirs.
    let _all = groups.clone();
    std::thread::scope(|scope| {
        let threads: Vec<_> = groups.into_iter().map(|group| scope.spawn(|| work(group))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

impl Job<'_> {
    /// Trains on `ranks` ranks, from the checkpoint in the folder if there is one and `resume`.
    fn train(&self, ranks: usize, resume: bool) -> Vec<Outcome> {
        on_ranks(ranks, |group| {
            let sources = Sources::open(self.config).unwrap();
            let run = if resume {
                let saved = Checkpoint::open(&self.options.out.join(LAST)).unwrap();
                // Read before rank 0 replaces it.
                group.agree(Ok(())).unwrap();
                Run::resume(&saved, self.options.clone(), sources).unwrap()
            } else {
                Run::new(self.config.clone(), self.options.clone(), sources).unwrap()
            };
            let mut run = run.with_group(group).unwrap();
            run.train(&mut ()).unwrap();
            outcome(&run)
        })
    }
}

/// Trains on some numbers of ranks, which must all end with the same.
pub(crate) fn same_on(ranks: &[usize], config: &TrainConfig) -> Outcome {
    same_with(ranks, config, |_| ())
}

fn same_with(ranks: &[usize], config: &TrainConfig, change: impl Fn(&mut RunOptions)) -> Outcome {
    let mut first: Option<Outcome> = None;
    for &ranks in ranks {
        let dir = tempfile::tempdir().unwrap();
        let mut options = options(dir.path(), 1);
        change(&mut options);
        for (rank, outcome) in (Job { config, options }.train(ranks, false)).into_iter().enumerate() {
            let first = first.get_or_insert_with(|| outcome.clone());
            assert!(*first == outcome, "rank {rank} of {ranks} ends with something else");
        }
    }
    first.unwrap()
}

fn small(model: &str) -> TrainConfig {
    TrainConfig { devices: 4, batch: 4.into(), epochs: 0.6, synthetic_images: 120, ..config(model) }
}

#[test]
fn a_run_is_the_same_on_one_to_four_ranks() {
    let all = same_on(&[1, 2, 3, 4], &TrainConfig { accumulation: 2, ..small("resnet10") });
    assert!(all.steps >= 3 && !all.evaluations.is_empty() && !all.moments.is_empty());
}

#[test]
fn one_device_is_what_a_process_of_its_own_does() {
    let config = TrainConfig { devices: 1, ..small("resnet10") };
    let dir = tempfile::tempdir().unwrap();
    let mut alone = crate::common::run(&config, options(dir.path(), 2));
    alone.train(&mut ()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let job = Job { config: &config, options: options(dir.path(), 2) };
    assert!(job.train(1, false)[0] == outcome(&alone));
}

#[test]
fn replay_mixing_and_clipping_are_the_same_on_any_number_of_ranks() {
    let config = TrainConfig {
        replay: Some(2),
        replay_batches: Some(2),
        mixup: Some(0.8),
        cutmix: Some(1.0),
        clip_grad: Some(0.1),
        opt: Some(OptimizerName::Lamb),
        lr: Some(1e-3),
        weight_decay: Some(0.02),
        epochs: 1.0,
        ..small("resnet10")
    };
    same_on(&[1, 3], &config);
}

#[test]
fn transformers_with_dropped_paths_are_the_same_on_any_number_of_ranks() {
    let config = TrainConfig { drop_path: Some(0.3), precision: Precision::Bf16, ..small("deit_tiny") };
    same_with(&[1, 3], &config, |options| options.checkpoint_activations = true);
}

#[test]
fn frozen_layers_stay_frozen_on_all_ranks() {
    let config = TrainConfig { freeze: vec!["conv1.*".into(), "bn1.*".into()], ..small("resnet10") };
    same_on(&[1, 3], &config);
}

#[test]
fn pretraining_is_the_same_on_any_number_of_ranks() {
    let config = TrainConfig {
        target: Some(TargetName::Hog),
        model: Some("deit_tiny".into()),
        base_size: 96,
        synthetic_images: 40,
        batch: 2.into(),
        ..small("deit_tiny")
    };
    same_on(&[1, 3], &config);
}

/// Runs `work` on ranks with a thread pool each: a rank that waits for the statistics of the others
/// must not keep them from computing.
fn on_ranks_with_pools<T: Send>(ranks: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
    on_ranks(ranks, |group| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        pool.install(|| work(group))
    })
}

/// Batches of 4 on two devices are normalized like a batch of 8 on one.
#[test]
fn synchronized_batch_norms_see_all_images() {
    let config =
        TrainConfig { drop_path: Some(0.0), mixup: Some(0.0), cutmix: Some(0.0), ..small("resnet10") };
    let train = |mode, devices, ranks| {
        let config = TrainConfig {
            devices,
            batch: (8 / devices).into(),
            batch_norm: mode,
            // Momentum alone would amplify rounding.
            opt: Some(OptimizerName::Sgd),
            weight_decay: Some(0.0),
            lr: Some(0.01),
            ..config.clone()
        };
        on_ranks_with_pools(ranks, |group| {
            let dir = tempfile::tempdir().unwrap();
            let mut run = crate::common::run(&config, options(dir.path(), 1)).with_group(group).unwrap();
            run.train(&mut ()).unwrap();
            bits(&run)
        })
    };
    let far = |a: &[(String, Vec<u32>)], b: &[(String, Vec<u32>)]| {
        let pairs = a.iter().zip(b).flat_map(|((_, a), (_, b))| a.iter().zip(b));
        pairs.map(|(&a, &b)| (f32::from_bits(a) - f32::from_bits(b)).abs()).fold(0.0, f32::max)
    };
    let whole = train(BatchNormMode::Local, 1, 1).remove(0);
    let synchronized = train(BatchNormMode::Synchronized, 2, 2);
    assert!(synchronized[0] == synchronized[1]);
    let local = train(BatchNormMode::Local, 2, 2).remove(0);
    let (near, apart) = (far(&whole, &synchronized[0]), far(&whole, &local));
    assert!(near < 1e-3 && apart > 10.0 * near, "{near} synchronized, {apart} not");
}

#[test]
fn synchronized_batch_norms_need_a_process_for_each_device() {
    let config = TrainConfig { batch_norm: BatchNormMode::Synchronized, ..small("resnet10") };
    let dir = tempfile::tempdir().unwrap();
    let error = crate::common::run(&config, options(dir.path(), 1)).train(&mut ()).unwrap_err().to_string();
    assert!(error.contains("`batch-norm`") && error.contains("each of the 4 devices"), "{error}");
}

/// Sums in half the bytes are near those in single precision, and the same on all ranks.
#[test]
fn sums_in_bf16_are_near() {
    let train = |sum_type| {
        let config = TrainConfig { sum_type, epochs: 0.3, ..small("resnet10") };
        let dir = tempfile::tempdir().unwrap();
        let all = Job { config: &config, options: options(dir.path(), 1) }.train(2, false);
        assert!(all[0] == all[1], "ranks differ");
        all.into_iter().next().unwrap()
    };
    let (single, half) = (train(SumType::F32), train(SumType::Bf16));
    assert!(single != half);
    let loss = |outcome: &Outcome| f64::from_bits(outcome.evaluations.last().unwrap().3);
    assert!((loss(&single) - loss(&half)).abs() < 0.02, "{} and {}", loss(&single), loss(&half));
}

/// A run that is stopped on four ranks in the middle of an epoch goes on on three, and then on one.
#[test]
fn a_run_is_resumed_on_another_number_of_ranks() {
    let config = TrainConfig { replay: Some(2), replay_batches: Some(2), epochs: 1.0, ..small("resnet10") };
    let whole = {
        let dir = tempfile::tempdir().unwrap();
        Job { config: &config, options: options(dir.path(), 1) }.train(1, false).remove(0)
    };
    let dir = tempfile::tempdir().unwrap();
    let part = |ranks, until, resume| {
        let options = RunOptions { stop_after: until, ..options(dir.path(), 1) };
        Job { config: &config, options }.train(ranks, resume).remove(0)
    };
    assert!(whole.steps > 5, "{} steps", whole.steps);
    part(4, Some(2), false);
    part(3, Some(4), true);
    assert!(part(1, None, true) == whole);
}

/// Batches of 64: none for the last rank, one of one image, and so on.
#[test]
fn evaluation_counts_every_image_once() {
    for images in [1, 129] {
        let config = TrainConfig { epochs: 0.3, synthetic_images: 4 * images.max(12), ..small("resnet10") };
        let mut first = None;
        for ranks in [1, 3] {
            let evaluated = on_ranks(ranks, |group| {
                let mut sources = Sources::open(&config).unwrap();
                let indices: Vec<usize> = (0..images).map(|i| i % sources.val.len()).collect();
                sources.val = std::sync::Arc::new(Repeated { of: sources.val.clone(), indices });
                let dir = tempfile::tempdir().unwrap();
                let run = Run::new(config.clone(), options(dir.path(), 1), sources).unwrap();
                let mut run = run.with_group(group).unwrap();
                run.train(&mut ()).unwrap();
                outcome(&run).evaluations
            });
            let first = first.get_or_insert_with(|| evaluated[0].clone());
            assert!(
                evaluated.iter().all(|evaluations| evaluations == first),
                "{images} images on {ranks} ranks"
            );
        }
    }
}

/// Some images of a set, any number of times.
struct Repeated {
    of: std::sync::Arc<dyn efficienttrain::data::Source>,
    indices: Vec<usize>,
}

impl efficienttrain::data::Source for Repeated {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn classes(&self) -> &[String] {
        self.of.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.of.label(self.indices[index])
    }

    fn name(&self, index: usize) -> String {
        format!("{index}: {}", self.of.name(self.indices[index]))
    }

    fn load(&self, index: usize) -> Result<image::RgbImage, efficienttrain::DataError> {
        self.of.load(self.indices[index])
    }
}

#[test]
fn what_differs_between_ranks_is_named() {
    let config = small("resnet10");
    let error_with = |change: &(dyn Fn(&mut TrainConfig) + Sync)| {
        let errors = on_ranks(2, |group| {
            let mut config = config.clone();
            if group.rank() == 1 {
                change(&mut config);
            }
            let dir = tempfile::tempdir().unwrap();
            let sources = Sources::open(&config).unwrap();
            let run = Run::new(config, options(dir.path(), 1), sources).unwrap();
            run.with_group(group).unwrap_err().to_string()
        });
        assert_eq!(errors[0], errors[1]);
        errors[0].clone()
    };
    let error = error_with(&|config| config.lr = Some(2e-3));
    assert!(
        error.contains("option `lr` of rank 1 (") && error.contains("0.002") && error.contains("0.001"),
        "{error}"
    );
    let error = error_with(&|config| config.synthetic_images = 121);
    assert!(error.contains("synthetic-images") && error.contains("121"), "{error}");
    let error = error_with(&|config| config.seed = 8);
    assert!(error.contains("option `seed` of rank 1"), "{error}");
}

#[test]
fn fewer_devices_than_ranks_are_refused() {
    let config = TrainConfig { devices: 2, ..small("resnet10") };
    let errors = on_ranks(3, |group| {
        let dir = tempfile::tempdir().unwrap();
        let run = crate::common::run(&config, options(dir.path(), 1));
        run.with_group(group).unwrap_err().to_string()
    });
    assert!(errors[0].contains("planned for 2") && errors[0].contains("3 processes"), "{}", errors[0]);
}

/// Asks this rank to stop after a step.
struct StopAfter(u64, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Observer for StopAfter {
    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        if matches!(event, Event::Step(record) if record.step == self.0) {
            self.1.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn all_ranks_stop_after_the_same_step() {
    let config = small("resnet10");
    let dir = tempfile::tempdir().unwrap();
    let stopped = on_ranks(3, |group| {
        let own = if group.rank() == 2 { 1 } else { u64::MAX };
        let mut run = crate::common::run(&config, options(dir.path(), 1)).with_group(group).unwrap();
        let stop = run.stop_flag();
        let finished = run.train(&mut StopAfter(own, stop)).unwrap();
        (finished, run.step())
    });
    assert_eq!(stopped, [(false, 3); 3]);
    let saved = Checkpoint::open(&dir.path().join(LAST)).unwrap();
    assert_eq!(saved.run().unwrap().step, 3);
}

#[test]
fn a_diverging_step_is_one_verdict_of_all_ranks() {
    let config = TrainConfig {
        lr: Some(900.0),
        clip_grad: Some(0.0),
        on_nonfinite: NonFinitePolicy::Skip,
        max_bad_steps: 1000,
        epochs: 1.0,
        ..small("resnet10")
    };
    let all = same_with(&[1, 3], &config, |options| options.eval_every = Interval::Percent(100.0));
    assert!(!all.bad_steps.is_empty(), "no step has diverged");
}

/// Panics after the second step.
struct Panics(bool);

impl Observer for Panics {
    fn observe(&mut self, event: &Event) -> Result<(), Error> {
        let second = matches!(event, Event::Step(record) if record.step == 1);
        assert!(!(self.0 && second), "the panic of this test");
        Ok(())
    }
}

#[test]
fn a_rank_that_panics_ends_the_others() {
    let config = small("resnet10");
    let dir = tempfile::tempdir().unwrap();
    let groups = Group::threads(3, Duration::from_secs(60)).unwrap();
    let begun = std::time::Instant::now();
    let (config, out) = (&config, dir.path());
    let train = move |group: Group| {
        let rank = group.rank();
        let mut run = crate::common::run(config, options(out, 1)).with_group(group.clone()).unwrap();
        let error = run.train(&mut Panics(rank == 1)).unwrap_err().to_string();
        // As the program does, so that nobody names one who leaves for this reason.
        group.fail(&error, true);
        error
    };
    let ends: Vec<std::thread::Result<String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = groups.into_iter().map(|group| scope.spawn(move || train(group))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    assert!(ends[1].is_err(), "rank 1 did not panic");
    for rank in [0, 2] {
        let error = ends[rank].as_ref().unwrap();
        assert!(error.contains("rank 1"), "rank {rank}: {error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(45), "the others waited for the limit");
}
