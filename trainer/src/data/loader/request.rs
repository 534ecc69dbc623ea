//! What a run asks of its loader.

use std::ops::Range;

use efficienttrain_schedule::{Plan, StepSettings};

use crate::data::loader::Request;
use crate::data::pipeline::view::View;
use crate::error::Result;

/// The batches of the plan's steps from `steps.start` on, and before them those that bring the replay buffer to where it
/// was. The end is that of `steps`.
pub(crate) fn requests(
    plan: &Plan,
    steps: Range<u64>,
) -> Result<impl Iterator<Item = Request> + Send + use<>> {
    let begin = refill(plan, steps.start)?.start;
    let plan = plan.clone();
    let settings = (begin..steps.end).filter_map(move |step| plan.at(step).ok());
    Ok(settings.flat_map(move |s| {
        let only_store = s.step < steps.start;
        of_step(&s).map(move |request| Request { only_store, ..request })
    }))
}

/// The steps before `step` whose fresh images are in the replay buffer: they are prepared again when a run goes on.
pub(crate) fn refill(plan: &Plan, step: u64) -> Result<Range<u64>> {
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

/// One request a micro-batch.
fn of_step(s: &StepSettings) -> impl Iterator<Item = Request> + use<> {
    let view = View { size: s.size, magnitude: s.magnitude, order: s.order };
    let (count, replay, first) = (s.batch_per_device, s.replay, s.samples_before);
    let fresh = u64::from(count / replay.times);
    (0..u64::from(s.accumulation)).map(move |micro| Request {
        replay,
        ..Request::fresh_images(first + micro * fresh, count as usize, view)
    })
}
