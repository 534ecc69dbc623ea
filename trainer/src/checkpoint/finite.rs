//! Detection of non-finite weights.

use candle_core::{DType, Tensor};
use efficienttrain_models::ParamStore;

use crate::checkpoint::read::Checkpoint;
use crate::error::Result;

/// Number of tensors to list.
const NAMED: usize = 3;

/// Lists the tensors with NaN or infinite values; none if all are finite.
///
/// # Errors
/// Returns an error if a tensor cannot be read.
pub(crate) fn nonfinite<'a>(tensors: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<Option<String>> {
    let mut found = Vec::new();
    for (name, tensor) in tensors.filter(|(_, tensor)| tensor.dtype().is_float()) {
        let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let count = values.iter().filter(|value| !value.is_finite()).count();
        if count > 0 {
            found.push(format!("`{name}` has {count} of {} values that are not finite", values.len()));
        }
    }
    let more = found.len().saturating_sub(NAMED);
    found.truncate(NAMED);
    let and = if more > 0 { format!(", and {more} more tensors") } else { String::new() };
    Ok((!found.is_empty()).then(|| found.join(", ") + &and))
}

/// Like [`nonfinite`], for all parameters and buffers of a model.
///
/// # Errors
/// Same as [`nonfinite`].
pub(crate) fn nonfinite_params(params: &ParamStore) -> Result<Option<String>> {
    nonfinite(params.iter())
}

impl Checkpoint {
    /// Lists the non-finite weights (of the average if `ema`) for a warning; none if all are
    /// finite.
    ///
    /// # Errors
    /// Same as [`Self::weights`].
    pub fn nonfinite_weights(&self, ema: bool) -> Result<Option<String>> {
        nonfinite(self.weights(ema)?.iter().map(|(name, tensor)| (name.as_str(), tensor)))
    }
}
