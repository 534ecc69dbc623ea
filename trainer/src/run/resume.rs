//! Resumes a run from a checkpoint, and branches a run from the state of another.

use crate::checkpoint::finite::nonfinite_params;
use crate::checkpoint::read::Checkpoint;
use crate::config::options::RunOptions;
use crate::config::train::TrainConfig;
use crate::data::source::class_names::difference;
use crate::error::{Error, Result};
use crate::run::Run;
use crate::run::sources::Sources;

impl Run {
    /// Resumes the run of `saved`; the result is bitwise that of an uninterrupted run.
    ///
    /// # Errors
    /// Same as [`Run::new`]; also if the data set has changed, or the checkpoint belongs to another
    /// model.
    pub fn resume(saved: &Checkpoint, options: RunOptions, sources: Sources) -> Result<Self> {
        Self::resume_as(saved, saved.run()?.config.clone(), options, sources)
    }

    /// Resumes the run of `saved` with another configuration. If the plan differs, the run
    /// continues after the compute that it has spent, with the next image of its order.
    ///
    /// # Errors
    /// Same as [`Self::resume`]; also if the plan of the run has less compute than the checkpoint
    /// has spent.
    pub fn resume_as(
        saved: &Checkpoint,
        config: TrainConfig,
        options: RunOptions,
        sources: Sources,
    ) -> Result<Self> {
        check_data(saved, &sources)?;
        // The checkpoint contains the effect of the initial weights.
        let mut run = Self::without_init(config, options, sources)?;
        run.take_state(saved)?;
        run.take_position_of(saved.run()?)?;
        Ok(run)
    }

    /// Moves this new run to the step of a checkpoint, with its weights and history.
    ///
    /// # Errors
    /// Returns an error if the checkpoint belongs to another data set or model, or to a step after
    /// the run's end.
    pub fn restore(mut self, saved: &Checkpoint) -> Result<Self> {
        check_data(saved, &self.sources)?;
        self.take_state(saved)?;
        let (step, total) = (self.step, self.total_steps());
        if step > total {
            let what = format!(
                "the checkpoint is at step {step}, but the run now ends at step {total}; raise option `epochs`"
            );
            return Err(Error::config("resume", what));
        }
        Ok(self)
    }

    /// Loads weights, moments, averages and history of a checkpoint.
    fn take_state(&mut self, saved: &Checkpoint) -> Result<()> {
        let record = saved.run()?;
        self.notes.extend(saved.restore(&mut self.state)?);
        let stores = [("", Some(&self.state.params)), ("of the average ", self.state.ema.as_ref())];
        for (of, store) in stores {
            if let Some(what) = store.map(nonfinite_params).transpose()?.flatten() {
                let file = saved.path().display();
                self.warnings
                    .push(format!("in {file} {of}{what}: training had diverged before it was written"));
            }
        }
        let before = record.data.as_ref();
        if let Some(what) = before.and_then(|data| self.data.changed_since(data, &record.classes)) {
            let what = format!("the training images are not those of the run: {what}");
            self.warnings.push(what);
        }
        (self.step, self.offset, self.history) = (record.step, record.offset, record.history.clone());
        Ok(())
    }

    /// Starts this run at its first step, but with the weights, moments and averages of a
    /// checkpoint, and at `first_sample` of the sample order.
    ///
    /// # Errors
    /// Returns an error if the checkpoint belongs to another model.
    pub fn branch_from(mut self, saved: &Checkpoint, first_sample: u64) -> Result<Self> {
        saved.restore(&mut self.state)?;
        self.offset.samples = i64::try_from(first_sample).unwrap_or(i64::MAX);
        Ok(self)
    }
}

/// Checks that the run of a checkpoint had the same data.
fn check_data(saved: &Checkpoint, sources: &Sources) -> Result<()> {
    let record = saved.run()?;
    if record.classes == sources.train.classes() && record.train_images == sources.train.len() {
        return Ok(());
    }
    let (was, is) = (record.train_images, sources.train.len());
    let images = match was == is {
        true => String::new(),
        false => format!("the run had {was} training images, option `data` now has {is}; "),
    };
    let classes = difference(&record.classes, sources.train.classes())
        .map_or(String::new(), |difference| format!("the classes differ: {difference}; "));
    let what = format!("{images}{classes}give the same data");
    Err(Error::config("resume", what))
}
