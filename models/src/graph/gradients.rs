//! Gradients of a model's parameters.

use candle_core::Tensor;

use super::accumulate;
use crate::ops::squared_norm;
use crate::params::{ParamId, ParamKind, ParamSpec};
use crate::{Error, Result};

/// One gradient a parameter, in the model's order; grows over the micro-batches of an accumulation.
#[derive(Debug, Default)]
pub struct Gradients {
    tensors: Vec<Option<Tensor>>,
}

impl Gradients {
    /// None yet, for a model with `params` parameters and buffers.
    pub fn new(params: usize) -> Self {
        Self { tensors: vec![None; params] }
    }

    /// The number of parameters and buffers of the model.
    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// The gradient of a parameter, if any reached it.
    pub fn get(&self, id: ParamId) -> Option<&Tensor> {
        self.tensors.get(id.index())?.as_ref()
    }

    /// Takes the gradient of a parameter out.
    pub fn take(&mut self, id: ParamId) -> Option<Tensor> {
        self.tensors.get_mut(id.index())?.take()
    }

    /// Sets the gradient of a parameter.
    pub fn set(&mut self, id: ParamId, gradient: Tensor) {
        if let Some(slot) = self.tensors.get_mut(id.index()) {
            *slot = Some(gradient);
        }
    }

    /// All gradients with the index of their parameter.
    pub fn iter(&self) -> impl Iterator<Item = (ParamId, &Tensor)> {
        self.tensors.iter().enumerate().filter_map(|(i, t)| Some((ParamId(i), t.as_ref()?)))
    }

    /// Forgets all gradients.
    pub fn clear(&mut self) {
        self.tensors.fill(None);
    }

    /// Euclidean norm over all gradients together.
    ///
    /// # Errors
    /// When a gradient is on an unsupported device.
    pub fn norm(&self) -> Result<f64> {
        let squares = self.iter().map(|(_, t)| squared_norm(t)).collect::<Result<Vec<_>>>()?;
        Ok(squares.into_iter().sum::<f64>().sqrt())
    }

    /// Checks that a gradient reached every parameter.
    ///
    /// # Errors
    /// Names the parameters that none reached.
    pub fn check_complete(&self, model: &str, specs: &[ParamSpec]) -> Result<()> {
        let names: Vec<String> = specs
            .iter()
            .enumerate()
            .filter(|(i, spec)| spec.kind == ParamKind::Parameter && self.get(ParamId(*i)).is_none())
            .map(|(_, spec)| spec.name.clone())
            .collect();
        if names.is_empty() { Ok(()) } else { Err(Error::NoGradient { model: model.into(), names }) }
    }

    /// Adds the gradients of other images.
    ///
    /// # Errors
    /// When the two are on different devices.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (index, term) in other.tensors.into_iter().enumerate() {
            if let Some(term) = term {
                self.add(ParamId(index), term)?;
            }
        }
        Ok(())
    }

    pub(super) fn add(&mut self, id: ParamId, term: Tensor) -> Result<()> {
        let slot = &mut self.tensors[id.index()];
        match slot {
            Some(sum) => accumulate(sum, &term)?,
            None => *slot = Some(term),
        }
        Ok(())
    }
}
