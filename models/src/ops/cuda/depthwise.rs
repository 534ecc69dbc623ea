//! Depthwise convolution.

use candle_core::{DType, Tensor};

use super::columns::{column_sums, parts, sum_parts};
use super::converted;
use super::launch::Kernel;
use super::memory::{contiguous, empty, wide};
use crate::Result;
use crate::ops::Traced;
use crate::ops::kernels::depthwise::Depthwise;

const OP: &str = "depthwise_conv2d";

/// A kernel for each channel; shapes are right.
pub(in crate::ops) fn depthwise_conv2d(
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    g: &Depthwise,
) -> Result<Traced> {
    let (own, bias_type) = (w.dtype(), bias.map(Tensor::dtype));
    let (x, w, g) = (contiguous(x)?, wide(w)?, *g);
    let n = x.dim(0)?;
    let value = empty(&x, (n, g.ho, g.wo, g.c), x.dtype())?;
    let bias = bias.map(wide).transpose()?;
    let kernel =
        Kernel::new(OP, "depthwise_forward", &x, x.dtype())?.tensor(&value)?.tensor(&x)?.tensor(&w)?;
    kernel.maybe(bias.as_ref())?.ints(&words(&g)).each(value.elem_count())?;
    Ok(Traced::new(value, move |dy, needs| {
        let dy = contiguous(dy)?;
        let mut grads = vec![None, None];
        if needs[0] {
            let dx = empty(&x, x.dims(), x.dtype())?;
            let kernel = Kernel::new(OP, "depthwise_backward", &x, x.dtype())?.tensor(&dx)?.tensor(&dy)?;
            kernel.tensor(&w)?.ints(&words(&g)).each(dx.elem_count())?;
            grads[0] = Some(dx);
        }
        if needs[1] {
            grads[1] = Some(converted(&weight_gradient(&x, &dy, &w, &g)?, own)?);
        }
        if let Some(dtype) = bias_type {
            grads.push(Some(converted(&column_sums(OP, &dy, g.c)?, dtype)?));
        }
        Ok(grads)
    }))
}

fn weight_gradient(x: &Tensor, dy: &Tensor, w: &Tensor, g: &Depthwise) -> Result<Tensor> {
    let rows = dy.elem_count() / g.c;
    let places = g.kh * g.kw;
    let mut cut = parts(rows, g.c * places);
    cut.grid.blocks = [g.c.div_ceil(32), cut.count, places];
    let sums = empty(x, (cut.count, places, g.c), DType::F32)?;
    let kernel = Kernel::new(OP, "depthwise_sums", x, x.dtype())?.tensor(&sums)?.tensor(x)?.tensor(dy)?;
    kernel.ints(&words(g)).int(rows).run(cut.grid)?;
    let packed = sum_parts(OP, &sums, cut.count, places * g.c)?;
    // Each channel is a filter of its own: `[1, places, C]` to `[1, C, places]`.
    let dw = empty(x, w.dims(), DType::F32)?;
    let kernel = Kernel::new(OP, "unpack_weight", x, DType::F32)?.tensor(&dw)?.tensor(&packed)?;
    kernel.int(g.c).int(places).each(dw.elem_count())?;
    Ok(dw)
}

fn words(g: &Depthwise) -> [usize; 10] {
    [g.h, g.w, g.c, g.kh, g.kw, g.pad[0], g.ho, g.wo, g.tile[0], g.tile[1]]
}
