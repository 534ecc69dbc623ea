//! Choosing and joining channels, and merging neighboring pixels into channels.

use candle_core::Tensor;

use super::{Traced, dims, on_gpu};
use crate::{Error, Result};

/// `len` channels from `start` on.
///
/// # Shapes
/// `x`: `[..., C]`; value: `[..., len]`.
///
/// # Errors
/// When there are not so many channels.
pub fn slice_channels(x: &Tensor, start: usize, len: usize) -> Result<Traced> {
    let c = x.dims().last().copied().unwrap_or(0);
    if start + len > c || len == 0 {
        let expected =
            format!("an input with more than {start} + {len} channels, at least one of them chosen");
        return Err(Error::shape("slice_channels", expected, x.dims()));
    }
    let axis = x.rank() - 1;
    on_gpu!(x, slice_on_gpu(x, axis, start, len));
    let value = x.narrow(axis, start, len)?.contiguous()?;
    Ok(Traced::new(value, move |dy, _| Ok(vec![Some(dy.pad_with_zeros(axis, start, c - start - len)?)])))
}

/// Channels of several inputs, one after another.
///
/// # Shapes
/// each: `[..., C_i]`, equal but for the last; value: `[..., sum of C_i]`.
///
/// # Errors
/// When the other dimensions differ, or there is no input.
pub fn concat_channels(inputs: &[&Tensor]) -> Result<Traced> {
    let Some(axis) = inputs.first().and_then(|x| x.rank().checked_sub(1)) else {
        return Err(Error::shape("concat_channels", "at least one input [..., C]", &[]));
    };
    on_gpu!(inputs[0], super::cuda::concat_channels(inputs));
    let value = Tensor::cat(inputs, axis)?;
    let widths: Vec<usize> = inputs.iter().filter_map(|x| x.dims().last().copied()).collect();
    Ok(Traced::new(value, move |dy, _| {
        let mut start = 0;
        let mut grads = Vec::with_capacity(widths.len());
        for &width in &widths {
            grads.push(Some(dy.narrow(axis, start, width)?.contiguous()?));
            start += width;
        }
        Ok(grads)
    }))
}

/// The four pixels of each 2x2 square side by side as channels, column by column (Swin's patch
/// merging).
///
/// # Shapes
/// `x`: `[N, H, W, C]` with even `H` and `W`; value: `[N, H / 2, W / 2, 4 C]`.
///
/// # Errors
/// When an edge is odd.
pub fn merge_patches(x: &Tensor) -> Result<Traced> {
    const OP: &str = "merge_patches";
    let [n, h, w, c] = dims(OP, "a map [N, H, W, C]", x)?;
    if h % 2 + w % 2 != 0 || h * w == 0 {
        return Err(Error::shape(OP, "a map [N, H, W, C] with even H and W", x.dims()));
    }
    on_gpu!(x, super::cuda::merge_patches(x));
    let squares = x.reshape(vec![n, h / 2, 2, w / 2, 2, c])?;
    let value = squares.permute(vec![0, 1, 3, 4, 2, 5])?.reshape((n, h / 2, w / 2, 4 * c))?;
    Ok(Traced::new(value, move |dy, _| {
        let squares = dy.reshape(vec![n, h / 2, w / 2, 2, 2, c])?;
        Ok(vec![Some(squares.permute(vec![0, 1, 4, 2, 3, 5])?.reshape((n, h, w, c))?)])
    }))
}

/// `len` places of a dimension of a tensor on a GPU.
#[cfg(feature = "cuda")]
pub(super) fn slice_on_gpu(x: &Tensor, axis: usize, start: usize, len: usize) -> Result<Traced> {
    let length = x.dims()[axis];
    let value = super::cuda::slice(x, axis, start, len)?;
    Ok(Traced::new(value, move |dy, _| Ok(vec![Some(super::cuda::pad(dy, axis, start, length)?)])))
}
