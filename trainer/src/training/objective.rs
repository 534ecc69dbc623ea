//! Training objectives: from a batch to the loss.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use efficienttrain_models::Error as ModelError;
use efficienttrain_models::{Context, Cost, ParamStore, Variable, cost, ops, weights};

use crate::data::batch::Batch;
use crate::error::Result;
use crate::training::loss::Loss;
use crate::training::network::Network;

/// A batch on the device of a pass.
#[derive(Clone, Debug)]
pub struct DeviceBatch {
    /// The images, `f32` `[N, H, W, 3]`: normalized, erased and mixed.
    pub images: Tensor,
    /// Class probabilities, `f32` `[N, classes]`, if the objective has classes.
    pub targets: Option<Tensor>,
}

impl DeviceBatch {
    /// Copies a batch to `device`, with its targets or without.
    ///
    /// # Errors
    /// Returns an error if the device is out of memory, or images have different numbers of targets.
    pub fn new(batch: &Batch, with_targets: bool, device: &Device) -> Result<Self> {
        let images = batch.tensor(device)?;
        let count = batch.labels.len().max(1);
        let shape = [batch.labels.len(), batch.targets.len() / count];
        let upload = || ops::upload(&batch.targets, &shape, device);
        Ok(Self { images, targets: with_targets.then(upload).transpose()? })
    }
}

/// Training objective: the loss of a batch, and the weights to export.
pub trait Objective: Debug + Send + Sync {
    /// Computes the loss of a batch in a pass of `model`, a scalar. All random draws depend on
    /// `seed` alone.
    ///
    /// # Errors
    /// Returns an error if the batch does not fit the model.
    fn loss(&self, cx: &mut Context, model: &Network, batch: &DeviceBatch, seed: u64) -> Result<Variable>;

    /// Returns true if the loss does the same operations in each pass, all of them on the device, and
    /// draws nothing at random itself, so that a GPU may record a pass and repeat it.
    fn is_recordable(&self) -> bool {
        false
    }

    /// Returns true if the model outputs class logits, so that its accuracy can be measured.
    fn has_accuracy(&self) -> bool {
        true
    }

    /// Returns the cost of a pass over one image at the model's present size.
    ///
    /// # Errors
    /// Returns an error if the model's layers are incompatible.
    fn cost(&self, model: &Network) -> Result<Cost> {
        Ok(cost(model.classifier()?)?)
    }

    /// Returns the weights for other programs.
    ///
    /// # Errors
    /// Returns an error if `params` do not belong to the model.
    fn export(&self, model: &Network, params: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        Ok(weights::export(&**model, params)?)
    }

    /// Returns the file name of those weights.
    fn exported_name(&self) -> &'static str {
        "model.safetensors"
    }
}

/// Classification with a loss.
#[derive(Clone, Debug)]
pub struct Classification(pub Arc<dyn Loss>);

impl Objective for Classification {
    fn loss(&self, cx: &mut Context, model: &Network, batch: &DeviceBatch, _seed: u64) -> Result<Variable> {
        let logits = model.classifier()?.forward(cx, &Variable::constant(batch.images.clone()))?;
        // A custom loss need not support half precision.
        let logits = cx.cast(&logits, DType::F32)?;
        let Some(targets) = &batch.targets else {
            let what = "classification needs the targets of a batch".into();
            return Err(ModelError::Option { model: model.name().into(), what }.into());
        };
        let loss = self.0.loss(logits.tensor(), targets)?;
        Ok(cx.record(&[&logits], loss))
    }

    fn is_recordable(&self) -> bool {
        self.0.is_recordable()
    }
}
