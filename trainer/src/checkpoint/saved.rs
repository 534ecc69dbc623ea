//! Reading checkpoints and weight files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::weights::{self, Format, LoadOptions, ReadOptions, Report, Tensors, WeightFile};
use efficienttrain_models::{Backbone, Error as ModelError, ParamSpec, ParamStore};

use super::file::KEY;
use super::{FORMAT, RunRecord};
use crate::error::{Error, Result};
use crate::optimiser::moment_of;
use crate::pretrain::encoder_of;
use crate::state::TrainState;

/// A checkpoint or weight file, read and checked for completeness.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    file: WeightFile,
    /// The run it comes from; weight files of other programs have none.
    pub record: Option<RunRecord>,
}

impl Saved {
    /// Reads a checkpoint, or a weight file of any kind that [`weights::read`] takes.
    ///
    /// # Errors
    /// When it is missing, truncated, or no weight file, or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |what: String| Error::Checkpoint { path: path.into(), what };
        let bytes = std::fs::read(path).map_err(Error::io(path))?;
        let file = weights::read_bytes(&bytes, path, &ReadOptions::default())?;
        // Nothing of an earlier version is refused: it has no checksum.
        super::file::verify(&bytes, &file.metadata).map_err(failed)?;
        let json = file.metadata.get(KEY);
        let record: Option<RunRecord> =
            json.map(|json| serde_json::from_str(json)).transpose().map_err(|e| {
                failed(format!(
                    "its description of the run cannot be read ({e}); written by another version?"
                ))
            })?;
        if let Some(record) = record.as_ref().filter(|r| r.format != FORMAT) {
            return Err(failed(format!("has format {}, this version reads {FORMAT}", record.format)));
        }
        Ok(Self { path: path.into(), file, record })
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
    /// weight file under the names of timm, torchvision or the authors. Keys of a weight file that the model does not need are
    /// left out; the report names them.
    ///
    /// # Errors
    /// When they do not fit the model; `options` says what may differ.
    pub fn load_into(
        &self,
        model: &dyn Backbone,
        ema: bool,
        options: &LoadOptions,
    ) -> Result<(ParamStore, Report)> {
        let mut params = ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu)?;
        let options = LoadOptions { ignore_unexpected: self.record.is_none(), ..*options };
        let report = weights::load_into(model, &mut params, &self.weights(ema)?, &options)?;
        Ok((params, report))
    }

    /// Puts the weights into a state that has not begun, and into its average: a head for other classes stays as it is, and
    /// tables of positions are brought to the model's size; of pre-training the encoder is taken. Gives what became of each tensor.
    ///
    /// # Errors
    /// When the weights are those of another model, or `ema` is asked for and there is none.
    pub fn begin(&self, state: &mut TrainState, ema: bool) -> Result<Report> {
        let ignore_unexpected = self.record.is_none();
        let adapt =
            LoadOptions { adapt_head: true, adapt_size: true, ignore_unexpected, ..LoadOptions::default() };
        let mut params = state.params.to_device(&Device::Cpu)?;
        let first = match &self.record {
            Some(run) if run.config.target.is_some() => encoder_of(self, &run.config, run.base_size, ema)?,
            _ => self.weights(ema)?,
        };
        let report =
            weights::load_into(&*state.model, &mut params, &first, &adapt).map_err(|error| match error {
                ModelError::Weights { .. } => {
                    let what = format!("{error}; expected weights of the model that is trained: see --model");
                    Error::Checkpoint { path: self.path.clone(), what }
                }
                other => other.into(),
            })?;
        state.params = params.to_device(state.device())?;
        if let Some(average) = &mut state.ema {
            *average = state.params.deep_clone()?;
        }
        Ok(report)
    }

    /// The weights: a weight file's own, or those of a checkpoint (its moving average if `ema`).
    ///
    /// # Errors
    /// When `ema` is asked for and there is none, or a `.pth` file cannot be read.
    pub fn weights(&self, ema: bool) -> Result<Tensors> {
        if self.file.format == Format::PyTorch {
            return self.pytorch_weights(ema);
        }
        let has = |part: &str| self.file.tensors.keys().any(|key| key.starts_with(part));
        if ema && !has("ema/") {
            let what = "holds no moving average; leave out --ema, or train with --ema-decay".into();
            return Err(Error::Checkpoint { path: self.path.clone(), what });
        }
        match has("model/") {
            true => Ok(self.part(if ema { "ema" } else { "model" })),
            false => Ok(self.file.tensors.clone()),
        }
    }

    fn pytorch_weights(&self, ema: bool) -> Result<Tensors> {
        if !ema {
            return Ok(self.file.tensors.clone());
        }
        let file = weights::read(&self.path, &ReadOptions { prefer_ema: true })?;
        // All names under which programs keep averages have it in them.
        if file.wrapper.contains("ema") {
            return Ok(file.tensors);
        }
        let what = "holds no moving average; leave out --ema".into();
        Err(Error::Checkpoint { path: self.path.clone(), what })
    }

    /// The tensors whose names begin with `part/`, without it.
    fn part(&self, part: &str) -> Tensors {
        let inner = |name: &str| Some(name.strip_prefix(part)?.strip_prefix('/')?.to_string());
        self.file.tensors.clone().renamed(inner)
    }

    /// Puts everything back into a fresh state of the same model and configuration.
    ///
    /// # Errors
    /// When the checkpoint belongs to another model, or lacks a part.
    pub fn restore(&self, state: &mut TrainState) -> Result<()> {
        let record = self.run()?;
        state.resize(record.size)?;
        let specs = state.model.specs().to_vec();
        let moments: Vec<ParamSpec> = specs.iter().map(moment_of).collect();
        let device = state.device().clone();
        state.params = self.store("model", &specs, &device)?;
        for (part, store) in &mut state.optimiser.kept {
            *store = self.store(part, &moments, &device)?;
        }
        state.loss_scale = record.loss_scale;
        state.optimiser.steps = record.optimiser_steps;
        if state.ema.is_some() {
            state.ema = Some(self.store("ema", &specs, &device)?);
        }
        Ok(())
    }

    fn store(&self, part: &str, specs: &[ParamSpec], device: &Device) -> Result<ParamStore> {
        let tensors: HashMap<String, Tensor> = self.part(part).into_iter().collect();
        ParamStore::from_tensors(&format!("the run's {part}"), specs, &tensors, DType::F32, device)
            .map_err(|e| Error::Checkpoint { path: self.path.clone(), what: e.to_string() })
    }
}
