//! Activations.

use candle_core::{DType, Tensor};

use super::launch::{Grid, Kernel};
use super::memory::{contiguous, empty, wide};
use super::rows::sum_parts;
use crate::Result;
use crate::ops::Traced;

/// An element-wise function: the op's name, and its kernels.
pub(in crate::ops) fn pointwise(
    (op, [forward, backward]): (&'static str, [&'static str; 2]),
    x: &Tensor,
) -> Result<Traced> {
    let x = contiguous(x)?;
    let value = empty(&x, x.dims(), x.dtype())?;
    Kernel::new(op, forward, &x, x.dtype())?.tensor(&value)?.tensor(&x)?.each(x.elem_count())?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = empty(&x, x.dims(), x.dtype())?;
        let kernel = Kernel::new(op, backward, &x, x.dtype())?;
        kernel.tensor(&dx)?.tensor(&x)?.tensor(&dy)?.each(x.elem_count())?;
        Ok(vec![Some(dx)])
    }))
}

/// `scale * max(x, 0)^2 + bias`.
pub(in crate::ops) fn star_relu(x: &Tensor, scale: &Tensor, bias: &Tensor) -> Result<Traced> {
    const OP: &str = "star_relu";
    /// Blocks of the backward pass, and so parts of the sums.
    const PARTS: usize = 512;
    let types = [scale.dtype(), bias.dtype()];
    let (x, scale, bias) = (contiguous(x)?, wide(scale)?, wide(bias)?);
    let value = empty(&x, x.dims(), x.dtype())?;
    let kernel = Kernel::new(OP, "star_relu_forward", &x, x.dtype())?.tensor(&value)?.tensor(&x)?;
    kernel.tensor(&scale)?.tensor(&bias)?.each(x.elem_count())?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = empty(&x, x.dims(), x.dtype())?;
        let parts = empty(&x, (PARTS, 2), DType::F32)?;
        let kernel = Kernel::new(OP, "star_relu_backward", &x, x.dtype())?.tensor(&dx)?.tensor(&parts)?;
        let kernel = kernel.tensor(&x)?.tensor(&dy)?.tensor(&scale)?.int(x.elem_count());
        kernel.run(Grid { blocks: [PARTS, 1, 1], threads: 256, shared: 0 })?;
        let sums = sum_parts(OP, &parts, PARTS, 2)?;
        // Copies: gradients of two parameters must not share memory.
        let gradient = |i: usize| -> Result<Option<Tensor>> {
            let one = empty(&x, 1, DType::F32)?;
            let kernel = Kernel::new(OP, "copy_columns", &x, DType::F32)?.tensor(&one)?.tensor(&sums)?;
            kernel.int(1).int(2).int(i).int(1).int(0).each(1)?;
            Ok(Some(super::converted(&one, types[i])?))
        };
        Ok(vec![Some(dx), gradient(0)?, gradient(1)?])
    }))
}
