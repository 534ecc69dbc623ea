//! Choosing and joining channels and tokens.

use candle_core::{DType, Tensor};

use super::launch::Kernel;
use super::memory::{contiguous, empty};
use crate::Result;
use crate::ops::Traced;

const OP: &str = "copy_columns";

/// Copy of `width` numbers of every row: row lengths and first columns of source and target.
struct Columns {
    width: usize,
    from: (usize, usize),
    to: (usize, usize),
}

fn copy(y: &Tensor, x: &Tensor, rows: usize, c: &Columns) -> Result<()> {
    let kernel = Kernel::new(OP, "copy_columns", x, x.dtype())?.tensor(y)?.tensor(x)?.int(c.width);
    kernel.int(c.from.0).int(c.from.1).int(c.to.0).int(c.to.1).each(rows * c.width)
}

/// `len` places of dimension `axis`, from `start` on, without gaps.
pub(in crate::ops) fn slice(x: &Tensor, axis: usize, start: usize, len: usize) -> Result<Tensor> {
    let x = contiguous(x)?;
    let inner: usize = x.dims()[axis + 1..].iter().product();
    let rows: usize = x.dims()[..axis].iter().product();
    let mut shape = x.dims().to_vec();
    let from = (shape[axis] * inner, start * inner);
    shape[axis] = len;
    let y = empty(&x, shape, x.dtype())?;
    copy(&y, &x, rows, &Columns { width: len * inner, from, to: (len * inner, 0) })?;
    Ok(y)
}

/// The inverse: `x` in a dimension of `length` places, from `start` on, zeros elsewhere.
pub(in crate::ops) fn pad(x: &Tensor, axis: usize, start: usize, length: usize) -> Result<Tensor> {
    let x = contiguous(x)?;
    let inner: usize = x.dims()[axis + 1..].iter().product();
    let rows: usize = x.dims()[..axis].iter().product();
    let mut shape = x.dims().to_vec();
    let width = shape[axis] * inner;
    shape[axis] = length;
    let y = Tensor::zeros(shape, x.dtype(), x.device())?;
    copy(&y, &x, rows, &Columns { width, from: (width, 0), to: (length * inner, start * inner) })?;
    Ok(y)
}

/// Several tensors one after another along dimension `axis`; the other dimensions are equal.
pub(in crate::ops) fn cat(inputs: &[&Tensor], axis: usize) -> Result<Tensor> {
    let first = inputs[0];
    let rows: usize = first.dims()[..axis].iter().product();
    let mut shape = first.dims().to_vec();
    shape[axis] = inputs.iter().map(|x| x.dims()[axis]).sum();
    let all: usize = shape[axis..].iter().product();
    let value = empty(first, shape, first.dtype())?;
    let mut start = 0;
    for x in inputs {
        let x = contiguous(x)?;
        let width = x.dims()[axis..].iter().product();
        copy(&value, &x, rows, &Columns { width, from: (width, 0), to: (all, start) })?;
        start += width;
    }
    Ok(value)
}

/// Channels of several inputs; other dimensions are equal.
pub(in crate::ops) fn concat_channels(inputs: &[&Tensor]) -> Result<Traced> {
    let axis = inputs[0].rank() - 1;
    let widths: Vec<usize> = inputs.iter().map(|x| x.dims()[axis]).collect();
    Ok(Traced::new(cat(inputs, axis)?, move |dy, _| {
        let mut start = 0;
        let mut grads = Vec::with_capacity(widths.len());
        for &width in &widths {
            grads.push(Some(slice(dy, axis, start, width)?));
            start += width;
        }
        Ok(grads)
    }))
}

/// 2x2 squares as channels, column by column; edges are even.
pub(in crate::ops) fn merge_patches(x: &Tensor) -> Result<Traced> {
    let (n, h, w, c) = x.dims4()?;
    let squares = contiguous(x)?.reshape(vec![n, h / 2, 2, w / 2, 2, c])?;
    let value = contiguous(&squares.permute(vec![0, 1, 3, 4, 2, 5])?)?.reshape((n, h / 2, w / 2, 4 * c))?;
    Ok(Traced::new(value, move |dy, _| {
        let squares = contiguous(dy)?.reshape(vec![n, h / 2, w / 2, 2, 2, c])?;
        Ok(vec![Some(contiguous(&squares.permute(vec![0, 1, 4, 2, 3, 5])?)?.reshape((n, h, w, c))?)])
    }))
}

/// A tensor of indices on the GPU of `like`.
pub(super) fn indices(like: &Tensor, index: Vec<u32>) -> Result<Tensor> {
    debug_assert_ne!(like.dtype(), DType::U32);
    let n = index.len();
    Ok(Tensor::from_vec(index, n, like.device())?)
}
