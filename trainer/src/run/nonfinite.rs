//! Non-finite losses and gradients: stores the batch and decides how the run continues.

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use efficienttrain_schedule::StepSettings;

use crate::checkpoint::folder::NON_FINITE;
use crate::config::values::NonFinitePolicy;
use crate::data::batch::Batch;
use crate::data::loader::Loader;
use crate::data::pipeline::train::TrainPipeline;
use crate::distributed::control::Phase;
use crate::error::{Error, Result};
use crate::events::{Event, NonFiniteStep, Observer};
use crate::run::Run;
use crate::util::atomic_file::replace;

impl Run {
    /// Stores the step's batches and follows `--on-nonfinite`. The weights are those before the
    /// step.
    pub(crate) fn handle_nonfinite(
        &mut self,
        settings: &StepSettings,
        (loss, grad_norm): (f64, f64),
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (images, kept) = self.store_batches(settings)?;
        let policy = self.config.on_nonfinite;
        let left = (self.config.max_bad_steps as usize).saturating_sub(self.history.bad_steps.len());
        let stops = policy == NonFinitePolicy::Stop || left == 0;
        let action = match policy {
            _ if stops => "the run stops".to_string(),
            NonFinitePolicy::LowerLr => {
                format!("skipped, the learning rate is halved, {} more may be skipped", left - 1)
            }
            _ => format!("skipped, {} more may be skipped", left - 1),
        };
        let step = settings.step;
        observer.observe(&Event::NonFinite(NonFiniteStep {
            step,
            stage: settings.stage,
            loss: loss.to_string(),
            grad_norm: grad_norm.to_string(),
            images: images.clone(),
            kept: kept.clone(),
            action,
        }))?;
        if stops {
            let advice = if policy == NonFinitePolicy::Stop {
                "train again with a lower option `lr` or with option `clip-grad` 1, or skip such steps with option `on-nonfinite` skip"
            } else {
                "that is more than option `max-bad-steps`: training has diverged; train again with a lower option `lr`"
            };
            let (stage, advice) = (settings.stage + 1, advice.into());
            let images = shown(&images);
            return Err(Error::StoppedByNonFinite { step, stage, loss, grad_norm, images, kept, advice });
        }
        self.history.bad_steps.push(step);
        self.history.lr_halvings += u32::from(policy == NonFinitePolicy::LowerLr);
        Ok(())
    }

    /// Stores the batches of all processes in a step; returns the names of the images, and the file.
    fn store_batches(&self, settings: &StepSettings) -> Result<(Vec<String>, PathBuf)> {
        let store = || {
            let batches = self.prepare_batches_again(settings)?;
            let images: Vec<String> =
                batches.iter().flat_map(|b| &b.samples).map(|&i| self.sources.train.name(i)).collect();
            let kept = self.keep(settings, &batches, &images)?;
            Ok((images, kept))
        };
        self.group.enter(Phase::Files, settings.step);
        self.on_first(store)
    }

    /// Returns the factor of the learning rate.
    pub(crate) fn lr_factor(&self) -> f64 {
        0.5f64.powi(i32::try_from(self.history.lr_halvings).unwrap_or(i32::MAX))
    }

    /// Prepares the batches of a step again: they are a function of the step.
    fn prepare_batches_again(&self, settings: &StepSettings) -> Result<Vec<Batch>> {
        let pipeline = TrainPipeline::new(&self.config, self.plan.recipe());
        let requests = self.requests_of_all(settings.step..settings.step + 1)?;
        let loader = Loader::train(self.sources.train.clone(), pipeline, requests, self.options.workers())?;
        Ok(loader.collect::<std::result::Result<_, _>>()?)
    }

    /// Writes images and targets as the network saw them, with a description.
    fn keep(&self, settings: &StepSettings, batches: &[Batch], images: &[String]) -> Result<PathBuf> {
        let mut tensors = HashMap::new();
        for (micro, batch) in batches.iter().enumerate() {
            let n = batch.labels.len();
            let pixels = batch.tensor(&Device::Cpu)?;
            let targets =
                Tensor::from_slice(&batch.targets, (n, batch.targets.len() / n.max(1)), &Device::Cpu)?;
            tensors.insert(format!("pixels.{micro}"), pixels);
            tensors.insert(format!("targets.{micro}"), targets);
        }
        let folder = self.options.out.join(NON_FINITE);
        let path = folder.join(format!("step-{:08}.safetensors", settings.step));
        let failed =
            |e: safetensors::SafeTensorError| Error::Checkpoint { path: path.clone(), what: e.to_string() };
        replace(&path, &safetensors::serialize(tensors, None).map_err(failed)?)?;
        let labels: Vec<u32> = batches.iter().flat_map(|b| b.labels.clone()).collect();
        let mut about = serde_json::json!({ "settings": settings, "images": images, "labels": labels });
        if self.config.multi_label {
            let sets: Vec<_> = batches.iter().flat_map(|b| b.label_sets.clone()).collect();
            about["labels"] = serde_json::json!(sets);
        }
        replace(&path.with_extension("json"), about.to_string().as_bytes())?;
        Ok(path)
    }
}

/// Lists the first few names.
fn shown(images: &[String]) -> String {
    let first = images.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let more = images.len().saturating_sub(3);
    if more > 0 { format!("{first} and {more} more") } else { first }
}
