//! Depthwise convolution.

use candle_core::Tensor;

use super::kernels::depthwise::{self as kernel, Depthwise};
use super::kernels::transpose::transpose_each;
use super::kernels::{Compute, Storage, rows};
use super::view::{Param, View, tensor};
use super::{Traced, by_storage, dims, expect_shape, on_gpu};
use crate::{Error, Result};

const OP: &str = "depthwise_conv2d";

/// Convolution of channels-last images with a kernel for each channel, stride 1, zero padding.
///
/// With `tile`, the image is cut into tiles of that many rows and columns, each padded on its own
/// (the local position encoding of CSWin).
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - `w`: `[C, 1, KH, KW]`, the layout of weight files
/// - `bias`: `[C]`
/// - value: `[N, H + 2 padding - KH + 1, W + 2 padding - KW + 1, C]`
///
/// The pullback gives `[x, w]`, or `[x, w, bias]` when there is a bias.
///
/// # Errors
/// When shapes do not fit, the padding is not below the kernel, tiles change the image's size or do
/// not divide it, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn depthwise_conv2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    padding: usize,
    tile: Option<[usize; 2]>,
) -> Result<Traced> {
    let g = geometry(x, w, padding, tile)?;
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[g.c])?;
    }
    on_gpu!(x, super::cuda::depthwise_conv2d(x, w, bias, &g));
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        let (w, bias) = (Param::of::<S>(w)?, bias.map(Param::of::<S>).transpose()?);
        let value = forward::<S, _>(&x, &w, bias.as_ref(), &g)?;
        Ok(Traced::new(value, move |dy, needs| backward::<S, _>(&x, &w, bias.as_ref(), &g, dy, needs)))
    })
}

fn geometry(x: &Tensor, w: &Tensor, padding: usize, tile: Option<[usize; 2]>) -> Result<Depthwise> {
    let [_, h, width, c] = dims(OP, "an image [N, H, W, C]", x)?;
    let [wc, one, kh, kw] = dims(OP, "a weight [C, 1, KH, KW]", w)?;
    if wc != c || one != 1 {
        return Err(Error::shape(OP, format!("a weight for {c} channels, [{c}, 1, KH, KW]"), w.dims()));
    }
    let places = |size: usize, kernel: usize| {
        (size + 2 * padding + 1).checked_sub(kernel).filter(|&places| places > 0 && padding < kernel)
    };
    let (Some(ho), Some(wo)) = (places(h, kh), places(width, kw)) else {
        let expected = format!("an image that a {kh}x{kw} kernel with padding {padding} below it fits");
        return Err(Error::shape(OP, expected, x.dims()));
    };
    let fits = |[th, tw]: [usize; 2]| {
        [th, tw] == [h, width]
            || (th > 0
                && tw > 0
                && h.is_multiple_of(th)
                && width.is_multiple_of(tw)
                && [ho, wo] == [h, width])
    };
    let tile = tile.unwrap_or([h, width]);
    if x.elem_count() == 0 || !fits(tile) {
        let expected = format!("an image of whole tiles of {}x{} that keeps its size", tile[0], tile[1]);
        return Err(Error::shape(OP, expected, x.dims()));
    }
    Ok(Depthwise { h, w: width, c, kh, kw, pad: [padding; 2], ho, wo, tile })
}

fn forward<S: Storage<Real = T>, T: Compute>(
    x: &Tensor,
    w: &Param,
    bias: Option<&Param>,
    g: &Depthwise,
) -> Result<Tensor> {
    let (xv, packed) = (View::new(OP, x)?, pack::<T>(w, g)?);
    let bias = bias.map(|b| b.view(OP)).transpose()?;
    let bias = bias.as_ref().map(View::slice).transpose()?;
    let y = kernel::forward(xv.slice::<S>()?, &packed, bias, g);
    tensor(y, &[x.dims()[0], g.ho, g.wo, g.c])
}

/// `[C, 1, KH, KW]` to `[KH, KW, C]`.
fn pack<T: Compute>(w: &Param, g: &Depthwise) -> Result<Vec<T>> {
    Ok(transpose_each(w.view(OP)?.slice()?, 1, g.c, g.kh * g.kw))
}

fn backward<S: Storage<Real = T>, T: Compute>(
    x: &Tensor,
    w: &Param,
    bias: Option<&Param>,
    g: &Depthwise,
    dy: &Tensor,
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let dy = dy.contiguous()?;
    let (xv, dyv) = (View::new(OP, x)?, View::new(OP, &dy)?);
    let dys = dyv.slice::<S>()?;
    let mut grads = vec![None, None];
    if needs[0] {
        grads[0] = Some(tensor(kernel::backward_data(dys, &pack::<T>(w, g)?, g), x.dims())?);
    }
    if needs[1] {
        let packed: Vec<T> = kernel::backward_weight(xv.slice::<S>()?, dys, g);
        grads[1] = w.gradient::<T>(transpose_each(&packed, 1, g.kh * g.kw, g.c))?;
    }
    if let Some(bias) = bias {
        grads.push(bias.gradient(rows::column_sums(dys, g.c))?);
    }
    Ok(grads)
}
