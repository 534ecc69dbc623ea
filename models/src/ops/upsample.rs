//! Finer maps from coarse ones.

use candle_core::{DType, Tensor};

use super::cast::converted;
use super::{Traced, dims, on_gpu};
use crate::{Error, Result};

/// Each pixel repeated as a square of `factor` by `factor`.
///
/// # Shapes
/// `x`: `[N, H, W, C]`; value: `[N, factor * H, factor * W, C]`.
///
/// # Errors
/// When `x` is no map, or `factor` is 0.
pub fn upsample_nearest(x: &Tensor, factor: usize) -> Result<Traced> {
    const OP: &str = "upsample_nearest";
    let [n, h, w, c] = dims(OP, "a map [N, H, W, C]", x)?;
    if factor == 0 {
        return Err(Error::shape(OP, "a factor of 1 and more for a map [N, H, W, C]", x.dims()));
    }
    on_gpu!(x, super::cuda::upsample_nearest(x, factor));
    let squares = vec![n, h, factor, w, factor, c];
    let value = x.reshape(vec![n, h, 1, w, 1, c])?.broadcast_as(squares.clone())?;
    let value = value.reshape((n, factor * h, factor * w, c))?;
    Ok(Traced::new(value, move |dy, _| {
        let dtype = dy.dtype();
        let dy = if dtype == DType::BF16 { converted(dy, DType::F32)? } else { dy.clone() };
        let dx = dy.reshape(squares.clone())?.sum((2, 4))?;
        Ok(vec![Some(converted(&dx.reshape((n, h, w, c))?, dtype)?)])
    }))
}
