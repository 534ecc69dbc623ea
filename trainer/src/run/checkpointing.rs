//! Checkpoints of a run, and the files it writes at its end.

use candle_core::Device;

use crate::checkpoint::file::export_weights;
use crate::checkpoint::record::{FORMAT, RunRecord};
use crate::checkpoint::writer::{CheckpointWriter, WriteOutcome};
use crate::config;
use crate::config::interval::Position;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::error::Result;
use crate::events::{Event, Observer};
use crate::run::Run;

impl Run {
    /// Writes the options to a file from which the run can be repeated.
    pub(crate) fn store_config(&self) -> Result<()> {
        let init = self.config.init.clone().map(crate::util::paths::absolute);
        let config = TrainConfig { init, ..self.config.clone() };
        let text = config::to_toml(&config, &self.options)?;
        crate::util::atomic_file::replace(&self.options.out.join("config.toml"), text.as_bytes())
    }

    /// Returns true if a checkpoint is due after the step just done; `before` is the position
    /// before that step.
    pub(crate) fn should_save(&self, before: Position, evaluated: bool) -> Result<bool> {
        let among_best = || {
            self.history.ranking().iter().take(self.options.keep_best as usize).any(|&step| step == self.step)
        };
        Ok(self.options.checkpoint_every.is_due(before, self.place()?)
            || self.writer.as_ref().is_some_and(CheckpointWriter::is_late)
            || evaluated && among_best())
    }

    /// Starts writing a checkpoint.
    pub(crate) fn save(&mut self, observer: &mut dyn Observer) -> Result<()> {
        self.claim()?;
        observer.sync()?;
        let record = self.record();
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let before = writer.write(&self.state, &record)?;
        report(before, observer)
    }

    /// Reports a checkpoint that has been written since the last call.
    pub(crate) fn report_written(&mut self, observer: &mut dyn Observer) -> Result<()> {
        report(self.writer.as_mut().and_then(CheckpointWriter::poll), observer)
    }

    /// Writes the last checkpoint and, at the end of the run, the weights for other programs.
    pub(crate) fn finish(&mut self, observer: &mut dyn Observer) -> Result<bool> {
        if let Some(before) = self.writer.as_mut().and_then(CheckpointWriter::wait) {
            report(Some(before), observer)?;
        }
        if !self.writer.as_ref().is_some_and(|writer| writer.has(self.step)) {
            self.save(observer)?;
        }
        // There will be no other attempt, so a failure of this checkpoint fails the run.
        if let Some(WriteOutcome { step, outcome, .. }) =
            self.writer.as_mut().and_then(CheckpointWriter::wait)
        {
            let path = outcome?;
            observer.observe(&Event::Checkpoint { step, path })?;
        }
        let finished = self.is_complete();
        if finished {
            let (objective, record) = (&self.state.objective, self.record());
            let path = self.options.out.join(objective.exported_name());
            let weights = objective.export(&self.state.model, &self.state.params.to_device(&Device::Cpu)?)?;
            // An encoder is not the model of its run.
            export_weights(&path, weights, objective.has_accuracy().then_some(&record))?;
        }
        // Another run may use the folder from now on.
        self.writer = None;
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
            optimizer_steps: self.state.optimizer.steps,
            ema_updates: self.state.ema.is_some().then_some(self.state.ema_updates),
            loss_scale: self.state.loss_scale,
            history: self.history.clone(),
            options: Some(RunOptions { stop_after: None, ..self.options.clone() }),
        }
    }
}

fn report(written: Option<WriteOutcome>, observer: &mut dyn Observer) -> Result<()> {
    let Some(WriteOutcome { step, outcome, written }) = written else { return Ok(()) };
    observer.observe(&match outcome {
        Ok(path) => Event::Checkpoint { step, path },
        Err(error) => Event::CheckpointFailed { step, reason: error.to_string(), written },
    })
}
