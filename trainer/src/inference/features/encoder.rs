//! Encoder: a model for feature extraction, from any weight file.

use candle_core::{DType, Device};
use efficienttrain_models::Error as ModelError;
use efficienttrain_models::weights::{LoadOptions, Report, Tensors, in_channels, load_into};
use efficienttrain_models::{Backbone, ModelOptions, ParamStore, create_model};

use crate::checkpoint::read::Checkpoint;
use crate::config::channels::{InputChannels, Normalization};
use crate::error::{Error, Result};
use crate::inference::evaluate::at_size;
use crate::inference::predict::Predictor;
use crate::pretrain::masked::encoder_of;

/// Model and weights without the head.
#[derive(Debug)]
pub struct Encoder {
    /// Structure, at the size of the images.
    pub model: Box<dyn Backbone>,
    /// Weights.
    pub params: ParamStore,
    /// Numbers by which its images are normalized: those of the run; ImageNet's for a file with only
    /// weights.
    pub normalization: Normalization,
    /// Report of the keys of the file; none for a checkpoint of a run.
    pub report: Option<Report>,
}

impl Encoder {
    /// Loads the model of a run's checkpoint or weights (also of pre-training), at the run's base
    /// size or at `size`. For a file with only weights, `model` and `size` are required.
    ///
    /// # Errors
    /// Returns an error if the weights do not match the model, or model or size are required and
    /// missing.
    pub fn load(saved: &Checkpoint, model: Option<&str>, size: Option<usize>, ema: bool) -> Result<Self> {
        let Some(run) = &saved.record else {
            if let (None, Some(found)) = (model, saved.description()?) {
                let size = size.unwrap_or(found.size);
                let bare = Self::bare(&found.model, size, &saved.weights(ema)?)?;
                return Ok(Self { normalization: found.normalization, ..bare });
            }
            let (Some(model), Some(size)) = (model, size) else {
                let what = "the weight file does not record its model; give its name, and option `size`";
                return Err(Error::config("model", what));
            };
            return Self::bare(model, size, &saved.weights(ema)?);
        };
        let size = size.unwrap_or(run.base_size);
        if run.config.target.is_some() {
            let name = run.config.recipe()?.model;
            let normalization = run.config.normalization();
            let bare = Self::bare(&name, size, &encoder_of(saved, &run.config, size, ema)?)?;
            return Ok(Self { normalization, ..bare });
        }
        let trained = Predictor::load(saved, ema)?;
        let (model, params) = at_size(&*trained.model, &trained.params, size)?;
        Ok(Self { model, params, normalization: trained.normalization, report: None })
    }

    fn bare(model: &str, size: usize, weights: &Tensors) -> Result<Self> {
        let options = ModelOptions { input_size: [size; 2], num_classes: 1, ..ModelOptions::default() };
        let probe = create_model(model, &options)?;
        let normalization = normalization_of(&*probe, weights)?;
        let in_channels = normalization.channels.count();
        let model = create_model(model, &ModelOptions { in_channels, ..options })?;
        let mut params = ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu)?;
        let options = LoadOptions {
            adapt_head: true,
            adapt_size: true,
            ignore_unexpected: true,
            ..LoadOptions::default()
        };
        let report = load_into(&*model, &mut params, weights, &options)?;
        Ok(Self { model, params, normalization, report: Some(report) })
    }
}

/// Returns ImageNet's numbers for the channels that the weights of a file were trained for.
fn normalization_of(model: &dyn Backbone, weights: &Tensors) -> Result<Normalization> {
    let count = in_channels(model, weights).unwrap_or(model.in_channels());
    let channels = u8::try_from(count).map_err(|e| e.to_string()).and_then(InputChannels::try_from);
    let channels = channels.map_err(|what| ModelError::Weights {
        model: model.name().into(),
        what: format!("the weights are for other images: {what}"),
    })?;
    Ok(Normalization::of_imagenet(channels))
}
