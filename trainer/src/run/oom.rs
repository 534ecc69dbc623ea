//! Out-of-memory errors of a GPU: finds batch sizes that fit, and suggests options.

use efficienttrain_schedule::StepSettings;

use crate::checkpoint::folder::LAST;
use crate::config::batch::BatchSize;
use crate::config::precision::Precision;
use crate::error::{Error, Result};
use crate::run::Run;
use crate::training::memory::memory;
use crate::util::units::mib;

impl Run {
    /// Returns the error for a step that ran out of memory. Tries with random images what fits.
    /// Weights and moments are those before the step; running statistics may include a part of it.
    pub(crate) fn out_of_memory(&mut self, settings: &StepSettings) -> Error {
        let (step, batch, size) = (settings.step, settings.batch_per_device, settings.size);
        let device = self.options.device.to_string();
        let found = memory(self.state.device()).and_then(|memory| Ok((memory, self.suggestions(settings)?)));
        // An error while searching must not hide the original one.
        let (fits, what) = match found {
            Ok((memory, (fits, ways))) => {
                let held = memory.in_use;
                let there = format!(
                    "it has {} MiB, of which {} are available and weights, moments and averages take {}",
                    mib(memory.total),
                    mib(memory.free + held),
                    mib(held)
                );
                (fits, format!("{there}; {ways}"))
            }
            Err(e) => (
                None,
                format!("the search for a batch that fits failed ({e}); give a smaller option `batch`"),
            ),
        };
        Error::OutOfMemory { step, device, batch, size, fits, what }
    }

    /// Returns the largest batch that fits, and suggestions.
    fn suggestions(&mut self, settings: &StepSettings) -> Result<(Option<u32>, String)> {
        let batch = settings.batch_per_device;
        let fits = self.state.largest_fitting_batch(batch)?;
        let (found, mut ways) = match fits {
            Some(fits) => (format!("a batch of {fits} fits"), vec![self.smaller_batches(batch, fits)]),
            None => (
                "not even a single image fits".into(),
                vec!["a smaller option `model` or option `base-size`".into()],
            ),
        };
        if !self.options.checkpoint_activations {
            ways.push(match self.checkpointed(settings, fits.is_none())? {
                Some(images) => {
                    let resumed =
                        if self.options.out.join(LAST).exists() { ", also with option `resume`" } else { "" };
                    format!(
                        "option `checkpoint-activations`{resumed}, with which a batch of {images} fits (tried too)"
                    )
                }
                None => "option `checkpoint-activations`, which takes less memory".into(),
            });
        }
        if matches!(self.state.precision, Precision::F32 | Precision::Tf32) {
            ways.push("option `precision` bf16, which halves the memory of activations".into());
        }
        if fits.is_some() {
            ways.push("option `batch` auto, which finds batches that fit and are fast".into());
        }
        Ok((fits, format!("{found} (tried now with random images). Give {}", ways.join("; or "))))
    }

    /// Returns the largest batch that fits with activation checkpointing: the full one, or, if
    /// `smaller`, a part of it.
    fn checkpointed(&mut self, settings: &StepSettings, smaller: bool) -> Result<Option<u32>> {
        let batch = settings.batch_per_device;
        self.state.checkpoint_activations = true;
        let found = match self.state.fits(batch, settings.accumulation) {
            Ok(true) => Ok(Some(batch)),
            Ok(false) if smaller => self.state.largest_fitting_batch(batch),
            other => other.map(|_| None),
        };
        self.state.checkpoint_activations = false;
        found
    }

    /// Describes the options for smaller batches with the same number of images per step.
    fn smaller_batches(&self, batch: u32, fits: u32) -> String {
        let by = batch / fits;
        let keeps = "so that a step has the same images";
        let accumulation = self.config.accumulation.saturating_mul(by);
        match &self.config.batch {
            BatchSize::Images(_) => {
                format!("option `batch` {fits} option `accumulation` {accumulation}, {keeps}")
            }
            BatchSize::EachSize(each) if each.iter().all(|images| images.is_multiple_of(by)) => {
                let each = BatchSize::EachSize(each.iter().map(|images| images / by).collect());
                format!("option `batch` {each} option `accumulation` {accumulation}, {keeps}")
            }
            _ => format!(
                "{fits} for this size in option `batch`, or all batches smaller with option `accumulation` {by}"
            ),
        }
    }
}
