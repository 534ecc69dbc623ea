//! Linear layer.

use candle_core::Tensor;

use super::kernels::product::{Left, Right, product, product_deep};
use super::kernels::{Element, rows};
use super::view::{View, tensor};
use super::{Traced, by_dtype, expect_shape};
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
/// When shapes do not fit, or tensors are not `f32` or `f64` on the CPU.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Traced> {
    let [outputs, inputs] = super::dims(OP, "a weight [outputs, inputs]", w)?;
    if x.dims().last() != Some(&inputs) {
        return Err(Error::shape(OP, format!("an input [..., {inputs}]"), x.dims()));
    }
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[outputs])?;
    }
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    by_dtype!("linear", x, T => {
        let value = forward::<T>(&x, &w, bias.as_ref())?;
        let has_bias = bias.is_some();
        Ok(Traced::new(value, move |dy, needs| backward::<T>(&x, &w, has_bias, dy, needs)))
    })
}

fn forward<T: Element>(x: &Tensor, w: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let (outputs, inputs) = w.dims2()?;
    let (xv, wv) = (View::new(OP, x)?, View::new(OP, w)?);
    let (xs, ws) = (xv.slice::<T>()?, wv.slice::<T>()?);
    let m = xs.len() / inputs;
    let bias = bias.map(|b| View::new(OP, b)).transpose()?;
    let bias = bias.as_ref().map(View::slice::<T>).transpose()?;
    let y = product((m, outputs, inputs), Left::Rows(xs, inputs), Right::Columns(ws, inputs), bias);
    let mut shape = x.dims().to_vec();
    shape[x.rank() - 1] = outputs;
    tensor(y, &shape)
}

fn backward<T: Element>(
    x: &Tensor,
    w: &Tensor,
    has_bias: bool,
    dy: &Tensor,
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let (outputs, inputs) = w.dims2()?;
    let dy = dy.contiguous()?;
    let (xv, wv, dyv) = (View::new(OP, x)?, View::new(OP, w)?, View::new(OP, &dy)?);
    let (xs, ws, dys) = (xv.slice::<T>()?, wv.slice::<T>()?, dyv.slice::<T>()?);
    let m = xs.len() / inputs;
    let mut grads = Vec::with_capacity(3);
    grads.push(if needs[0] {
        let dx = product((m, inputs, outputs), Left::Rows(dys, outputs), Right::Rows(ws, inputs), None);
        Some(tensor(dx, x.dims())?)
    } else {
        None
    });
    grads.push(if needs[1] {
        let dw = product_deep((outputs, inputs, m), Left::Columns(dys, outputs), Right::Rows(xs, inputs));
        Some(tensor(dw, w.dims())?)
    } else {
        None
    });
    if has_bias {
        grads.push(Some(tensor(rows::column_sums(dys, outputs), &[outputs])?));
    }
    Ok(grads)
}
