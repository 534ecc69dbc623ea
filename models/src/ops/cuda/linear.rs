//! Linear layer.

use candle_core::{DType, Tensor};

use super::converted;
use super::cublaslt;
use super::gemm::{Matrix, product, product_to};
use super::launch::Kernel;
use super::memory::{contiguous, empty, wide};
use super::rows::column_sums;
use crate::Result;
use crate::ops::Traced;

const OP: &str = "linear";

/// `x w^T + b`; shapes are right.
pub(in crate::ops) fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Traced> {
    let (outputs, inputs) = w.dims2()?;
    let (own, bias_type) = (w.dtype(), bias.map(Tensor::dtype));
    let x = contiguous(x)?;
    let w = converted(w, x.dtype())?;
    let rows = x.elem_count() / inputs;
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = outputs;
    let value = forward([rows, outputs, inputs], &x, &w, bias, &shape)?;
    Ok(Traced::new(value, move |dy, needs| {
        let dy = contiguous(dy)?;
        let mut grads = vec![None, None];
        let dys = Matrix::of(OP, &dy, outputs)?;
        if needs[0] {
            let factors = (dys, Matrix::of(OP, &w, inputs)?);
            grads[0] = Some(product_to(OP, &x, [rows, inputs, outputs], factors, x.dims(), x.dtype())?);
        }
        if needs[1] {
            let factors = (dys.t(), Matrix::of(OP, &x, inputs)?);
            let dw = product_to(OP, &x, [outputs, inputs, rows], factors, w.dims(), DType::F32)?;
            grads[1] = Some(converted(&dw, own)?);
        }
        if let Some(dtype) = bias_type {
            grads.push(Some(converted(&column_sums(OP, &dy, outputs)?, dtype)?));
        }
        Ok(grads)
    }))
}

fn forward(
    sizes: [usize; 3],
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    shape: &[usize],
) -> Result<Tensor> {
    let [_, outputs, inputs] = sizes;
    if let Some(bias) = bias {
        let value = empty(x, shape, x.dtype())?;
        if cublaslt::linear(OP, sizes, x, w, bias, &value)? {
            return Ok(value);
        }
    }
    let (value, begun) = begin(OP, x, shape, bias)?;
    let (left, right) = (Matrix::of(OP, x, inputs)?, Matrix::of(OP, w, inputs)?.t());
    product(OP, x, sizes, left, right, Matrix::of(OP, &value, outputs)?, begun)?;
    Ok(value)
}

/// The tensor for a product of `shape` in the type of `like`: rows of the bias, to which the
/// product is to be added, if there is one.
pub(super) fn begin(
    op: &'static str,
    like: &Tensor,
    shape: &[usize],
    bias: Option<&Tensor>,
) -> Result<(Tensor, bool)> {
    let y = empty(like, shape, like.dtype())?;
    if let Some(bias) = bias {
        let kernel = Kernel::new(op, "fill_bias", &y, y.dtype())?.tensor(&y)?.tensor(&wide(bias)?)?;
        kernel.int(bias.elem_count()).each(y.elem_count())?;
    }
    Ok((y, bias.is_some()))
}
