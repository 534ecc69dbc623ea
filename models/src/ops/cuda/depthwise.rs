//! Depthwise convolution.

use candle_core::{DType, Tensor};

use super::converted;
use super::launch::Kernel;
use super::memory::{address, contiguous, empty, wide};
use super::rows::{column_sums, divide, sum_parts};
use crate::Result;
use crate::ops::Traced;
use crate::ops::kernels::depthwise::Depthwise;

const OP: &str = "depthwise_conv2d";
/// Pixels that a thread computes: `RUN` of the kernels.
const RUN: usize = 4;
/// Channels that a block of the weight's gradient takes.
const COLUMNS: usize = 32;
/// Runs that a part of the weight's gradient has at least.
const LEAST_RUNS: usize = 64;
/// Pixels that a thread computes with a square filter: `SQUARE_ROWS` and `SQUARE_COLUMNS` of the
/// kernels.
const SQUARE_ROWS: usize = 2;
const SQUARE_COLUMNS: usize = 7;
/// Threads of a block that sums for a square filter, and how many of them share a channel:
/// `SQUARE_THREADS` and `SQUARE_LANES` of the kernels.
const SQUARE_THREADS: u32 = 128;
const SQUARE_LANES: usize = 8;
/// Bytes that an address must be a multiple of, for two numbers at a time.
const PAIR: u64 = 8;

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
    convolve(&value, &x, &w, bias.as_ref(), false, &g)?;
    Ok(Traced::new(value, move |dy, needs| {
        let dy = contiguous(dy)?;
        let mut grads = vec![None, None];
        if needs[0] {
            let dx = empty(&x, x.dims(), x.dtype())?;
            convolve(&dx, &dy, &w, None, true, &turned(&g))?;
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

/// Writes the convolution of `x` with the packed weight, or with its half turn, to `y`.
fn convolve(
    y: &Tensor,
    x: &Tensor,
    w: &Tensor,
    bias: Option<&Tensor>,
    flipped: bool,
    g: &Depthwise,
) -> Result<()> {
    let square = square(g, [x, y])?;
    let name = square.as_ref().map_or(kernels(g.kw)[0], |square| square.convolve);
    let kernel = Kernel::new(OP, name, x, x.dtype())?.tensor(y)?.tensor(x)?.tensor(w)?;
    let kernel = kernel.maybe(bias)?.flag(u32::from(flipped)).ints(&words(g));
    let images = x.dim(0)?;
    kernel.each(match square {
        Some(_) => images * g.ho.div_ceil(SQUARE_ROWS) * g.wo.div_ceil(SQUARE_COLUMNS) * (g.c / 2),
        None => images * g.ho * runs(g.wo) * g.c,
    })
}

/// The kernels for square filters.
struct Square {
    convolve: &'static str,
    sums: &'static str,
}

/// Returns the kernels for square filters if they take this convolution of these tensors.
fn square(g: &Depthwise, tensors: [&Tensor; 2]) -> Result<Option<Square>> {
    let square = match (g.kh, g.kw) {
        (3, 3) => Square { convolve: "depthwise_square_3", sums: "depthwise_square_sums_3" },
        (7, 7) => Square { convolve: "depthwise_square_7", sums: "depthwise_square_sums_7" },
        _ => return Ok(None),
    };
    let aligned = |t: &Tensor| Ok::<_, crate::Error>(address(OP, t)?.is_multiple_of(PAIR));
    let [a, b] = tensors;
    let whole = g.tile == [g.h, g.w] && g.c.is_multiple_of(2);
    Ok((whole && aligned(a)? && aligned(b)?).then_some(square))
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
    let (rows, places, strips) = (x.dim(0)? * g.ho, g.kh * g.kw, g.c.div_ceil(COLUMNS));
    let (name, rows, cut) = match square(g, [x, dy])? {
        Some(square) => {
            let rows = rows * g.wo.div_ceil(SQUARE_COLUMNS);
            let mut cut = divide(rows, strips, SQUARE_LANES);
            cut.grid.threads = SQUARE_THREADS;
            (square.sums, rows, cut)
        }
        None => {
            let (rows, blocks) = (rows * runs(g.wo), g.kh * (g.kw / at_a_time(g.kw)));
            let mut cut = divide(rows, strips * blocks, LEAST_RUNS);
            cut.grid.blocks = [strips, cut.count, blocks];
            (kernels(g.kw)[1], rows, cut)
        }
    };
    let sums = empty(x, (cut.count, places, g.c), DType::F32)?;
    let kernel = Kernel::new(OP, name, x, x.dtype())?.tensor(&sums)?.tensor(x)?.tensor(dy)?;
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
