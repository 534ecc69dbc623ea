//! The tensors of a model, in order and by name.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use indexmap::IndexMap;

use super::{Init, ParamId, ParamKind, ParamSpec};
use crate::{Error, Result};

/// Values for a list of [`ParamSpec`], in the same order.
///
/// Clones share memory; [`ParamStore::deep_clone`] copies it.
#[derive(Clone, Debug)]
pub struct ParamStore {
    tensors: IndexMap<String, Tensor>,
}

impl ParamStore {
    /// First values drawn from `seed`, in `dtype` (counters stay `i64`).
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn init(specs: &[ParamSpec], seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let value = |spec: &ParamSpec| -> Result<Tensor> {
            let values = spec.init.draw(seed, &spec.name, spec.shape.iter().product());
            cast(&Tensor::from_vec(values, spec.shape.as_slice(), device)?, spec.kind, dtype)
        };
        Self::from_specs(specs, value)
    }

    /// Zeros of the same shapes (moments of an optimizer).
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn zeros(specs: &[ParamSpec], dtype: DType, device: &Device) -> Result<Self> {
        let zero = |spec: &ParamSpec| {
            let values = Init::Zeros.draw(0, &spec.name, spec.shape.iter().product());
            cast(&Tensor::from_vec(values, spec.shape.as_slice(), device)?, spec.kind, dtype)
        };
        Self::from_specs(specs, zero)
    }

    /// Tensors that have the shapes and take no memory, for counting.
    pub(crate) fn placeholders(specs: &[ParamSpec]) -> Result<Self> {
        Self::from_specs(specs, |spec| crate::graph::CostCounter::placeholder(&spec.shape))
    }

    /// Values taken from `tensors` by name; every name must be there with the right shape, and no
    /// other.
    ///
    /// # Errors
    /// Names the keys that are missing, unexpected, or of another shape.
    pub fn from_tensors(
        model: &str,
        specs: &[ParamSpec],
        tensors: &HashMap<String, Tensor>,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let mut faults = Vec::new();
        for spec in specs {
            match tensors.get(&spec.name) {
                None if spec.kind == ParamKind::Counter => {}
                None => faults.push(format!("missing `{}`", spec.name)),
                Some(t) if t.dims() != spec.shape => {
                    faults.push(format!(
                        "`{}` has shape {:?}, expected {:?}",
                        spec.name,
                        t.dims(),
                        spec.shape
                    ));
                }
                Some(_) => {}
            }
        }
        let mut unexpected: Vec<_> = tensors
            .keys()
            .filter(|k| !specs.iter().any(|s| s.name == **k))
            .map(|k| format!("unexpected `{k}`"))
            .collect();
        unexpected.sort();
        faults.extend(unexpected);
        if !faults.is_empty() {
            return Err(Error::Weights { model: model.into(), what: summary(&faults) });
        }
        Self::from_specs(specs, |spec| match tensors.get(&spec.name) {
            Some(t) => cast(&t.to_device(device)?.contiguous()?, spec.kind, dtype),
            None => Ok(Tensor::zeros((), DType::I64, device)?),
        })
    }

    /// Reads a safetensors file, as [`Self::from_tensors`].
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or does not fit the model.
    pub fn load(
        path: &Path,
        model: &str,
        specs: &[ParamSpec],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let unreadable = |e: &dyn std::fmt::Display| Error::Weights {
            model: model.into(),
            what: format!("cannot read {}: {e}; expected a complete safetensors file", path.display()),
        };
        let bytes = std::fs::read(path).map_err(|e| unreadable(&e))?;
        let tensors =
            candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(|e| unreadable(&e))?;
        Self::from_tensors(model, specs, &tensors, dtype, device)
    }

    fn from_specs(specs: &[ParamSpec], value: impl Fn(&ParamSpec) -> Result<Tensor>) -> Result<Self> {
        let tensors = specs.iter().map(|s| Ok((s.name.clone(), value(s)?))).collect::<Result<_>>()?;
        Ok(Self { tensors })
    }

    /// The tensor of a parameter.
    ///
    /// # Panics
    /// When `id` belongs to another model.
    pub fn get(&self, id: ParamId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The tensor called `name`.
    pub fn by_name(&self, name: &str) -> Option<&Tensor> {
        self.tensors.get(name)
    }

    /// Replaces a tensor, for a change of shape.
    ///
    /// # Panics
    /// When `id` belongs to another model.
    pub fn set(&mut self, id: ParamId, value: Tensor) {
        self.tensors[id.0] = value;
    }

    /// Names and tensors in the model's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.tensors.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// Positions of all tensors, in the model's order.
    pub fn ids(&self) -> impl Iterator<Item = ParamId> + use<> {
        (0..self.tensors.len()).map(ParamId)
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Tells if there are none.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The same values on another device.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        let moved = |(name, t): (&String, &Tensor)| Ok((name.clone(), t.to_device(device)?));
        Ok(Self { tensors: self.tensors.iter().map(moved).collect::<Result<_>>()? })
    }

    /// Returns a copy with its own memory.
    ///
    /// # Errors
    /// When the device refuses the memory.
    pub fn deep_clone(&self) -> Result<Self> {
        let tensors = self.tensors.iter().map(|(n, t)| Ok((n.clone(), t.copy()?))).collect::<Result<_>>()?;
        Ok(Self { tensors })
    }
}

fn cast(value: &Tensor, kind: ParamKind, dtype: DType) -> Result<Tensor> {
    Ok(value.to_dtype(if kind == ParamKind::Counter { DType::I64 } else { dtype })?)
}

/// The first few faults, and how many more there are.
pub(crate) fn summary(faults: &[String]) -> String {
    const SHOWN: usize = 8;
    let more = faults.len().saturating_sub(SHOWN);
    let shown = faults.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown}, and {more} more") } else { shown }
}
