//! Two-dimensional convolution.

use candle_core::Tensor;

use super::kernels::conv::{self, Geometry};
use super::kernels::{Element, rows};
use super::view::{View, tensor};
use super::{Traced, by_dtype, dims, expect_shape};
use crate::{Error, Result};

const OP: &str = "conv2d";

/// How a convolution's kernel moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Pixels between neighbouring kernel positions, in both directions; at least 1.
    pub stride: usize,
    /// Zero pixels added on each side.
    pub padding: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0 }
    }
}

/// Convolution (cross-correlation, as everywhere in deep learning) of channels-last pictures.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - `w`: `[O, C, KH, KW]`, the layout of weight files
/// - `bias`: `[O]`
/// - value: `[N, HO, WO, O]` with `HO = (H + 2 padding - KH) / stride + 1`
///
/// The pullback gives `[x, w]`, or `[x, w, bias]` when there is a bias.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32` or `f64` on the CPU.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Traced> {
    let g = geometry(x, w, config)?;
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[g.o])?;
    }
    let (x, w) = (x.contiguous()?, w.contiguous()?);
    by_dtype!("conv2d", x, T => {
        let value = forward::<T>(&x, &w, bias, &g)?;
        let has_bias = bias.is_some();
        Ok(Traced::new(value, move |dy, needs| backward::<T>(&x, &w, has_bias, &g, dy, needs)))
    })
}

fn geometry(x: &Tensor, w: &Tensor, config: Conv2dConfig) -> Result<Geometry> {
    let [n, h, width, c] = dims(OP, "a picture [N, H, W, C]", x)?;
    let [o, wc, kh, kw] = dims(OP, "a weight [O, C, KH, KW]", w)?;
    if wc != c {
        return Err(Error::shape(OP, format!("a weight for {c} channels, [O, {c}, KH, KW]"), w.dims()));
    }
    let Conv2dConfig { stride, padding: pad } = config;
    let places =
        |size: usize, kernel: usize| (size + 2 * pad).checked_sub(kernel).map(|s| s / stride.max(1) + 1);
    match (places(h, kh), places(width, kw)) {
        (Some(ho), Some(wo)) if stride > 0 && w.elem_count() > 0 => {
            Ok(Geometry { n, h, w: width, c, o, kh, kw, stride, pad, ho, wo })
        }
        _ => Err(Error::shape(OP, format!("a picture of at least {kh}x{kw} and a stride above 0"), x.dims())),
    }
}

fn forward<T: Element>(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, g: &Geometry) -> Result<Tensor> {
    let (xv, wv) = (View::new(OP, x)?, View::new(OP, w)?);
    let bias = bias.map(Tensor::contiguous).transpose()?;
    let bias = bias.as_ref().map(|b| View::new(OP, b)).transpose()?;
    let bias = bias.as_ref().map(View::slice::<T>).transpose()?;
    let y = conv::forward(xv.slice::<T>()?, &conv::pack_weight(wv.slice::<T>()?, g), bias, g);
    tensor(y, &[g.n, g.ho, g.wo, g.o])
}

fn backward<T: Element>(
    x: &Tensor,
    w: &Tensor,
    has_bias: bool,
    g: &Geometry,
    dy: &Tensor,
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let dy = dy.contiguous()?;
    let (xv, wv, dyv) = (View::new(OP, x)?, View::new(OP, w)?, View::new(OP, &dy)?);
    let dys = dyv.slice::<T>()?;
    let mut grads = Vec::with_capacity(3);
    grads.push(if needs[0] {
        let packed = conv::pack_weight(wv.slice::<T>()?, g);
        Some(tensor(conv::backward_data(dys, &packed, g), x.dims())?)
    } else {
        None
    });
    grads.push(if needs[1] {
        let packed = conv::backward_weight(xv.slice::<T>()?, dys, g);
        Some(tensor(conv::unpack_weight(packed, g), w.dims())?)
    } else {
        None
    });
    if has_bias {
        grads.push(Some(tensor(rows::column_sums(dys, g.o), &[g.o])?));
    }
    Ok(grads)
}
