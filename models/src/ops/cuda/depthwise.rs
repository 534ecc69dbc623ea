//! Depthwise convolution.

use candle_core::{DType, Tensor};

use super::converted;
use super::launch::Kernel;
use super::memory::{contiguous, empty, wide};
use super::rows::{column_sums, divide, sum_parts};
use crate::Result;
use crate::ops::Traced;
use crate::ops::kernels::depthwise::Depthwise;

const OP: &str = "depthwise_conv2d";
/// Pixels that a thread computes: `RUN` of the kernels.
const RUN: usize = 4;
/// Columns that a block of the weight's gradient takes.
const COLUMNS: usize = 32;

/// A kernel for each channel; shapes are right.
pub(in crate::ops) fn depthwise_conv2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    g: &Depthwise,
) -> Result<Traced> {
    let (own, bias_type, shape) = (w.dtype(), bias.map(Tensor::dtype), w.dims().to_vec());
    let (x, w, g) = (contiguous(x)?, pack(w, g)?, *g);
    let n = x.dim(0)?;
    let value = empty(&x, (n, g.ho, g.wo, g.c), x.dtype())?;
    let bias = bias.map(wide).transpose()?;
    let kernel = Kernel::new(OP, kernels(g.kw)[0], &x, x.dtype())?.tensor(&value)?.tensor(&x)?.tensor(&w)?;
    let kernel = kernel.maybe(bias.as_ref())?.flag(0).ints(&words(&g));
    kernel.each(n * g.ho * runs(g.wo) * g.c)?;
    Ok(Traced::new(value, move |dy, needs| {
        let dy = contiguous(dy)?;
        let mut grads = vec![None, None];
        if needs[0] {
            let dx = empty(&x, x.dims(), x.dtype())?;
            let kernel = Kernel::new(OP, kernels(g.kw)[0], &x, x.dtype())?.tensor(&dx)?.tensor(&dy)?;
            let kernel = kernel.tensor(&w)?.maybe(None)?.flag(1).ints(&words(&turned(&g)));
            kernel.each(n * g.h * runs(g.w) * g.c)?;
            grads[0] = Some(dx);
        }
        if needs[1] {
            grads[1] = Some(converted(&weight_gradient(&x, &dy, &shape, &g)?, own)?);
        }
        if let Some(dtype) = bias_type {
            grads.push(Some(converted(&column_sums(OP, &dy, g.c)?, dtype)?));
        }
        Ok(grads)
    }))
}

/// `[C, 1, KH, KW]` to `[KH * KW, C]`, in `f32`: all channels as those of one filter.
fn pack(w: &Tensor, g: &Depthwise) -> Result<Tensor> {
    let w = wide(w)?;
    let packed = empty(&w, (g.kh * g.kw, g.c), DType::F32)?;
    let kernel = Kernel::new(OP, "pack_weight", &w, DType::F32)?.tensor(&packed)?.tensor(&w)?;
    kernel.int(g.c).int(g.kh * g.kw).each(w.elem_count())?;
    Ok(packed)
}

/// Runs of a row.
fn runs(columns: usize) -> usize {
    columns.div_ceil(RUN)
}

/// Numbers of a row of the kernel that a thread has at a time.
fn at_a_time(kw: usize) -> usize {
    [7, 3].into_iter().find(|&k| kw.is_multiple_of(k)).unwrap_or(1)
}

/// The kernels for rows of that many numbers: for images, and for the gradient of the weight.
fn kernels(kw: usize) -> [&'static str; 2] {
    match at_a_time(kw) {
        7 => ["depthwise_7", "depthwise_sums_7"],
        3 => ["depthwise_3", "depthwise_sums_3"],
        _ => ["depthwise_1", "depthwise_sums_1"],
    }
}

fn weight_gradient(x: &Tensor, dy: &Tensor, shape: &[usize], g: &Depthwise) -> Result<Tensor> {
    let rows = x.dim(0)? * g.ho * runs(g.wo);
    let (places, blocks) = (g.kh * g.kw, g.kh * (g.kw / at_a_time(g.kw)));
    let strips = g.c.div_ceil(COLUMNS);
    let mut cut = divide(rows, strips * blocks);
    cut.grid.blocks = [strips, cut.count, blocks];
    let sums = empty(x, (cut.count, places, g.c), DType::F32)?;
    let kernel = Kernel::new(OP, kernels(g.kw)[1], x, x.dtype())?.tensor(&sums)?.tensor(x)?.tensor(dy)?;
    kernel.ints(&words(g)).int(rows).run(cut.grid)?;
    let packed = sum_parts(OP, &sums, cut.count, places * g.c)?;
    // Each channel is a filter of its own: `[1, places, C]` to `[1, C, places]`.
    let dw = empty(x, shape, DType::F32)?;
    let kernel = Kernel::new(OP, "unpack_weight", x, DType::F32)?.tensor(&dw)?.tensor(&packed)?;
    kernel.int(g.c).int(places).each(dw.elem_count())?;
    Ok(dw)
}

/// Computes the gradient of the image: a convolution of the result's gradient with the kernel
/// rotated by half a turn.
fn turned(g: &Depthwise) -> Depthwise {
    let tile = if g.tile == [g.h, g.w] { [g.ho, g.wo] } else { g.tile };
    let pad = [g.kh - 1 - g.pad[0], g.kw - 1 - g.pad[1]];
    Depthwise { h: g.ho, w: g.wo, ho: g.h, wo: g.w, pad, tile, ..*g }
}

fn words(g: &Depthwise) -> [usize; 11] {
    [g.h, g.w, g.c, g.kh, g.kw, g.pad[0], g.pad[1], g.ho, g.wo, g.tile[0], g.tile[1]]
}
