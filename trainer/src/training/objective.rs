//! Training objectives: from a batch to the loss.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use efficienttrain_models::{Context, Cost, ParamStore, Variable, cost, ops, weights};

use crate::data::batch::Batch;
use crate::error::Result;
use crate::training::loss::Loss;
use crate::training::network::Network;

/// Training objective: the loss of a batch, and the weights to export.
pub trait Objective: Debug + Send + Sync {
    /// Computes the loss of a batch in a pass of `model`, a scalar. All random draws depend on
    /// `seed` alone.
    ///
    /// # Errors
    /// Returns an error if the batch does not fit the model.
    fn loss(&self, cx: &mut Context, model: &Network, batch: &Batch, seed: u64) -> Result<Variable>;

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
    fn loss(&self, cx: &mut Context, model: &Network, batch: &Batch, _seed: u64) -> Result<Variable> {
        let device = cx.device();
        let logits = model.classifier()?.forward(cx, &Variable::constant(batch.tensor(&device)?))?;
        let targets = ops::upload(&batch.targets, &[batch.labels.len(), model.num_classes()], &device)?;
        // A custom loss need not support half precision.
        let logits = cx.cast(&logits, DType::F32)?;
        let loss = self.0.loss(logits.tensor(), &targets)?;
        Ok(cx.record(&[&logits], loss))
    }
}
