//! Batch norm and layer norm.

use candle_core::{DType, Tensor};

use super::converted;
use super::launch::{Grid, Kernel};
use super::memory::{address, contiguous, empty, unsupported, wide};
use super::rows::{joining, parts, sum_two_parts};
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
    kernel
        .tensor(&means)?
        .tensor(&squares)?
        .int(cut.count)
        .int(rows)
        .int(c)
        .run(Grid { threads: 1024, ..joining(c) })?;
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
    let rows = x.elem_count() / c;
    let has_residual = residual.is_some();
    let (rectified, output) = (u32::from(after.relu), (after.relu && has_residual).then(|| value.clone()));
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let cut = parts(rows, c);
        let partial = || empty(&x, (cut.count, c), DType::F32);
        let (dweights, dbiases) = (partial()?, partial()?);
        let kernel =
            Kernel::new(OP, "batch_norm_sums", &x, x.dtype())?.tensor(&dweights)?.tensor(&dbiases)?;
        let kernel =
            kernel.tensor(&x)?.tensor(&dy)?.maybe(output.as_ref())?.tensor(&mean)?.tensor(&variance)?;
        let kernel = kernel.tensor(&weight)?.tensor(&bias)?.flag(rectified);
        kernel.float(eps).int(rows).int(c).run(cut.grid)?;
        let [dweight, dbias] = sum_two_parts(OP, [&dweights, &dbiases], cut.count, c)?;
        let dx = empty(&x, x.dims(), x.dtype())?;
        let dresidual = has_residual.then(|| empty(&x, x.dims(), x.dtype())).transpose()?;
        let kernel =
            Kernel::new(OP, "batch_norm_backward", &x, x.dtype())?.tensor(&dx)?.maybe(dresidual.as_ref())?;
        let kernel =
            kernel.tensor(&x)?.tensor(&dy)?.maybe(output.as_ref())?.tensor(&mean)?.tensor(&variance)?;
        let kernel = kernel.tensor(&weight)?.tensor(&bias)?.tensor(&dweight)?.tensor(&dbias)?;
        let kernel = kernel.flag(rectified).flag(u32::from(from_batch));
        kernel.float(eps).int(rows).int(c).spread(x.elem_count() / 8)?;
        let mut grads =
            vec![Some(dx), Some(converted(&dweight, types[0])?), Some(converted(&dbias, types[1])?)];
        if has_residual {
            grads.push(dresidual);
        }
        Ok(grads)
    }))
}

/// Warps of a block of a layer norm.
const WARPS: usize = 8;
/// Rows of a warp, at least, that adds up gradients over its rows.
const LEAST_ROWS: usize = 8;
/// Blocks, at most, that do: their sums must be added up afterwards.
const MOST_BLOCKS: usize = 528;
/// Alignment of addresses from which four numbers are taken at a time.
const ALIGNMENT: u64 = 16;

/// Tells if numbers of a tensor can be taken four at a time.
fn is_aligned(t: &Tensor) -> bool {
    address("layer_norm", t).is_ok_and(|at| at.is_multiple_of(ALIGNMENT))
}

/// A warp for each of so many rows.
fn warps(rows: usize) -> Grid {
    Grid { blocks: [rows.div_ceil(WARPS), 1, 1], threads: 32 * WARPS as u32, shared: 0 }
}

/// The kernels of a layer norm.
struct LayerNorm {
    forward: &'static str,
    backward: &'static str,
    sums: &'static str,
    /// Gradients of all three at once, for rows of up to so many numbers; the first that fits is
    /// used.
    both: [(usize, &'static str); 3],
}

/// The kernels whose names have `$suffix`.
macro_rules! layer_norm_kernels {
    ($suffix:literal) => {
        LayerNorm {
            forward: concat!("layer_norm_forward", $suffix),
            backward: concat!("layer_norm_backward", $suffix),
            sums: concat!("layer_norm_sums", $suffix),
            both: [
                (256, concat!("layer_norm_both", $suffix, "_2")),
                (512, concat!("layer_norm_both", $suffix, "_4")),
                (1024, concat!("layer_norm_both", $suffix, "_8")),
            ],
        }
    };
}

/// The kernels for these types of input and value, and the type that activations are stored as.
fn kernels(from: DType, to: DType) -> Result<(LayerNorm, DType)> {
    match (from, to) {
        (from, to) if from == to => Ok((layer_norm_kernels!(""), from)),
        (DType::F32, to) => Ok((layer_norm_kernels!("_from_wide"), to)),
        (from, DType::F32) => Ok((layer_norm_kernels!("_to_wide"), from)),
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
    let (kernels, stored) = kernels(x.dtype(), to)?;
    let (x, weight, bias) = (contiguous(x)?, wide(weight)?, bias.map(wide).transpose()?);
    let c = weight.elem_count();
    let rows = x.elem_count() / c;
    let value = empty(&x, x.dims(), to)?;
    let stats = empty(&x, (rows, 2), DType::F32)?;
    let kernel = Kernel::new(OP, kernels.forward, &x, stored)?.tensor(&value)?.tensor(&stats)?.tensor(&x)?;
    kernel.tensor(&weight)?.maybe(bias.as_ref())?.int(rows).int(c).float(eps).run(warps(rows))?;
    Ok(Traced::adding(value, move |dy, _, onto| {
        let dy = contiguous(dy)?;
        let onto = onto.map(|onto| converted(onto, x.dtype())).transpose()?;
        let dx = empty(&x, x.dims(), x.dtype())?;
        let aligned = [&dx, &x, &dy, &weight].into_iter().chain(&onto).all(is_aligned);
        let both = kernels.both.iter().find(|(most, _)| aligned && c.is_multiple_of(4) && c <= *most);
        let cut = parts(rows, c);
        let count = match both {
            Some(_) => rows.div_ceil(WARPS * LEAST_ROWS).clamp(1, MOST_BLOCKS),
            None => cut.count,
        };
        let partial = || empty(&x, (count, c), DType::F32);
        let (dweights, dbiases) = (partial()?, partial()?);
        if let Some((_, both)) = both {
            let kernel =
                Kernel::new(OP, both, &x, stored)?.tensor(&dx)?.tensor(&dweights)?.tensor(&dbiases)?;
            let kernel = kernel.tensor(&x)?.tensor(&dy)?.tensor(&weight)?.tensor(&stats)?;
            let kernel = kernel.maybe(onto.as_ref())?.int(rows).int(c);
            kernel.run(Grid { blocks: [count, 1, 1], ..warps(rows) })?;
        } else {
            let kernel =
                Kernel::new(OP, kernels.backward, &x, stored)?.tensor(&dx)?.tensor(&x)?.tensor(&dy)?;
            kernel
                .tensor(&weight)?
                .tensor(&stats)?
                .maybe(onto.as_ref())?
                .int(rows)
                .int(c)
                .run(warps(rows))?;
            let kernel = Kernel::new(OP, kernels.sums, &x, stored)?.tensor(&dweights)?.tensor(&dbiases)?;
            kernel.tensor(&x)?.tensor(&dy)?.tensor(&stats)?.int(rows).int(c).run(cut.grid)?;
        }
        let [dweight, dbias] = sum_two_parts(OP, [&dweights, &dbiases], count, c)?;
        let mut grads = vec![Some(dx), Some(converted(&dweight, own)?)];
        if let Some(dtype) = bias_type {
            grads.push(Some(converted(&dbias, dtype)?));
        }
        Ok(grads)
    }))
}
