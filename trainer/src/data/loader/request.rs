//! Requests of a run to its loader.

use std::ops::Range;

use efficienttrain_schedule::{Plan, Replay, StepSettings};

use crate::data::pipeline::sample::ViewSpec;
use crate::error::Result;

/// One training batch to prepare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchRequest {
    /// Number of samples of the run before this batch.
    pub first_sample: u64,
    /// Number of images in the batch, replayed ones included.
    pub count: usize,
    /// Device slot of the plan, each of which has a replay buffer of its own.
    pub slot: u32,
    /// Size, magnitude and order of the transforms.
    pub view: ViewSpec,
    /// Replay of earlier images; [`Replay::OFF`] if there is none.
    pub replay: Replay,
    /// Only fill the replay buffer with the fresh images and return no batch, so that a resumed run
    /// finds the buffer as it was.
    pub warm_replay_only: bool,
}

impl BatchRequest {
    /// Requests a batch of fresh images.
    pub fn fresh_images(first_sample: u64, count: usize, view: ViewSpec) -> Self {
        Self { first_sample, count, slot: 0, view, replay: Replay::OFF, warm_replay_only: false }
    }

    /// Returns the number of images to read from the source.
    pub fn fresh(&self) -> usize {
        self.count / self.replay.times.max(1) as usize
    }
}

/// Returns the requests for the batches of steps `steps` of a plan, preceded by those that fill the
/// replay buffer as it was before `steps.start`.
pub(crate) fn requests(
    plan: &Plan,
    steps: Range<u64>,
) -> Result<impl Iterator<Item = BatchRequest> + Send + use<>> {
    let begin = replay_warmup_steps(plan, steps.start)?.start;
    let (plan, devices) = (plan.clone(), plan.options().devices);
    let settings = (begin..steps.end).filter_map(move |step| plan.at(step).ok());
    Ok(settings.flat_map(move |s| {
        let warm_replay_only = s.step < steps.start;
        of_step(&s, devices).map(move |request| BatchRequest { warm_replay_only, ..request })
    }))
}

/// Returns the steps before `step` whose fresh images are in the replay buffer: a resumed run
/// prepares them again.
pub(crate) fn replay_warmup_steps(plan: &Plan, step: u64) -> Result<Range<u64>> {
    if step >= plan.total_steps() {
        return Ok(step..step);
    }
    let s = plan.at(step)?;
    let first = plan.stages()[plan.replay_start(s.stage)].first_step;
    let (mut begin, mut stored) = (step, 0);
    while s.replay.times > 1 && begin > first && stored < s.replay.buffer_batches {
        begin -= 1;
        stored += plan.at(begin)?.accumulation;
    }
    Ok(begin..step)
}

/// Returns one request per pass of a step: the micro-batches of each device slot in turn.
fn of_step(s: &StepSettings, devices: u32) -> impl Iterator<Item = BatchRequest> + use<> {
    let view = ViewSpec { size: s.size, magnitude: s.magnitude, order: s.order };
    let (count, replay, first) = (s.batch_per_device, s.replay, s.samples_before);
    let fresh = u64::from(count / replay.times);
    let accumulation = s.accumulation;
    (0..devices * accumulation).map(move |pass| BatchRequest {
        replay,
        slot: pass / accumulation,
        ..BatchRequest::fresh_images(first + u64::from(pass) * fresh, count as usize, view)
    })
}
