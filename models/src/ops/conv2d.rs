//! Two-dimensional convolution.

use candle_core::Tensor;

use super::cast::converted;
use super::kernels::conv::{Geometry, Kernel};
use super::kernels::{Compute, Storage, rows};
use super::view::{Param, View, tensor};
use super::{Pullback, Traced, by_storage, cat, dims, expect_shape, on_gpu};
use crate::{Error, Result};

const OP: &str = "conv2d";

/// Parameters of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Pixels between neighboring kernel positions, in both directions; at least 1.
    pub stride: usize,
    /// Zero pixels added on each side.
    pub padding: usize,
    /// Pixels between neighboring places of the kernel, in both directions; at least 1.
    pub dilation: usize,
    /// Parts that channels are cut into, those of the image and those of the result alike; a part
    /// of the result sees its own part of the image alone. With as many as there are channels,
    /// [`depthwise_conv2d`] is faster.
    ///
    /// [`depthwise_conv2d`]: super::depthwise_conv2d
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Self { stride: 1, padding: 0, dilation: 1, groups: 1 }
    }
}

/// Convolution (cross-correlation, as everywhere in deep learning) of channels-last images.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - `w`: `[O, C / groups, KH, KW]`, the layout of weight files
/// - `bias`: `[O]`
/// - value: `[N, HO, WO, O]` with `HO = (H + 2 padding - dilation (KH - 1) - 1) / stride + 1`
///
/// The pullback gives `[x, w]`, or `[x, w, bias]` when there is a bias.
///
/// # Errors
/// When shapes do not fit, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Traced> {
    if config.groups != 1 {
        return grouped(x, w, bias, config);
    }
    let g = geometry(x, w, config)?;
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[g.o])?;
    }
    on_gpu!(x, super::cuda::conv2d(x, w, bias, &g));
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        let (w, bias) = (Param::of::<S>(w)?, bias.map(Param::of::<S>).transpose()?);
        // Packed once, for both passes.
        let kernel = Kernel::<S>::new(w.view(OP)?.slice()?, &g);
        let value = forward(&x, (&w, &kernel), bias.as_ref(), &g)?;
        Ok(Traced::adding(value, move |dy, needs, onto| {
            backward(&x, (&w, &kernel), bias.as_ref(), &g, (dy, onto), needs)
        }))
    })
}

fn geometry(x: &Tensor, w: &Tensor, config: Conv2dConfig) -> Result<Geometry> {
    let [n, h, width, c] = dims(OP, "an image [N, H, W, C]", x)?;
    let [o, wc, kh, kw] = dims(OP, "a weight [O, C, KH, KW]", w)?;
    if wc != c {
        return Err(Error::shape(OP, format!("a weight for {c} channels, [O, {c}, KH, KW]"), w.dims()));
    }
    let Conv2dConfig { stride, padding: pad, dilation, .. } = config;
    let reach = |kernel: usize| (kernel.max(1) - 1) * dilation + 1;
    let places = |size: usize, kernel: usize| {
        (size + 2 * pad).checked_sub(reach(kernel)).map(|s| s / stride.max(1) + 1)
    };
    match (places(h, kh), places(width, kw)) {
        (Some(ho), Some(wo)) if stride > 0 && dilation > 0 && w.elem_count() > 0 => {
            Ok(Geometry { n, h, w: width, c, o, kh, kw, stride, pad, dilation, ho, wo })
        }
        _ => {
            let (kh, kw) = (reach(kh), reach(kw));
            let expected = format!("an image of at least {kh}x{kw}, stride and dilation above 0");
            Err(Error::shape(OP, expected, x.dims()))
        }
    }
}

/// Each part of the channels by itself.
fn grouped(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Traced> {
    let groups = config.groups;
    let [_, _, _, c] = dims(OP, "an image [N, H, W, C]", x)?;
    let [o, ..] = dims::<4>(OP, "a weight [O, C / groups, KH, KW]", w)?;
    if groups == 0 || c % groups != 0 || o % groups != 0 {
        let expected = format!("channels of image and result ({o}) that {groups} groups share evenly");
        return Err(Error::shape(OP, expected, x.dims()));
    }
    if let Some(bias) = bias {
        expect_shape(OP, "a bias", bias, &[o])?;
    }
    let (inputs, outputs) = (c / groups, o / groups);
    let alone = Conv2dConfig { groups: 1, ..config };
    let part = |i: usize| {
        let bias = bias.map(|bias| bias.narrow(0, i * outputs, outputs)).transpose()?;
        let x = x.narrow(3, i * inputs, inputs)?;
        conv2d(&x, &w.narrow(0, i * outputs, outputs)?, bias.as_ref(), alone)
    };
    let parts = (0..groups).map(part).collect::<Result<Vec<_>>>()?;
    let values: Vec<&Tensor> = parts.iter().map(|part| &part.value).collect();
    let value = cat(&values, 3)?;
    let pullbacks: Vec<_> = parts.into_iter().map(|part| part.pullback).collect();
    Ok(Traced::new(value, move |dy, needs| {
        let pull = |(i, pullback): (usize, &Pullback)| pullback(&dy.narrow(3, i * outputs, outputs)?, needs);
        let grads = pullbacks.iter().enumerate().map(pull).collect::<Result<Vec<_>>>()?;
        // Of the image along its channels, of weight and bias along the results.
        let join = |input: usize| {
            let parts: Option<Vec<&Tensor>> = grads.iter().map(|g| g[input].as_ref()).collect();
            let axis = if input == 0 { 3 } else { 0 };
            parts.map(|parts| cat(&parts, axis)).transpose()
        };
        (0..needs.len()).map(join).collect()
    }))
}

fn forward<S: Storage<Real = T>, T: Compute>(
    x: &Tensor,
    (w, kernel): (&Param, &Kernel<S>),
    bias: Option<&Param>,
    g: &Geometry,
) -> Result<Tensor> {
    let (xv, wv) = (View::new(OP, x)?, w.view(OP)?);
    let bias = bias.map(|b| b.view(OP)).transpose()?;
    let bias = bias.as_ref().map(View::slice::<T>).transpose()?;
    let y = kernel.forward(xv.slice()?, wv.slice()?, bias, g);
    tensor(y, &[g.n, g.ho, g.wo, g.o])
}

fn backward<S: Storage<Real = T>, T: Compute>(
    x: &Tensor,
    (w, kernel): (&Param, &Kernel<S>),
    bias: Option<&Param>,
    g: &Geometry,
    (dy, onto): (&Tensor, Option<&Tensor>),
    needs: &[bool],
) -> Result<Vec<Option<Tensor>>> {
    let dy = dy.contiguous()?;
    let onto = onto.map(|onto| converted(&onto.contiguous()?, x.dtype())).transpose()?;
    let onto = onto.as_ref().map(|onto| View::new(OP, onto)).transpose()?;
    let (xv, wv, dyv) = (View::new(OP, x)?, w.view(OP)?, View::new(OP, &dy)?);
    let dys = dyv.slice::<S>()?;
    let mut grads = vec![None, None];
    if needs[0] {
        let onto = onto.as_ref().map(View::slice).transpose()?;
        grads[0] = Some(tensor(kernel.backward_data(dys, wv.slice()?, onto, g), x.dims())?);
    }
    if needs[1] {
        grads[1] = w.gradient(kernel.backward_weight(xv.slice()?, dys, g))?;
    }
    if let Some(bias) = bias {
        grads.push(bias.gradient(rows::column_sums(dys, g.o))?);
    }
    Ok(grads)
}
