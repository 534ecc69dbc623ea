//! Tables that kernels read and that never change, sent to a GPU once.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::DeviceId;
use candle_core::{DType, Tensor, WithDType};

use super::device;
use super::upload::{bytes_of, upload};
use crate::Result;

/// Tables by device, element type and bytes. There are few for each size of the images, and recorded
/// graphs read them, so none is dropped.
type Known = HashMap<(DeviceId, DType, Vec<u8>), Tensor>;

static KNOWN: LazyLock<Mutex<Known>> = LazyLock::new(Mutex::default);

/// Returns a table on the GPU of `like`.
pub(super) fn constant<T: WithDType>(op: &'static str, like: &Tensor, values: &[T]) -> Result<Tensor> {
    let gpu = device::of(op, like)?;
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let key = (gpu.id(), T::DTYPE, bytes_of(values).to_vec());
    if let Some(table) = known.get(&key) {
        return Ok(table.clone());
    }
    let table = upload(values, &[values.len()], gpu)?;
    known.insert(key, table.clone());
    Ok(table)
}
