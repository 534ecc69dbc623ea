//! Softmax attention.

use candle_core::Tensor;

use super::kernels::attention::{self as kernel, Heads};
use super::view::{View, tensor};
use super::{Traced, by_dtype, dims};
use crate::{Error, Result};

/// Multi-head softmax attention of packed queries, keys and values, as timm's `qkv` linear layer gives them.
///
/// Keeps no matrix of attention probabilities: the backward pass computes them again.
///
/// # Shapes
/// - `qkv`: `[B, L, 3 * C]`, where the last dimension is `[3, heads, C / heads]`
/// - value: `[B, L, C]`
///
/// # Errors
/// When `3 * heads` does not divide the last dimension, or tensors are not `f32` or `f64` on the CPU.
pub fn attention(qkv: &Tensor, heads: usize) -> Result<Traced> {
    const OP: &str = "attention";
    let [b, n, width] = dims(OP, "packed queries, keys and values [B, L, 3C]", qkv)?;
    if heads == 0 || width == 0 || n == 0 || !width.is_multiple_of(3 * heads) {
        return Err(Error::shape(OP, format!("[B, L, 3C] with C divisible by {heads} heads"), qkv.dims()));
    }
    let qkv = qkv.contiguous()?;
    let g = Heads { n, heads, d: width / 3 / heads };
    by_dtype!("attention", qkv, T => {
        let out = kernel::forward::<T>(View::new(OP, &qkv)?.slice()?, &g);
        let value = tensor(out, &[b, n, width / 3])?;
        Ok(Traced::new(value, move |dout, _| {
            let dout = dout.contiguous()?;
            let (qv, dv) = (View::new(OP, &qkv)?, View::new(OP, &dout)?);
            Ok(vec![Some(tensor(kernel::backward::<T>(qv.slice()?, dv.slice()?, &g), qkv.dims())?)])
        }))
    })
}
