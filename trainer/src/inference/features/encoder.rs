//! A model whose features are wanted, from any file that has its weights.

use candle_core::{DType, Device};
use efficienttrain_models::weights::{LoadOptions, Report, load_into};
use efficienttrain_models::{Backbone, ModelOptions, ParamStore, create_model};

use crate::checkpoint::read::Checkpoint;
use crate::error::{Error, Result};
use crate::inference::evaluate::at_size;
use crate::inference::predict::Predictor;
use crate::pretrain::masked::encoder_of;

/// A model and its weights, the head's left aside.
#[derive(Debug)]
pub struct Encoder {
    /// The structure, at the size whose features are wanted.
    pub model: Box<dyn Backbone>,
    /// The weights.
    pub params: ParamStore,
    /// What became of the keys of the file; none where it is a run's checkpoint.
    pub report: Option<Report>,
}

impl Encoder {
    /// The model of a run's checkpoint or weights (those of pre-training too), at the run's base size or at `size`; of bare
    /// weights, `model` and `size` say what they are.
    ///
    /// # Errors
    /// Returns an error if weights do not fit the model, or bare ones come without its name or size.
    pub fn load(saved: &Checkpoint, model: Option<&str>, size: Option<usize>, ema: bool) -> Result<Self> {
        let Some(run) = &saved.record else {
            let (Some(model), Some(size)) = (model, size) else {
                let what = "the weights do not say of which model they are; give its name, and option `size`";
                return Err(Error::config("model", what));
            };
            return Self::bare(model, size, &saved.weights(ema)?);
        };
        let size = size.unwrap_or(run.base_size);
        if run.config.target.is_some() {
            let name = run.config.recipe()?.model;
            return Self::bare(&name, size, &encoder_of(saved, &run.config, size, ema)?);
        }
        let trained = Predictor::load(saved, ema)?;
        let (model, params) = at_size(&*trained.model, &trained.params, size)?;
        Ok(Self { model, params, report: None })
    }

    fn bare(model: &str, size: usize, weights: &efficienttrain_models::weights::Tensors) -> Result<Self> {
        let model = create_model(
            model,
            &ModelOptions { input_size: [size; 2], num_classes: 1, ..ModelOptions::default() },
        )?;
        let mut params = ParamStore::zeros(model.specs(), DType::F32, &Device::Cpu)?;
        let options = LoadOptions {
            adapt_head: true,
            adapt_size: true,
            ignore_unexpected: true,
            ..LoadOptions::default()
        };
        let report = load_into(&*model, &mut params, weights, &options)?;
        Ok(Self { model, params, report: Some(report) })
    }
}
