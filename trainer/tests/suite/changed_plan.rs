//! Runs resumed with another plan: they continue after the compute spent, with the next image of
//! their order.

use crate::common::Rendered;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{config, options, run};
use efficienttrain::checkpoint::{Checkpoint, LAST};
use efficienttrain::config::{RunOptions, TrainConfig};
use efficienttrain::data::Source;
use efficienttrain::events::{Event, Observer};
use efficienttrain::observe::log;
use efficienttrain::observe::report::RunLog;
use efficienttrain::{DataError, Run, Sources};
use image::RgbImage;

/// Source that counts how often each image is read.
struct Counted {
    of: Arc<dyn Source>,
    reads: Arc<Vec<AtomicU32>>,
}

impl Source for Counted {
    fn len(&self) -> usize {
        self.of.len()
    }

    fn classes(&self) -> &[String] {
        self.of.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.of.label(index)
    }

    fn name(&self, index: usize) -> String {
        self.of.name(index)
    }

    fn load(&self, index: usize) -> Result<RgbImage, DataError> {
        self.reads[index].fetch_add(1, Ordering::Relaxed);
        self.of.load(index)
    }
}

fn plain(change: impl FnOnce(&mut TrainConfig)) -> TrainConfig {
    let mut config = TrainConfig {
        synthetic_images: 48,
        recipe: "baseline".into(),
        batch: 8.into(),
        epochs: 6.0,
        ema_decay: Some(0.0),
        mixup: Some(0.0),
        cutmix: Some(0.0),
        ..config("resnet10")
    };
    change(&mut config);
    config
}

/// Trains `first` to a step and resumes it with `then` to the end; returns the run and the number
/// of reads of each image.
fn changed(first: &TrainConfig, stop: u64, then: &TrainConfig, out: &Path) -> (Run, Vec<u32>) {
    let reads: Arc<Vec<AtomicU32>> = Arc::new((0..48).map(|_| AtomicU32::new(0)).collect());
    let sources = || {
        let Sources { train, val } = Sources::open(first).unwrap();
        Sources { train: Arc::new(Counted { of: train, reads: reads.clone() }), val }
    };
    let o = options(out, 1);
    let mut run =
        Run::new(first.clone(), RunOptions { stop_after: Some(stop), ..o.clone() }, sources()).unwrap();
    run.train(&mut log::open(run.config(), run.options(), 0).unwrap()).unwrap();
    let saved = Checkpoint::open(&out.join(LAST)).unwrap();
    // A stop between the change and the end must not matter.
    let later = RunOptions { stop_after: Some(stop + 3), ..o.clone() };
    let mut run = Run::resume_as(&saved, then.clone(), later, sources()).unwrap();
    run.train(&mut log::open(run.config(), run.options(), run.step()).unwrap()).unwrap();
    let saved = Checkpoint::open(&out.join(LAST)).unwrap();
    let mut run = Run::resume(&saved, o, sources()).unwrap();
    assert_eq!(run.step(), stop + 3);
    run.train(&mut log::open(run.config(), run.options(), run.step()).unwrap()).unwrap();
    (run, reads.iter().map(|n| n.load(Ordering::Relaxed)).collect())
}

#[test]
#[ignore = "trains much: CI runs it"]
fn no_image_is_seen_more_or_less_often_than_the_epochs_say() {
    /// Change of the configuration, step of the stop, total steps, total passes.
    type Case = (fn(&mut TrainConfig), u64, u64, u32);
    let cases: [Case; 6] = [
        // Six steps per pass before: four of six passes in 24 steps, then twice as many steps per
        // pass.
        (|c| c.batch = 4.into(), 24, 24 + 24, 6),
        // In the middle of a pass.
        (|c| c.batch = 4.into(), 15, 15 + 42, 6),
        (|c| c.batch = 16.into(), 24, 24 + 6, 6),
        (|c| c.accumulation = 2, 24, 24 + 6, 6),
        (|c| c.epochs = 8.0, 24, 24 + 24, 8),
        (|c| c.epochs = 5.0, 24, 24 + 6, 5),
    ];
    for (i, (change, stop, steps, passes)) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let (run, reads) = changed(&plain(|_| ()), stop, &plain(change), dir.path());
        assert_eq!((run.step(), run.total_steps()), (steps, steps), "case {i}");
        assert!(reads.iter().all(|&n| n == passes), "case {i}: {reads:?}");
        let last = run.history.last().unwrap();
        let (told, spent) = (last.epoch, last.equivalent_epochs);
        let expected = f64::from(passes);
        assert!(
            (told - expected).abs() < 1e-9 && (spent - expected).abs() < 1e-9,
            "case {i}: {told}, {spent}"
        );
        // Steps are numbered consecutively in every line of the log, and compute never decreases.
        let log = RunLog::read(dir.path()).unwrap();
        assert!(log.steps.windows(2).all(|pair| pair[0].step < pair[1].step), "case {i}");
        assert!(log.steps.windows(2).all(|pair| pair[0].compute < pair[1].compute + 1e-12), "case {i}");
    }
}

/// Sizes follow the compute, replayed images the sample order.
#[test]
fn a_curriculum_goes_on_where_its_compute_says() {
    let dir = tempfile::tempdir().unwrap();
    let first = plain(|c| c.recipe = "etpp".into());
    let then = TrainConfig { batch: 4.into(), ..first.clone() };
    let (before, after) = (first.plan(48).unwrap(), then.plan(48).unwrap());
    let stop = before.total_steps() / 2;
    let spent = before.at(stop).unwrap().compute_fraction * before.equivalent_epochs();
    let (run, reads) = changed(&first, stop, &then, dir.path());
    let (least, most) = (reads.iter().min().unwrap(), reads.iter().max().unwrap());
    assert!(most - least <= 1, "{reads:?}");
    // The rest of the new plan has the cost of its part from there.
    let left = run.total_steps() - stop;
    let from = after.total_steps() - left;
    let off = (after.at(from).unwrap().compute_fraction * after.equivalent_epochs() - spent).abs();
    assert!(off <= 0.5 * 4.0 / 48.0 + 1e-9, "off by {off} epochs");
    let log = RunLog::read(dir.path()).unwrap();
    let size = |step: u64| log.steps.iter().rfind(|s| s.step <= step).unwrap().size;
    assert!(size(stop) >= size(stop - 1), "images became smaller");

    let replaying =
        |c: &mut TrainConfig| (c.recipe, c.replay, c.replay_batches) = ("etpp".into(), Some(2), Some(4));
    let dir = tempfile::tempdir().unwrap();
    let (first, then) = (plain(replaying), TrainConfig { batch: 4.into(), ..plain(replaying) });
    let (run, _) = changed(&first, 7, &then, dir.path());
    assert_eq!(run.step(), run.total_steps());
}

#[test]
fn a_run_that_has_spent_more_than_there_is_says_what_to_raise() {
    let dir = tempfile::tempdir().unwrap();
    let first = plain(|_| ());
    let mut run = run(&first, RunOptions { stop_after: Some(24), ..options(dir.path(), 1) });
    run.train(&mut ()).unwrap();
    let saved = Checkpoint::open(&dir.path().join(LAST)).unwrap();
    let resumed = |then: &TrainConfig| {
        Run::resume_as(&saved, then.clone(), options(dir.path(), 1), Sources::open(then).unwrap())
    };
    let message = resumed(&plain(|c| c.epochs = 3.0)).unwrap_err().rendered();
    assert!(message.contains("4.00 epochs") && message.contains("raise --epochs"), "{message}");
    // Notes about a change that does not affect the plan, and one that does.
    let notes = |then: &TrainConfig| {
        let mut told = Told(Vec::new());
        let mut run = resumed(then).unwrap();
        run.stop_flag().store(true, Ordering::Relaxed);
        run.train(&mut told).unwrap();
        told.0.join("; ")
    };
    assert_eq!(notes(&plain(|c| c.label_smoothing = Some(0.0))), "");
    let told = notes(&plain(|c| c.batch = 4.into()));
    assert!(told.contains("4.00 of 6.00 epochs") && told.contains("24 of its 72 steps"), "{told}");
    // At another full size, the same operations are another number of epochs: four at 32 pixels are
    // one at 64.
    let told = notes(&plain(|c| c.base_size = 64));
    assert!(told.contains("1.00 of 6.00 epochs"), "{told}");
}

/// Notes at the start of a run.
struct Told(Vec<String>);

impl Observer for Told {
    fn observe(&mut self, event: &Event) -> efficienttrain::Result<()> {
        if let Event::Start(start) = event {
            self.0.extend(start.notes.clone());
        }
        Ok(())
    }
}
