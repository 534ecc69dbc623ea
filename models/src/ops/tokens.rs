//! Sequences of tokens: class token, position embedding, choosing one token.

use candle_core::Tensor;

use super::{Traced, dims, expect_shape};
use crate::{Error, Result};

/// Puts class tokens before the patches and adds the position embedding.
///
/// # Shapes
/// - `patches`: `[B, L, C]`
/// - `class`: `[1, 1, C]`
/// - `position`: `[1, 1 + L, C]`
/// - value: `[B, 1 + L, C]`
///
/// # Errors
/// When shapes do not fit.
pub fn join_tokens(patches: &Tensor, class: &Tensor, position: &Tensor) -> Result<Traced> {
    const OP: &str = "join_tokens";
    let [b, l, c] = dims(OP, "patches [B, L, C]", patches)?;
    expect_shape(OP, "a class token", class, &[1, 1, c])?;
    expect_shape(OP, "a position embedding", position, &[1, 1 + l, c])?;
    let tokens = Tensor::cat(&[&class.expand((b, 1, c))?, patches], 1)?;
    let value = tokens.broadcast_add(position)?;
    Ok(Traced::new(value, move |dy, _| {
        let position = dy.sum_keepdim(0)?;
        // A copy: gradients of two parameters must not share memory.
        let class = position.narrow(1, 0, 1)?.copy()?;
        Ok(vec![Some(dy.narrow(1, 1, l)?.contiguous()?), Some(class), Some(position)])
    }))
}

/// One token of every sequence.
///
/// # Shapes
/// `x`: `[B, L, C]`; value: `[B, C]`.
///
/// # Errors
/// When there is no token `index`.
pub fn select_token(x: &Tensor, index: usize) -> Result<Traced> {
    const OP: &str = "select_token";
    let [b, l, c] = dims(OP, "tokens [B, L, C]", x)?;
    if index >= l {
        return Err(Error::shape(OP, format!("more than {index} tokens"), x.dims()));
    }
    let value = x.narrow(1, index, 1)?.reshape((b, c))?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = dy.reshape((b, 1, c))?;
        Ok(vec![Some(dy.pad_with_zeros(1, index, l - 1 - index)?)])
    }))
}
