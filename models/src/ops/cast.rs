//! Between element types.

use candle_core::{DType, Tensor};

use super::kernels::rows;
use super::view::{View, tensor};
use super::{Traced, by_storages, on_gpu};
use crate::Result;

const OP: &str = "cast";

/// `x` in another element type, each number rounded to the nearest; the gradient comes back in that
/// of `x`. Any shape.
///
/// # Errors
/// When the types are not `f32` or `bf16`, nor both `f64`, or `x` is not on the CPU.
pub fn cast(x: &Tensor, dtype: DType) -> Result<Traced> {
    let from = x.dtype();
    let value = converted(x, dtype)?;
    Ok(Traced::new(value, move |dy, _| Ok(vec![Some(converted(dy, from)?)])))
}

/// A tensor in another type; itself if it has it already.
pub(super) fn converted(x: &Tensor, dtype: DType) -> Result<Tensor> {
    if x.dtype() == dtype {
        return Ok(x.clone());
    }
    on_gpu!(x, super::cuda::converted(x, dtype));
    let x = x.contiguous()?;
    by_storages!(OP, x.dtype(), dtype, (S, R) => {
        tensor(rows::convert::<S, R>(View::new(OP, &x)?.slice()?), x.dims())
    })
}
