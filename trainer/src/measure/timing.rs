//! Timing of training steps.

use std::time::Instant;

use efficienttrain_schedule::{Order, Replay, StepSettings};

use crate::data::batch::Batch;
use crate::error::Result;
use crate::training::memory::reset_peak;
use crate::training::state::TrainState;

/// Steps that take longer, in seconds, are timed only once, and larger ones are not tried.
pub(crate) const PATIENCE: f64 = 10.0;

/// Times a step with its update on `count` random images, in seconds: the faster of two after a
/// warm-up step. Of the state, only the optimizer's moments and running statistics change.
///
/// # Errors
/// Returns an error if the model does not support the images.
pub(crate) fn time_step(state: &mut TrainState, count: usize) -> Result<f64> {
    reset_peak(state.device())?;
    let batch = Batch::random(count, &*state.model, state.device())?;
    let mut best = f64::INFINITY;
    for pass in 0..3 {
        let begun = Instant::now();
        state.train_on(&batch, pass, &no_change(), None)?;
        let seconds = begun.elapsed().as_secs_f64();
        if pass > 0 {
            best = best.min(seconds);
        }
        if seconds > PATIENCE {
            return Ok(best.min(seconds));
        }
    }
    Ok(best)
}

/// Returns settings of a step that leaves the weights unchanged and takes the same time as any
/// other.
pub(crate) fn no_change() -> StepSettings {
    StepSettings {
        step: 0,
        stage: 0,
        size: 0,
        magnitude: 0.0,
        order: Order::default(),
        batch_per_device: 0,
        accumulation: 1,
        global_batch: 0,
        replay: Replay::OFF,
        lr: 0.0,
        weight_decay: 0.0,
        drop_path: 0.0,
        ema_decay: Some(1.0),
        samples_before: 0,
        fresh_samples: 0,
        epoch: 0,
        position: 0,
        compute_fraction: 0.0,
    }
}
