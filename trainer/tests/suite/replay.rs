//! Replay buffer: the contents of batches, for any number of workers, across a stop, and within its
//! memory.

use crate::common::Rendered;
use std::collections::HashSet;
use std::sync::Arc;

use crate::common::{bits, config, options, pipeline, run};
use efficienttrain::checkpoint::Checkpoint;
use efficienttrain::config::TrainConfig;
use efficienttrain::data::{Batch, BatchRequest, Loader, Source, Split, Synthetic, TrainPipeline, ViewSpec};
use efficienttrain::events::{Event, Observer};
use efficienttrain::{Run, Sources};
use efficienttrain_schedule::{Augmentation, Order, Replay};

const REPLAY: Replay = Replay { times: 3, buffer_batches: 4 };
const FRESH: usize = 6;

/// Images can be distinguished only if they are not mixed; they are erased, though.
fn unmixed() -> TrainPipeline {
    let whole = pipeline();
    let augmentation = Augmentation { mixup: 0.0, cutmix: 0.0, erasing: 0.5, ..whole.augmentation };
    TrainPipeline { augmentation, ..whole }
}

fn view(batch: usize) -> ViewSpec {
    let size = if batch < 12 { 24 } else { 32 };
    ViewSpec { size, magnitude: batch as f64 / 3.0, order: Order::CropThenAugment }
}

/// Twelve batches of one size and six of another.
fn replayed() -> Vec<BatchRequest> {
    let request = |i: usize| BatchRequest {
        replay: REPLAY,
        ..BatchRequest::fresh_images((i * FRESH) as u64, FRESH * REPLAY.times as usize, view(i))
    };
    (0..18).map(request).collect()
}

fn batches(requests: Vec<BatchRequest>, workers: usize) -> Vec<Batch> {
    let source: Arc<dyn Source> = Arc::new(Synthetic::new(1, Split::Train, 40, 72).unwrap());
    Loader::train(source, unmixed(), requests.into_iter(), workers).unwrap().map(Result::unwrap).collect()
}

/// Each image of a batch as bits, with its label.
fn images(batch: &Batch) -> Vec<(Vec<u32>, u32)> {
    let values = batch.size * batch.size * 3;
    let bits = |p: &[f32]| p.iter().map(|v| v.to_bits()).collect();
    batch.normalized().unwrap().chunks_exact(values).map(bits).zip(batch.labels.iter().copied()).collect()
}

#[test]
fn a_batch_is_its_fresh_images_and_earlier_ones_as_they_were() {
    let plain: Vec<BatchRequest> =
        (0..18).map(|i| BatchRequest::fresh_images((i * FRESH) as u64, FRESH, view(i))).collect();
    let fresh: Vec<_> = batches(plain, 2).iter().map(images).collect();
    let all = batches(replayed(), 2);
    assert_eq!(all.len(), 18);
    let mut ages = [0usize; REPLAY.buffer_batches as usize];
    for (i, batch) in all.iter().enumerate() {
        let mut seen = images(batch);
        assert_eq!(seen.len(), FRESH * 3, "batch {i}");
        let old = seen.split_off(FRESH);
        assert_eq!(seen, fresh[i], "batch {i}: the fresh images");
        // The last four batches, including this one, but none of another size.
        let begin = if i < 12 { 0 } else { 12 };
        let stored = (i + 1).saturating_sub(4).max(begin)..=i;
        for image in old {
            let from = stored.clone().rev().find(|&b| fresh[b].contains(&image));
            ages[i - from.unwrap_or_else(|| panic!("batch {i}: an image that is not in the buffer"))] += 1;
        }
    }
    // Images are drawn from the whole buffer, about equally often from each position in 18 x 12
    // draws.
    assert!(ages.iter().all(|&n| n > 20), "{ages:?}");
}

#[test]
fn chunks_are_drawn_independently() {
    let batch = &batches(replayed(), 1)[11];
    let distinct: HashSet<_> = images(batch)[FRESH..].iter().cloned().collect();
    // 12 draws with replacement from 24: ten distinct ones are expected, one or two would be an
    // error.
    assert!((5..12).contains(&distinct.len()), "{}", distinct.len());
}

#[test]
fn batches_are_the_same_for_any_number_of_workers() {
    let one = batches(replayed(), 1);
    assert!(batches(replayed(), 2) == one && batches(replayed(), 7) == one);
}

#[test]
fn a_refilled_buffer_gives_the_batches_of_an_undisturbed_one() {
    let whole = batches(replayed(), 2);
    for resumed_at in [3, 9, 12, 15] {
        let begin = if resumed_at < 12 { resumed_at - 3 } else { 12.max(resumed_at - 4) };
        let mut requests = replayed();
        requests[..resumed_at].iter_mut().for_each(|r| r.warm_replay_only = true);
        let again = batches(requests.split_off(begin), 3);
        assert!(again == whole[resumed_at..], "resumed at {resumed_at}");
    }
}

#[test]
fn devices_replay_their_own_images() {
    let slot = |i: usize| (i % 2) as u32;
    let mut requests = replayed();
    requests.iter_mut().enumerate().for_each(|(i, r)| r.slot = slot(i));
    let both = batches(requests.clone(), 2);
    for of in [0, 1] {
        let alone = batches(requests.iter().filter(|r| r.slot == of).copied().collect(), 1);
        let own: Vec<_> = both.iter().enumerate().filter(|(i, _)| slot(*i) == of).map(|(_, b)| b).collect();
        assert!(alone.iter().eq(own), "device {of}");
    }
    assert!(both != batches(replayed(), 2), "one buffer for all is another run");
}

fn replaying() -> TrainConfig {
    TrainConfig { replay: Some(2), replay_batches: Some(3), ..config("resnet10") }
}

#[test]
fn a_run_that_is_stopped_and_resumed_ends_bitwise_the_same() {
    let halves = TrainConfig { batch: 4.into(), ..replaying() };
    let of_devices = TrainConfig { devices: 2, ..halves.clone() };
    for config in [replaying(), TrainConfig { accumulation: 2, ..halves }, of_devices] {
        let dir = tempfile::tempdir().unwrap();
        let mut whole = run(&config, options(dir.path(), 2));
        whole.train(&mut ()).unwrap();
        let change = whole.plan().stages().iter().find(|s| s.size == 24).unwrap().first_step;
        let mut last: Option<std::path::PathBuf> = None;
        for (i, stop) in [3, 7, change, change + 1, u64::MAX].into_iter().enumerate() {
            let mut o = options(&dir.path().join("again"), i + 1);
            o.stop_after = Some(stop);
            let mut part = match &last {
                None => run(&config, o),
                Some(path) => {
                    let saved = Checkpoint::open(path).unwrap();
                    Run::resume(&saved, o, Sources::open(&config).unwrap()).unwrap()
                }
            };
            part.train(&mut ()).unwrap();
            last = Some(dir.path().join("again/last.safetensors"));
            if stop == u64::MAX {
                assert_eq!(bits(&whole), bits(&part));
            }
        }
    }
}

#[test]
fn replaying_once_is_no_replay_and_twice_is_another_run() {
    let trained = |replay| {
        let dir = tempfile::tempdir().unwrap();
        let mut run = run(&TrainConfig { replay, epochs: 0.4, ..config("resnet10") }, options(dir.path(), 2));
        run.train(&mut ()).unwrap();
        bits(&run)
    };
    let none = trained(None);
    assert_eq!(none, trained(Some(1)));
    assert_ne!(none, trained(Some(2)));
}

/// Number of images trained on, and of images decoded for it.
#[derive(Default)]
struct Load {
    trained: u64,
    fresh: u64,
    share: Option<f64>,
}

impl Observer for Load {
    fn observe(&mut self, event: &Event) -> efficienttrain::Result<()> {
        match event {
            Event::Start(start) => self.share = start.plan.decoded_share,
            Event::Step(step) => {
                self.trained += step.images;
                self.fresh += step.fresh_images;
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn the_plan_says_what_the_log_then_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut load = Load::default();
    run(&replaying(), options(dir.path(), 2)).train(&mut load).unwrap();
    let counted = load.fresh as f64 / load.trained as f64;
    let planned = load.share.unwrap();
    assert!(planned > 0.5 && planned < 0.7, "{planned}");
    assert!((counted - planned).abs() < 1e-9, "{counted} {planned}");
}

#[test]
fn a_buffer_that_does_not_fit_is_refused_before_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        TrainConfig { synthetic_images: 2000, base_size: 224, replay_batches: Some(1000), ..replaying() };
    let mut o = options(dir.path(), 1);
    o.max_replay_mib = 2;
    // Small images are made sooner, and are no matter here.
    let sources = Sources::open(&TrainConfig { base_size: 48, ..config.clone() }).unwrap();
    let message = Run::new(config, o, sources).unwrap_err().rendered();
    assert!(message.contains("--max-replay-mib") && message.contains("4 images of 96 x 96"), "{message}");
}

#[test]
fn a_batch_that_cannot_be_divided_is_refused() {
    let config = TrainConfig { replay: Some(3), ..config("resnet10") };
    let message = Run::check(&config).unwrap_err().rendered();
    assert!(message.contains("--replay") && message.contains("divisor of"), "{message}");
}
