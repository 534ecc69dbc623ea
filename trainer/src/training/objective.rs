//! What a step works on: from a batch to the number that training brings down.

use std::fmt::Debug;
use std::sync::Arc;

use candle_core::{DType, Tensor};
use efficienttrain_models::{Context, Cost, ParamStore, Variable, cost, ops, weights};

use crate::data::batch::Batch;
use crate::error::Result;
use crate::training::loss::Loss;
use crate::training::network::Network;

/// What training brings down, and what it leaves for others.
pub trait Objective: Debug + Send + Sync {
    /// The loss of a batch in a pass of `model`, a scalar. What is drawn depends on `seed` alone.
    ///
    /// # Errors
    /// Returns an error if the batch does not fit the model.
    fn loss(&self, cx: &mut Context, model: &Network, batch: &Batch, seed: u64) -> Result<Variable>;

    /// Whether the model gives logits of classes, so that there is an accuracy to measure.
    fn has_accuracy(&self) -> bool {
        true
    }

    /// What a pass over one picture costs at the model's present size.
    ///
    /// # Errors
    /// Returns an error if the model's layers do not fit each other.
    fn cost(&self, model: &Network) -> Result<Cost> {
        Ok(cost(model.classifier()?)?)
    }

    /// The weights for other programs.
    ///
    /// # Errors
    /// Returns an error if `params` are not the model's.
    fn export(&self, model: &Network, params: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        Ok(weights::export(&**model, params)?)
    }

    /// What the file of those weights is called.
    fn exported_name(&self) -> &'static str {
        "model.safetensors"
    }
}

/// Telling classes apart by some loss.
#[derive(Clone, Debug)]
pub struct Classification(pub Arc<dyn Loss>);

impl Objective for Classification {
    fn loss(&self, cx: &mut Context, model: &Network, batch: &Batch, _seed: u64) -> Result<Variable> {
        let device = cx.device();
        let logits = model.classifier()?.forward(cx, &Variable::constant(batch.tensor(&device)?))?;
        let targets = ops::upload(&batch.targets, &[batch.labels.len(), model.num_classes()], &device)?;
        // A loss of one's own need not know of half precision.
        let logits = cx.cast(&logits, DType::F32)?;
        let loss = self.0.loss(logits.tensor(), &targets)?;
        Ok(cx.record(&[&logits], loss))
    }
}
