//! Batch norm and layer norm.

use candle_core::{DType, Tensor};

use super::converted;
use super::launch::{Grid, Kernel};
use super::memory::{contiguous, empty, unsupported, wide};
use super::rows::{joining, parts, sum_parts};
use crate::Result;
use crate::ops::Traced;

/// Mean and biased variance of each channel, in `f32`.
pub(in crate::ops) fn channel_statistics(x: &Tensor, c: usize) -> Result<(Tensor, Tensor)> {
    const OP: &str = "batch_norm";
    let x = contiguous(x)?;
    let rows = x.elem_count() / c;
    let cut = parts(rows, c);
    let partial = || empty(&x, (cut.count, c), DType::F32);
    let (means, squares) = (partial()?, partial()?);
    let kernel = Kernel::new(OP, "channel_moments", &x, x.dtype())?.tensor(&means)?.tensor(&squares)?;
    kernel.tensor(&x)?.int(rows).int(c).run(cut.grid)?;
    let (mean, variance) = (empty(&x, c, DType::F32)?, empty(&x, c, DType::F32)?);
    let kernel = Kernel::new(OP, "join_moments", &x, DType::F32)?.tensor(&mean)?.tensor(&variance)?;
    kernel.tensor(&means)?.tensor(&squares)?.int(cut.count).int(rows).int(c).run(joining(c))?;
    Ok((mean, variance))
}

/// Operations of a batch norm besides normalization.
#[derive(Clone, Copy)]
pub(in crate::ops) struct After<'a> {
    pub(in crate::ops) residual: Option<&'a Tensor>,
    pub(in crate::ops) relu: bool,
}

/// Normalizes by the given statistics; shapes are right.
pub(in crate::ops) fn batch_norm(
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    [mean, variance]: [&Tensor; 2],
    after: After,
    from_batch: bool,
    eps: f64,
) -> Result<Traced> {
    const OP: &str = "batch_norm";
    let types = [weight.dtype(), bias.dtype()];
    let x = contiguous(x)?;
    let c = weight.elem_count();
    let (weight, bias, mean, variance) = (wide(weight)?, wide(bias)?, wide(mean)?, wide(variance)?);
    let residual = after.residual.map(|r| converted(r, x.dtype())).transpose()?;
    let value = empty(&x, x.dims(), x.dtype())?;
    let kernel = Kernel::new(OP, "batch_norm_forward", &x, x.dtype())?.tensor(&value)?.tensor(&x)?;
    let kernel = kernel.tensor(&mean)?.tensor(&variance)?.tensor(&weight)?.tensor(&bias)?;
    let kernel = kernel.maybe(residual.as_ref())?.flag(u32::from(after.relu)).float(eps).int(c);
    kernel.each(x.elem_count())?;
    let (output, has_residual) = (after.relu.then(|| value.clone()), residual.is_some());
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let rows = x.elem_count() / c;
        let cut = parts(rows, c);
        let partial = || empty(&x, (cut.count, c), DType::F32);
        let (dweights, dbiases) = (partial()?, partial()?);
        let kernel =
            Kernel::new(OP, "batch_norm_sums", &x, x.dtype())?.tensor(&dweights)?.tensor(&dbiases)?;
        let kernel =
            kernel.tensor(&x)?.tensor(&dy)?.maybe(output.as_ref())?.tensor(&mean)?.tensor(&variance)?;
        kernel.float(eps).int(rows).int(c).run(cut.grid)?;
        let (dweight, dbias) =
            (sum_parts(OP, &dweights, cut.count, c)?, sum_parts(OP, &dbiases, cut.count, c)?);
        let dx = empty(&x, x.dims(), x.dtype())?;
        let dresidual = has_residual.then(|| empty(&x, x.dims(), x.dtype())).transpose()?;
        let kernel =
            Kernel::new(OP, "batch_norm_backward", &x, x.dtype())?.tensor(&dx)?.maybe(dresidual.as_ref())?;
        let kernel =
            kernel.tensor(&x)?.tensor(&dy)?.maybe(output.as_ref())?.tensor(&mean)?.tensor(&variance)?;
        let kernel = kernel.tensor(&weight)?.tensor(&dweight)?.tensor(&dbias)?.flag(u32::from(from_batch));
        kernel.float(eps).int(rows).int(c).spread(x.elem_count())?;
        let mut grads =
            vec![Some(dx), Some(converted(&dweight, types[0])?), Some(converted(&dbias, types[1])?)];
        if has_residual {
            grads.push(dresidual);
        }
        Ok(grads)
    }))
}

/// A warp for each of so many rows.
fn warps(rows: usize) -> Grid {
    const WARPS: usize = 8;
    Grid { blocks: [rows.div_ceil(WARPS), 1, 1], threads: 32 * WARPS as u32, shared: 0 }
}

/// The kernels of a layer norm for these types of input and value.
fn kernels(from: DType, to: DType) -> Result<([&'static str; 3], DType)> {
    const SAME: [&str; 3] = ["layer_norm_forward", "layer_norm_backward", "layer_norm_sums"];
    const FROM_WIDE: [&str; 3] =
        ["layer_norm_forward_from_wide", "layer_norm_backward_from_wide", "layer_norm_sums_from_wide"];
    const TO_WIDE: [&str; 3] =
        ["layer_norm_forward_to_wide", "layer_norm_backward_to_wide", "layer_norm_sums_to_wide"];
    match (from, to) {
        (from, to) if from == to => Ok((SAME, from)),
        (DType::F32, to) => Ok((FROM_WIDE, to)),
        (from, DType::F32) => Ok((TO_WIDE, from)),
        (_, to) => Err(unsupported("layer_norm", to)),
    }
}

/// Layer norm over the last dimension, with a value of type `to`; shapes are right.
pub(in crate::ops) fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
    to: DType,
) -> Result<Traced> {
    const OP: &str = "layer_norm";
    let (own, bias_type) = (weight.dtype(), bias.map(Tensor::dtype));
    let ([forward, backward, sums], stored) = kernels(x.dtype(), to)?;
    let (x, weight, bias) = (contiguous(x)?, wide(weight)?, bias.map(wide).transpose()?);
    let c = weight.elem_count();
    let rows = x.elem_count() / c;
    let value = empty(&x, x.dims(), to)?;
    let stats = empty(&x, (rows, 2), DType::F32)?;
    let kernel = Kernel::new(OP, forward, &x, stored)?.tensor(&value)?.tensor(&stats)?.tensor(&x)?;
    kernel.tensor(&weight)?.maybe(bias.as_ref())?.int(rows).int(c).float(eps).run(warps(rows))?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = empty(&x, x.dims(), x.dtype())?;
        let kernel = Kernel::new(OP, backward, &x, stored)?.tensor(&dx)?.tensor(&x)?.tensor(&dy)?;
        kernel.tensor(&weight)?.tensor(&stats)?.int(rows).int(c).run(warps(rows))?;
        let cut = parts(rows, c);
        let partial = || empty(&x, (cut.count, c), DType::F32);
        let (dweights, dbiases) = (partial()?, partial()?);
        let kernel = Kernel::new(OP, sums, &x, stored)?.tensor(&dweights)?.tensor(&dbiases)?.tensor(&x)?;
        kernel.tensor(&dy)?.tensor(&stats)?.int(rows).int(c).run(cut.grid)?;
        let mut grads = vec![Some(dx), Some(converted(&sum_parts(OP, &dweights, cut.count, c)?, own)?)];
        if let Some(dtype) = bias_type {
            grads.push(Some(converted(&sum_parts(OP, &dbiases, cut.count, c)?, dtype)?));
        }
        Ok(grads)
    }))
}
