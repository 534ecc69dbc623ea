//! Sequences of tokens: class token, position embedding, choosing one token.

use candle_core::{DType, Tensor};

use super::cast::converted;
#[cfg(feature = "cuda")]
use super::channels::slice_on_gpu;
use super::{Traced, dims, expect_shape, on_gpu};
use crate::{Error, Result};

/// Puts tokens of the whole image (class, distillation) before the patches and adds the position
/// embedding.
///
/// # Shapes
/// - `patches`: `[B, L, C]`
/// - `first`: any number of `[1, 1, C]`
/// - `position`: `[1, F + L, C]` with `F` the number of `first`
/// - value: `[B, F + L, C]`
///
/// The pullback gives `[patches, first.., position]`.
///
/// # Errors
/// When shapes do not fit.
pub fn join_tokens(patches: &Tensor, first: &[&Tensor], position: &Tensor) -> Result<Traced> {
    const OP: &str = "join_tokens";
    let [b, l, c] = dims(OP, "patches [B, L, C]", patches)?;
    let extra = first.len();
    expect_shape(OP, "a position embedding", position, &[1, extra + l, c])?;
    for token in first {
        expect_shape(OP, "a token", token, &[1, 1, c])?;
    }
    on_gpu!(patches, super::cuda::join_tokens(patches, first, position));
    let mut parts = Vec::with_capacity(extra + 1);
    // Parameters and sums over the batch are not rounded as the patches are.
    let (dtype, own) = (patches.dtype(), position.dtype());
    let wide = if own == DType::BF16 { dtype } else { own };
    for token in first {
        parts.push(converted(token, wide)?.expand((b, 1, c))?);
    }
    parts.push(converted(patches, wide)?);
    let value = Tensor::cat(&parts, 1)?.broadcast_add(&converted(position, wide)?)?;
    let value = converted(&value, dtype)?;
    Ok(Traced::new(value, move |dy, _| {
        let position = converted(&converted(dy, wide)?.sum_keepdim(0)?, own)?;
        let mut grads = vec![Some(dy.narrow(1, extra, l)?.contiguous()?)];
        for i in 0..extra {
            // A copy: gradients of two parameters must not share memory.
            grads.push(Some(position.narrow(1, i, 1)?.copy()?));
        }
        grads.push(Some(position));
        Ok(grads)
    }))
}

/// `count` tokens of every sequence, from `start` on.
///
/// # Shapes
/// `x`: `[B, L, C]`; value: `[B, count, C]`.
///
/// # Errors
/// When there are not so many tokens.
pub fn select_tokens(x: &Tensor, start: usize, count: usize) -> Result<Traced> {
    const OP: &str = "select_tokens";
    let [_, l, _] = dims(OP, "tokens [B, L, C]", x)?;
    if start + count > l || count == 0 {
        return Err(Error::shape(OP, format!("at least {start} + {count} tokens"), x.dims()));
    }
    on_gpu!(x, slice_on_gpu(x, 1, start, count));
    let value = x.narrow(1, start, count)?.contiguous()?;
    Ok(Traced::new(value, move |dy, _| Ok(vec![Some(dy.pad_with_zeros(1, start, l - start - count)?)])))
}
