//! Linear layer.

use candle_core::Tensor;

use super::kernels::product::{Left, Right, product, product_split_k};
use super::kernels::{Compute, Storage, rows};
use super::view::{Param, View, tensor};
use super::{Traced, by_storage, expect_shape, on_gpu};
use crate::{Error, Result};

const OP: &str = "linear";

/// `y = x w^T + b` over the last dimension.
///
/// # Shapes
/// - `x`: `[..., inputs]`
/// - `w`: `[outputs, inputs]`
/// - `bias`: `[outputs]`
/// - value: `[..., outputs]`
///
/// The pullback gives `[x, w]`, or `[x, w, bias]` when there is a bias.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Traced> {
    let [outputs, inputs] = super::dims(OP, "a weight [outputs, inputs]", w)?;
    if x.dims().last() != Some(&inputs) {
        return Err(Error::shape(OP, format!("an input [..., {inputs}]"), x.dims()));
    }
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[outputs])?;
    }
    on_gpu!(x, super::cuda::linear(x, w, bias));
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        let (w, bias) = (Param::of::<S>(w)?, bias.map(Param::of::<S>).transpose()?);
        let value = forward::<S, _>(&x, &w, bias.as_ref())?;
        Ok(Traced::new(value, move |dy, needs| backward::<S, _>(&x, &w, bias.as_ref(), dy, needs)))
    })
}

fn forward<S: Storage<Real = T>, T: Compute>(x: &Tensor, w: &Param, bias: Option<&Param>) -> Result<Tensor> {
    let [outputs, inputs] = [w.dims()[0], w.dims()[1]];
    let (xv, wv) = (View::new(OP, x)?, w.view(OP)?);
    let (xs, ws) = (xv.slice::<S>()?, wv.slice::<T>()?);
    let m = xs.len() / inputs;
    let bias = bias.map(|b| b.view(OP)).transpose()?;
    let bias = bias.as_ref().map(View::slice::<T>).transpose()?;
    let y: Vec<S> = product((m, outputs, inputs), Left::Rows(xs, inputs), Right::Columns(ws, inputs), bias);
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = outputs;
    tensor(y, &shape)
}

fn backward<S: Storage<Real = T>, T: Compute>(
    x: &Tensor,
    w: &Param,
    bias: Option<&Param>,
    dy: &Tensor,
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let [outputs, inputs] = [w.dims()[0], w.dims()[1]];
    let dy = dy.contiguous()?;
    let (xv, wv, dyv) = (View::new(OP, x)?, w.view(OP)?, View::new(OP, &dy)?);
    let (xs, ws, dys) = (xv.slice::<S>()?, wv.slice::<T>()?, dyv.slice::<S>()?);
    let m = xs.len() / inputs;
    let mut grads = vec![None, None];
    if needs[0] {
        let dx: Vec<S> =
            product((m, inputs, outputs), Left::Rows(dys, outputs), Right::Rows(ws, inputs), None);
        grads[0] = Some(tensor(dx, x.dims())?);
    }
    if needs[1] {
        let dw = product_split_k((outputs, inputs, m), Left::Columns(dys, outputs), Right::Rows(xs, inputs));
        grads[1] = w.gradient(dw)?;
    }
    if let Some(bias) = bias {
        grads.push(bias.gradient(rows::column_sums(dys, outputs))?);
    }
    Ok(grads)
}
