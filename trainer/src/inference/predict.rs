//! Predictions of a trained model.

use std::path::Path;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::weights::{LoadOptions, Report, num_classes};
use efficienttrain_models::{Backbone, Error as ModelError, ModelOptions, ParamStore, create_model, predict};

use crate::checkpoint::read::Checkpoint;
use crate::config::channels::Normalization;
use crate::data::decode::read_image;
use crate::data::loader::Loader;
use crate::data::pipeline::eval::EvalPipeline;
use crate::data::pipeline::workspace::Workspace;
use crate::data::source::class_names::unique_names;
use crate::data::source::files::ImageFiles;
use crate::data::source::{BadImage, Source};
use crate::error::{DataError, Error, Result};
use crate::inference::evaluate::labels::sigmoid;
use crate::inference::evaluate::{at_size, logits, logits_of};

/// Class names and probabilities, the most probable first. Equal names are followed by their
/// position, see [`unique_names`].
pub type Ranked = Vec<(String, f64)>;

/// A trained model with its classes.
#[derive(Debug)]
pub struct Predictor {
    /// Structure, at the base size of its run.
    pub model: Box<dyn Backbone>,
    /// Weights.
    pub params: ParamStore,
    /// Numbers by which its images are normalized.
    pub normalization: Normalization,
    /// Probabilities are those of each class by itself.
    multi_label: bool,
    classes: Vec<String>,
    /// Unique names of the classes.
    unique: Vec<String>,
}

impl Predictor {
    /// Loads the model of a run's checkpoint or exported weights, at the run's base size.
    ///
    /// # Errors
    /// Returns an error if the file does not belong to a run, or does not match its model.
    pub fn load(saved: &Checkpoint, ema: bool) -> Result<Self> {
        let run = &saved.described_run()?;
        if run.config.target.is_some() {
            let what = "belongs to pre-training, which has no classes; use `encoder.safetensors` as initial weights, or \
                        `efficienttrain features` to see what it has learned";
            return Err(Error::Checkpoint { path: saved.path().into(), what: what.into() });
        }
        let options = run.config.model_options(run.classes.len(), run.size);
        let model = create_model(&run.model, &options)?;
        let (params, _) = saved.load_into(&*model, ema, &LoadOptions::default())?;
        let (model, params) = at_size(&*model, &params, run.base_size)?;
        let (classes, unique) = (run.classes.clone(), unique_names(&run.classes));
        let (normalization, multi_label) = (run.config.normalization(), run.config.multi_label);
        Ok(Self { model, params, normalization, multi_label, classes, unique })
    }

    /// Changes the input size.
    ///
    /// # Errors
    /// Returns an error if the model does not support it.
    pub fn at_size(mut self, size: usize) -> Result<Self> {
        (self.model, self.params) = at_size(&*self.model, &self.params, size)?;
        Ok(self)
    }

    /// Moves the model to a device.
    ///
    /// # Errors
    /// Returns an error if the weights do not fit on the device.
    pub fn on(mut self, device: &Device) -> Result<Self> {
        self.params = self.params.to_device(device)?;
        Ok(self)
    }

    /// Returns the names of the classes, in the order of the logits.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Returns true if images may have any number of labels: probabilities are then those of each
    /// class by itself, and do not add up to 1.
    pub fn is_multi_label(&self) -> bool {
        self.multi_label
    }

    /// Predicts the images of a list in order, in batches of `batch`, prepared by `workers`
    /// threads; returns those that could not be read. `pipeline` has the size of the model.
    ///
    /// # Errors
    /// Returns an error if the model does not support the size, or `each` fails.
    pub fn predict_files<E: From<crate::error::Error>>(
        &self,
        files: ImageFiles,
        pipeline: &EvalPipeline,
        (batch, workers): (usize, usize),
        each: &mut dyn FnMut(&str, Ranked) -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<BadImage>, E> {
        let (files, flip): (Arc<dyn Source>, bool) = (Arc::new(files), pipeline.flip);
        let batches = Loader::eval(files.clone(), pipeline.clone(), batch, workers)
            .map_err(crate::error::Error::from)?;
        let mut bad = Vec::new();
        for batch in batches {
            let batch = batch.map_err(crate::error::Error::from)?;
            if !batch.samples.is_empty() {
                let rows = logits_of(&*self.model, &self.params, &batch.tensor(&Device::Cpu)?, flip)?;
                for (&index, row) in batch.samples.iter().zip(&rows) {
                    let name = files.name(index);
                    match self.ranked(row, &name) {
                        Ok(ranked) => each(&name, ranked)?,
                        Err(error) => bad.push(BadImage { name, reason: error.to_string() }),
                    }
                }
            }
            bad.extend(batch.bad);
        }
        Ok(bad)
    }

    /// Returns every class with its probability, the most probable first.
    ///
    /// # Errors
    /// Returns an error that names the image if it cannot be read.
    pub fn probabilities(&self, path: &Path) -> Result<Ranked> {
        let size = self.model.input_size()[0];
        let pipeline = EvalPipeline::new(size).with_normalization(self.normalization);
        let mut pixels = vec![0.0; self.normalization.image_len(size)];
        pipeline.apply(&read_image(path)?, &mut Workspace::default(), &mut pixels)?;
        let image =
            Tensor::from_vec(pixels, (1, size, size, self.normalization.channels.count()), &Device::Cpu)?;
        let row = logits(&*self.model, &self.params, &image)?.swap_remove(0);
        Ok(self.ranked(&row, &path.display().to_string())?)
    }

    /// Ranks the classes of an image by its logits.
    fn ranked(&self, row: &[f32], name: &str) -> Result<Ranked, DataError> {
        if let Some(value) = row.iter().find(|value| !value.is_finite()) {
            let reason =
                format!("the model's outputs are not finite ({value}); use weights that have not diverged");
            return Err(DataError::Image { name: name.into(), reason });
        }
        let max = row.iter().fold(f32::NEG_INFINITY, |m, &x| m.max(x));
        let mass: f64 = row.iter().map(|&x| f64::from(x - max).exp()).sum();
        let probability = |&x: &f32| match self.multi_label {
            true => sigmoid(x.into()),
            false => f64::from(x - max).exp() / mass,
        };
        let mut ranked: Vec<_> = self.unique.iter().cloned().zip(row.iter().map(probability)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        Ok(ranked)
    }
}

/// Computes logits `[N, classes]` of normalized images `[N, C, H, W]`, with the weights of any file
/// that [`Checkpoint`] reads, and a report of the file's keys. The weights define the number of
/// classes; position embeddings are resampled to the size of the images.
///
/// # Errors
/// Returns an error if the model is unknown, does not support the size, or the weights do not match
/// it.
pub fn logits_of_tensor(
    model: &str,
    saved: &Checkpoint,
    ema: bool,
    input: &Tensor,
) -> Result<(Tensor, Report)> {
    let &[_, in_channels, height, width] = input.dims() else {
        let what = format!("`input` must be [N, C, H, W], got {:?}", input.dims());
        return Err(DataError::Setting(what).into());
    };
    let options = ModelOptions { input_size: [height, width], in_channels, ..ModelOptions::default() };
    let probe = create_model(model, &options)?;
    let Some(num_classes) = num_classes(&*probe, &saved.weights(ema)?) else {
        let what = format!(
            "missing `{}.weight`, whose rows are the classes; are they of another model?",
            probe.classifiers()[0]
        );
        return Err(ModelError::Weights { model: model.into(), what }.into());
    };
    let model = create_model(model, &ModelOptions { num_classes, ..options })?;
    let adapt = LoadOptions { adapt_size: true, ..LoadOptions::default() };
    let (params, report) = saved.load_into(&*model, ema, &adapt)?;
    Ok((predict(&*model, &params, &input.to_dtype(DType::F32)?)?, report))
}
