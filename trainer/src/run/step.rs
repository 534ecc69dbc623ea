//! One optimizer step of a run: batches, gradients, update.

use std::sync::atomic::Ordering;
use std::time::Instant;

use efficienttrain_schedule::StepSettings;
use rand::Rng;
use randaug::sample_rng;

use crate::config::interval::Position;
use crate::distributed::buckets::GradientReducer;
use crate::distributed::control::Phase;
use crate::error::{Error, Result};
use crate::events::{Event, Observer, StepRecord};
use crate::run::Run;
use crate::run::prefetch::Prefetcher;
use crate::run::shared::Remarks;
use crate::training::step::StepResult;
use crate::util::purposes::REGULARIZATION;

impl Run {
    /// Trains one optimizer step and returns its record; none if a non-finite step was skipped. The
    /// run's `clock` shows the time since its last tick.
    pub(crate) fn train_step(
        &mut self,
        settings: &StepSettings,
        prefetcher: &mut Prefetcher,
        clock: Instant,
        observer: &mut dyn Observer,
    ) -> Result<Option<StepRecord>> {
        let (begun, busy) = (Instant::now(), prefetcher.busy_seconds());
        let mut data_seconds = 0.0;
        let result = match self.step_on_batches(settings, prefetcher, &mut data_seconds, observer) {
            Err(Error::NotFinite { loss, grad_norm, .. }) => {
                return self.handle_nonfinite(settings, (loss, grad_norm), observer).map(|()| None);
            }
            other => other?,
        };
        let Position { epochs, compute, .. } = self.position_at(settings.step + 1)?;
        Ok(Some(StepRecord {
            step: settings.step,
            stage: settings.stage,
            size: settings.size,
            magnitude: settings.magnitude,
            lr: settings.lr,
            loss: result.loss,
            grad_norm: result.grad_norm,
            images: settings.global_batch,
            fresh_images: settings.fresh_samples,
            seconds: begun.elapsed().as_secs_f64(),
            data_seconds,
            loader_load: self.options.load(prefetcher.busy_seconds() - busy, begun.elapsed()),
            epoch: epochs,
            compute,
            elapsed: self.history.seconds + clock.elapsed().as_secs_f64(),
        }))
    }

    /// Runs every micro-batch of this process forward and backward, combines them with those of other
    /// processes, and updates. Adds the time spent waiting for batches to `waited`.
    fn step_on_batches(
        &mut self,
        settings: &StepSettings,
        prefetcher: &mut Prefetcher,
        waited: &mut f64,
        observer: &mut dyn Observer,
    ) -> Result<StepResult> {
        if settings.step == 0 {
            let batch = timed(waited, || prefetcher.peek())?;
            self.bad.report(&batch.bad, observer)?;
            self.state.check_gradients(batch)?;
        }
        let passes = self.own_passes(settings);
        let share = 1.0 / f64::from(self.config.devices * settings.accumulation);
        let (device, seed) = (self.state.device().clone(), self.config.seed);
        self.buckets.enter(self.state.model.input_size());
        let connected = self.group.is_connected();
        let mut reducer = connected.then(|| GradientReducer::new(&self.group, &mut self.buckets));
        let mut step = match connected {
            true => self.state.begin_shared_step(self.group.own_slots().start)?,
            false => self.state.begin_step()?,
        };
        let mut remarks = Remarks::default();
        for pass in passes.clone() {
            if pass > passes.start && pass.is_multiple_of(settings.accumulation) {
                step.next_slot()?;
            }
            self.group.enter(Phase::Loader, settings.step);
            let batch = timed(waited, || prefetcher.next())?;
            self.group.enter(Phase::Step, settings.step);
            match connected {
                // All processes report the same images, after the passes.
                true => remarks.bad.extend_from_slice(&batch.bad),
                false => self.bad.report(&batch.bad, observer)?,
            }
            let seed = pass_seed(seed, settings.step, pass);
            match reducer.as_mut().filter(|_| pass + 1 == passes.end) {
                Some(reducer) => step.accumulate_last(&batch, share, settings.drop_path, seed, reducer)?,
                None => step.accumulate(&batch, share, settings.drop_path, seed)?,
            }
        }
        if let Some(reducer) = reducer {
            remarks.stop = self.stop.load(Ordering::Relaxed);
            for Remarks { stop, bad } in step.combine(reducer, remarks)? {
                self.stop_agreed |= stop;
                self.bad.report(&bad, observer)?;
            }
        }
        let update = step.launch_update(settings, self.plan.recipe().optimizer.clip_grad)?;
        // While the GPU is busy, there is time to upload the next batch before waiting for it.
        timed(waited, || prefetcher.prefetch(&device));
        let result = update.finish()?;
        if let Some(reason) = self.state.take_refusal() {
            let text = format!("the kernels of a step are launched one by one: {reason}");
            observer.observe(&Event::Note { text })?;
        }
        Ok(result)
    }
}

/// Returns the seed of the random draws within a pass, which is counted over all devices of the plan.
fn pass_seed(seed: u64, step: u64, pass: u32) -> u64 {
    sample_rng(seed, step, u64::from(pass), REGULARIZATION).next_u64()
}

/// Runs `work` and adds its duration in seconds to `sum`.
fn timed<T>(sum: &mut f64, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    *sum += begun.elapsed().as_secs_f64();
    done
}
