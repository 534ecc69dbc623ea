//! Reading checkpoints and weight files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::weights::{self, LoadOptions, ReadOptions, Tensors};
use efficienttrain_models::{Backbone, ParamSpec, ParamStore};
use efficienttrain_schedule::OptimiserKind;
use safetensors::SafeTensors;

use super::file::KEY;
use super::{FORMAT, RunRecord};
use crate::error::{Error, Result};
use crate::optimiser::moment_of;
use crate::state::TrainState;

/// How `.pth` files begin.
const ZIP: &[u8] = b"PK\x03\x04";

/// A checkpoint or weight file, read and checked for completeness.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    /// Empty where another program wrote the file in a format of its own.
    tensors: HashMap<String, Tensor>,
    /// The run it comes from; weight files of other programs have none.
    pub record: Option<RunRecord>,
}

impl Saved {
    /// Reads a file. PyTorch's `.pth` files are recognised and read by [`Self::weights`].
    ///
    /// # Errors
    /// When it is missing, truncated, or no weight file, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |what: String| Error::Checkpoint { path: path.into(), what };
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        // Nothing of an earlier version is refused: it has no checksum.
        let verified = super::file::verify(&bytes);
        if bytes.starts_with(ZIP) {
            return Ok(Self { path: path.into(), tensors: HashMap::new(), record: None });
        }
        let damaged = |e: &dyn std::fmt::Display| {
            failed(format!("not a complete safetensors file ({e}); use another checkpoint or copy it again"))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| damaged(&e))?;
        verified.map_err(failed)?;
        let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| damaged(&e))?;
        let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let record: Option<RunRecord> =
            json.map(|json| serde_json::from_str(json)).transpose().map_err(|e| {
                failed(format!(
                    "its description of the run cannot be read ({e}); written by another version?"
                ))
            })?;
        if let Some(record) = record.as_ref().filter(|r| r.format != FORMAT) {
            return Err(failed(format!("has format {}, this version reads {FORMAT}", record.format)));
        }
        Ok(Self { path: path.into(), tensors, record })
    }

    /// An error about this file.
    pub(super) fn error(&self, what: String) -> Error {
        Error::Checkpoint { path: self.path.clone(), what }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The record of the run.
    ///
    /// # Errors
    /// When the file holds bare weights.
    pub fn run(&self) -> Result<&RunRecord> {
        let what = "holds weights alone, not a run; expected a checkpoint that `efficienttrain train` wrote";
        self.record.as_ref().ok_or_else(|| Error::Checkpoint { path: self.path.clone(), what: what.into() })
    }

    /// Puts the weights into a store for `model`: those of a checkpoint (its moving average if `ema`), or those of a
    /// weight file under the names of timm, torchvision or the authors.
    ///
    /// # Errors
    /// When they do not fit the model; `options` says what may differ.
    pub fn load_into(&self, model: &dyn Backbone, ema: bool, options: &LoadOptions) -> Result<ParamStore> {
        let mut params = ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu)?;
        weights::load_into(model, &mut params, &self.weights(ema)?, options)?;
        Ok(params)
    }

    /// The weights: a weight file's own, or those of a checkpoint (its moving average if `ema`).
    ///
    /// # Errors
    /// When `ema` is asked for and there is none, or a `.pth` file cannot be read.
    pub fn weights(&self, ema: bool) -> Result<Tensors> {
        if self.tensors.is_empty() && self.record.is_none() {
            let file = weights::read(&self.path, &ReadOptions { prefer_ema: ema })?;
            // All names under which programs keep averages have it in them.
            if ema && !file.wrapper.contains("ema") {
                let what = "holds no moving average; leave out --ema".into();
                return Err(Error::Checkpoint { path: self.path.clone(), what });
            }
            return Ok(file.tensors);
        }
        let is_checkpoint = self.tensors.keys().any(|k| k.starts_with("model/"));
        if ema && !self.tensors.keys().any(|k| k.starts_with("ema/")) {
            let what = "holds no moving average; leave out --ema, or train with --ema-decay".into();
            return Err(Error::Checkpoint { path: self.path.clone(), what });
        }
        let part = if ema { "ema" } else { "model" };
        let tensors = if is_checkpoint { self.part(part) } else { self.tensors.clone() };
        Ok(tensors.into_iter().collect())
    }

    fn part(&self, part: &str) -> HashMap<String, Tensor> {
        let of_part = |(k, t): (&String, &Tensor)| {
            Some((k.strip_prefix(part)?.strip_prefix('/')?.to_string(), t.clone()))
        };
        self.tensors.iter().filter_map(of_part).collect()
    }

    /// Puts everything back into a fresh state of the same model and configuration. Gives what begins anew because the run
    /// kept none of it: an average, or the moments of another optimizer.
    ///
    /// # Errors
    /// When the checkpoint belongs to another model, or lacks a part that its run kept.
    pub fn restore(&self, state: &mut TrainState) -> Result<Vec<String>> {
        let record = self.run()?;
        let recipe = record.config.recipe()?;
        state.resize(record.size)?;
        let specs = state.model.specs().to_vec();
        let device = state.device().clone();
        state.params = self.store("model", &specs, &device)?;
        state.loss_scale = record.loss_scale;
        let mut notes = self.restore_moments(state, recipe.optimiser.kind)?;
        notes.extend(self.restore_average(state, recipe.ema_decay.is_some())?);
        Ok(notes)
    }

    /// Moments belong to an optimizer: those of another begin at zero, and its count of steps with them.
    fn restore_moments(&self, state: &mut TrainState, kind: OptimiserKind) -> Result<Vec<String>> {
        if kind != state.optimiser.kind() {
            state.optimiser.steps = 0;
            return Ok(vec![format!(
                "the run was trained with {kind:?} so far: the moments of {:?} begin at zero",
                state.optimiser.kind()
            )]);
        }
        let (specs, device) = (state.model.specs(), state.device().clone());
        let moments: Vec<ParamSpec> = specs.iter().map(moment_of).collect();
        for (part, store) in &mut state.optimiser.kept {
            *store = self.store(part, &moments, &device)?;
        }
        state.optimiser.steps = self.run()?.optimiser_steps;
        Ok(Vec::new())
    }

    /// An average that the run did not keep begins with the weights as they are.
    fn restore_average(&self, state: &mut TrainState, kept: bool) -> Result<Option<String>> {
        let record = self.run()?;
        if state.ema.is_none() {
            return Ok(kept.then(|| "the moving average that the run has kept so far is dropped".into()));
        }
        if !kept {
            (state.ema, state.ema_updates) = (Some(state.params.deep_clone()?), 0);
            let what = "the run has kept no moving average so far: it begins with the weights as they are";
            return Ok(Some(what.into()));
        }
        state.ema = Some(self.store("ema", state.model.specs(), &state.device().clone())?);
        state.ema_updates = record.ema_updates.unwrap_or(record.optimiser_steps);
        Ok(None)
    }

    fn store(&self, part: &str, specs: &[ParamSpec], device: &Device) -> Result<ParamStore> {
        ParamStore::from_tensors(&format!("the run's {part}"), specs, &self.part(part), DType::F32, device)
            .map_err(|e| Error::Checkpoint { path: self.path.clone(), what: e.to_string() })
    }
}
