//! When a run is saved, and what it leaves at its end.

use candle_core::Device;

use super::Run;
use crate::checkpoint::{self, FORMAT, RunRecord, Written};
use crate::config::{self, RunOptions, TrainConfig};
use crate::duration::Place;
use crate::error::Result;
use crate::event::{Event, Observer};

impl Run {
    /// The options, as a file from which the run can be repeated.
    pub(super) fn store_config(&self) -> Result<()> {
        let init = self.config.init.clone().map(config::absolute);
        let config = TrainConfig { init, ..self.config.clone() };
        let text = config::to_toml(&config, &self.options)?;
        checkpoint::replace(&self.options.out.join("config.toml"), text.as_bytes())
    }

    /// Whether to save after the step that was just done, `before` which the run was.
    pub(super) fn is_save_due(&self, before: Place, evaluated: bool) -> Result<bool> {
        let among_best = || {
            self.history.ranking().iter().take(self.options.keep_best as usize).any(|&step| step == self.step)
        };
        Ok(self.options.checkpoint_every.is_due(before, self.place()?)
            || self.keeper.as_ref().is_some_and(checkpoint::Keeper::is_late)
            || evaluated && among_best())
    }

    /// Begins to write a checkpoint.
    pub(super) fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.claim()?;
        let record = self.record();
        let Some(keeper) = &mut self.keeper else { return Ok(()) };
        let before = keeper.write(&self.state, &record)?;
        report(before, observer)
    }

    /// Tells of a checkpoint that has reached the disk since the last call.
    pub(super) fn report_written(&mut self, observer: &mut dyn Observer) -> Result<()> {
        report(self.keeper.as_mut().and_then(checkpoint::Keeper::poll), observer)
    }

    /// The last checkpoint and, at the end of the plan, the weights for other programs.
    pub(super) fn finish(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        if let Some(before) = self.keeper.as_mut().and_then(checkpoint::Keeper::wait) {
            report(Some(before), observer)?;
        }
        if !self.keeper.as_ref().is_some_and(|keeper| keeper.has(self.step)) {
            self.save(observer)?;
        }
        // Nothing could be tried again after this one, so its failure is the run's.
        if let Some(Written { step, outcome }) = self.keeper.as_mut().and_then(checkpoint::Keeper::wait) {
            let path = outcome?;
            observer.observe(&Event::Checkpoint { step, path })?;
        }
        let finished = self.step == self.total_steps();
        if finished {
            let (objective, record) = (&self.state.objective, self.record());
            let path = self.options.out.join(objective.exported_name());
            let weights = objective.export(&self.state.model, &self.state.params.to_device(&Device::Cpu)?)?;
            // An encoder is not the model of its run.
            checkpoint::export_weights(&path, weights, objective.has_accuracy().then_some(&record))?;
        }
        // Another run may use the folder now.
        self.keeper = None;
        observer.observe(&Event::End { step: self.step, finished, seconds: self.history.seconds })?;
        Ok(finished)
    }

    fn record(&self) -> RunRecord {
        RunRecord {
            format: FORMAT,
            config: self.config.clone(),
            model: self.state.model.name().into(),
            classes: self.sources.train.classes().to_vec(),
            train_images: self.sources.train.len(),
            data: Some(self.data.clone()),
            step: self.step,
            offset: self.offset,
            size: self.state.model.input_size()[0],
            base_size: self.config.base_size as usize,
            optimiser_steps: self.state.optimiser.steps,
            ema_updates: self.state.ema.is_some().then_some(self.state.ema_updates),
            loss_scale: self.state.loss_scale,
            history: self.history.clone(),
            options: Some(RunOptions { stop_after: None, ..self.options.clone() }),
        }
    }
}

fn report(written: Option<Written>, observer: &mut dyn Observer) -> Result<()> {
    let Some(Written { step, outcome }) = written else { return Ok(()) };
    observer.observe(&match outcome {
        Ok(path) => Event::Checkpoint { step, path },
        Err(error) => Event::CheckpointFailed { step, reason: error.to_string() },
    })
}
