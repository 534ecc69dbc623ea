//! Reading checkpoints and weight files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::weights::{self, Format, LoadOptions, ReadOptions, Report, Tensors, WeightFile};
use efficienttrain_models::{Model, ModelOptions, ParamSpec, ParamStore, create_model};
use efficienttrain_schedule::OptimizerKind;

use crate::checkpoint::description::Description;
use crate::checkpoint::file::KEY;
use crate::checkpoint::offset::PlanOffset;
use crate::checkpoint::record::{FORMAT, RunRecord};
use crate::config::train::TrainConfig;
use crate::distributed::group::Group;
use crate::error::{Error, Result};
use crate::events::history::History;
use crate::hub::weight_file;
use crate::training::loss_scale::LossScale;
use crate::training::optimizer::moment_of;
use crate::training::state::TrainState;
use crate::util::regular::read_regular;

/// Checkpoint or weight file, read and checked for completeness.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    file: WeightFile,
    /// Record of its run; weight files of other programs have none.
    pub record: Option<RunRecord>,
}

impl Checkpoint {
    /// Reads a checkpoint, or a weight file of any format that [`weights::read`] supports. A path
    /// `hub:OWNER/NAME` is a model of the Hugging Face Hub, see [`HubSpec`](crate::HubSpec).
    ///
    /// # Errors
    /// Returns an error if it is missing, truncated or not a weight file, or was written by a newer
    /// version.
    pub fn open(path: &Path) -> Result<Self> {
        let path = &*weight_file(path)?;
        Self::parse(path, &read_regular(path).map_err(Error::io(path))?)
    }

    /// Reads a checkpoint on the first process of a group, and sends it to the others, which need not
    /// have its file. None if `find` finds none there.
    ///
    /// # Errors
    /// Same as [`Self::open`], on all processes.
    pub fn shared(group: &Group, find: impl FnOnce() -> Result<Option<Self>>) -> Result<Option<Self>> {
        if !group.is_shared() {
            return find();
        }
        let found = group.agree(if group.is_first() { find() } else { Ok(None) })?;
        let read = || -> Result<Vec<u8>> {
            let Some(found) = &found else { return Ok(Vec::new()) };
            read_regular(&found.path).map_err(Error::io(&found.path))
        };
        let bytes = group.agree(if group.is_first() { read() } else { Ok(Vec::new()) })?;
        let path = group.broadcast(|| {
            found.as_ref().map_or_else(Vec::new, |found| found.path.to_string_lossy().into_owned().into())
        })?;
        let bytes = group.broadcast(|| bytes)?;
        if bytes.is_empty() || group.is_first() {
            return Ok(found);
        }
        Self::parse(Path::new(&*String::from_utf8_lossy(&path)), &bytes).map(Some)
    }

    /// Reads the bytes of a file.
    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let failed = |what: String| Error::Checkpoint { path: path.into(), what };
        let file = weights::read_bytes(bytes, path, &ReadOptions::default())?;
        // Files of earlier versions without a checksum pass.
        crate::checkpoint::file::verify(bytes, &file.metadata).map_err(failed)?;
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

    /// Returns the same with other weights, which are then its only ones.
    pub(crate) fn with_weights(mut self, weights: Tensors) -> Self {
        self.file.tensors = weights;
        self.file.format = Format::SafeTensors;
        self
    }

    /// Creates an error about this file.
    pub(crate) fn error(&self, what: String) -> Error {
        Error::Checkpoint { path: self.path.clone(), what }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the record of the run.
    ///
    /// # Errors
    /// Returns an error if the file contains only weights.
    pub fn run(&self) -> Result<&RunRecord> {
        let what =
            "contains only weights and no run; expected a checkpoint that `efficienttrain train` wrote";
        self.record.as_ref().ok_or_else(|| Error::Checkpoint { path: self.path.clone(), what: what.into() })
    }

    /// Returns the description beside the file, if it contains only weights and has one.
    ///
    /// # Errors
    /// Returns an error if it is one of timm, but cannot be understood.
    pub fn description(&self) -> Result<Option<Description>> {
        if self.record.is_some() { Ok(None) } else { Description::beside(&self.path) }
    }

    /// Returns the record of the run; of a file with only weights, what a description beside it
    /// says.
    ///
    /// # Errors
    /// Returns an error if there is neither.
    pub fn described_run(&self) -> Result<RunRecord> {
        let Some(description) = self.description()? else { return self.run().cloned() };
        let Description { model, size, .. } = &description;
        let probe = create_model(model, &ModelOptions { input_size: [*size; 2], ..ModelOptions::default() })?;
        let Some(count) = weights::num_classes(&*probe, &self.weights(false)?) else {
            return Err(self.error(format!("has no head of {model}, whose rows are the classes")));
        };
        let config = TrainConfig {
            model: Some(probe.name().into()),
            base_size: *size as u32,
            ..description.numbers()
        };
        Ok(RunRecord {
            format: FORMAT,
            config,
            model: probe.name().into(),
            classes: description.class_names(count),
            train_images: 0,
            data: None,
            step: 0,
            offset: PlanOffset::default(),
            size: *size,
            base_size: *size,
            optimizer_steps: 0,
            ema_updates: None,
            loss_scale: LossScale::default(),
            history: History::default(),
            options: None,
        })
    }

    /// Loads the weights into a store for `model`: those of a checkpoint (its moving average if
    /// `ema`), or those of a weight file with the names of timm, torchvision or the authors. Keys
    /// of a weight file that the model does not use are skipped and listed in the report.
    ///
    /// # Errors
    /// Returns an error if they do not match the model; `options` says what may differ.
    pub fn load_into(
        &self,
        model: &dyn Model,
        ema: bool,
        options: &LoadOptions,
    ) -> Result<(ParamStore, Report)> {
        let mut params = ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu)?;
        let options = LoadOptions { ignore_unexpected: self.record.is_none(), ..*options };
        let report = weights::load_into(model, &mut params, &self.weights(ema)?, &options)?;
        Ok((params, report))
    }

    /// Returns the weights of a weight file, or of a checkpoint (its moving average if `ema`).
    ///
    /// # Errors
    /// Returns an error if `ema` is given and there is no average, or a `.pth` file cannot be read.
    pub fn weights(&self, ema: bool) -> Result<Tensors> {
        if self.file.format == Format::PyTorch {
            return self.pytorch_weights(ema);
        }
        let has = |part: &str| self.file.tensors.keys().any(|key| key.starts_with(part));
        if ema && !has("ema/") {
            let what =
                "has no moving average; leave out option `ema`, or train with option `ema-decay`".into();
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
        // All names that programs use for averages contain it.
        if file.wrapper.contains("ema") {
            return Ok(file.tensors);
        }
        let what = "has no moving average; leave out option `ema`".into();
        Err(Error::Checkpoint { path: self.path.clone(), what })
    }

    /// Returns the tensors whose names begin with `part/`, without that prefix.
    fn part(&self, part: &str) -> Tensors {
        let inner = |name: &str| Some(name.strip_prefix(part)?.strip_prefix('/')?.to_string());
        self.file.tensors.clone().renamed(inner)
    }

    /// Restores a checkpoint into a new state of the same model and configuration. Returns notes
    /// about parts that start from the beginning because the run did not have them: an average, or
    /// the moments of another optimizer.
    ///
    /// # Errors
    /// Returns an error if the checkpoint belongs to another model, or lacks a part that its run
    /// had.
    pub fn restore(&self, state: &mut TrainState) -> Result<Vec<String>> {
        let record = self.run()?;
        let recipe = record.config.recipe()?;
        state.resize(record.size)?;
        let specs = state.model.specs().to_vec();
        let device = state.device().clone();
        state.params = self.store("model", &specs, &device)?;
        state.loss_scale = record.loss_scale;
        let mut notes = self.restore_moments(state, recipe.optimizer.kind)?;
        notes.extend(self.restore_average(state, recipe.ema_decay.is_some())?);
        Ok(notes)
    }

    /// Moments belong to an optimizer: those of another start at zero, and so does its count of
    /// steps.
    fn restore_moments(&self, state: &mut TrainState, kind: OptimizerKind) -> Result<Vec<String>> {
        if kind != state.optimizer.kind() {
            state.optimizer.steps = 0;
            return Ok(vec![format!(
                "the run was trained with {kind:?} so far: the moments of {:?} start at zero",
                state.optimizer.kind()
            )]);
        }
        let (specs, device) = (state.model.specs(), state.device().clone());
        let moments: Vec<ParamSpec> = specs.iter().map(moment_of).collect();
        for (part, store) in &mut state.optimizer.moments {
            *store = self.store(part, &moments, &device)?;
        }
        state.optimizer.steps = self.run()?.optimizer_steps;
        Ok(Vec::new())
    }

    /// If the run did not have an average, it starts with the present weights.
    fn restore_average(&self, state: &mut TrainState, kept: bool) -> Result<Option<String>> {
        let record = self.run()?;
        if state.ema.is_none() {
            return Ok(kept.then(|| "the moving average of the run so far is dropped".into()));
        }
        if !kept {
            (state.ema, state.ema_updates) = (Some(state.params.deep_clone()?), 0);
            let what = "the run has had no moving average so far: it starts with the present weights";
            return Ok(Some(what.into()));
        }
        state.ema = Some(self.store("ema", state.model.specs(), &state.device().clone())?);
        state.ema_updates = record.ema_updates.unwrap_or(record.optimizer_steps);
        Ok(None)
    }

    fn store(&self, part: &str, specs: &[ParamSpec], device: &Device) -> Result<ParamStore> {
        let tensors: HashMap<String, Tensor> = self.part(part).into_iter().collect();
        ParamStore::from_tensors(&format!("the run's {part}"), specs, &tensors, DType::F32, device)
            .map_err(|e| Error::Checkpoint { path: self.path.clone(), what: e.to_string() })
    }
}
