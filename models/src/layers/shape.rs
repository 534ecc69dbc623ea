//! Layers that move, choose or pool values: no parameters, next to no arithmetic.

use crate::graph::{Context, Op, Variable};
use crate::ops;
use crate::{Error, Result};

/// Rows and columns of a map `[N, H, W, C]` as one sequence `[N, H W, C]`.
///
/// # Errors
/// When `x` is no map.
pub fn flatten(cx: &mut Context, x: &Variable) -> Result<Variable> {
    let &[n, h, w, c] = x.dims() else { return Err(Error::shape("flatten", "a map [N, H, W, C]", x.dims())) };
    cx.reshape(x, &[n, h * w, c])
}

/// Tokens `[N, H W, C]` as a map `[N, H, W, C]`.
///
/// # Errors
/// When there are not `H W` tokens.
pub fn unflatten(cx: &mut Context, x: &Variable, [h, w]: [usize; 2]) -> Result<Variable> {
    let (n, c) = (x.dims()[0], x.dims()[x.dims().len() - 1]);
    cx.reshape(x, &[n, h, w, c])
}

/// Tokens of the whole image before the patches `[N, L, C]`, and the position embedding added.
///
/// # Errors
/// When shapes do not fit.
pub fn join_tokens(
    cx: &mut Context,
    patches: &Variable,
    first: &[Variable],
    position: &Variable,
) -> Result<Variable> {
    let patches = &cx.to_residual_dtype(patches)?;
    let inputs: Vec<&Variable> = [patches].into_iter().chain(first).chain([position]).collect();
    let &[n, l, c] = patches.dims() else {
        return Err(Error::shape("join_tokens", "patches [N, L, C]", patches.dims()));
    };
    cx.apply(Op::JoinTokens, &inputs, &[n, l + first.len(), c], |_| {
        let first: Vec<_> = first.iter().map(Variable::tensor).collect();
        ops::join_tokens(patches.tensor(), &first, position.tensor())
    })
}

/// `count` tokens from `start` on, `[N, count, C]`.
///
/// # Errors
/// When there are not so many.
pub fn select_tokens(cx: &mut Context, x: &Variable, start: usize, count: usize) -> Result<Variable> {
    let shape = [x.dims()[0], count, x.dims()[x.dims().len() - 1]];
    cx.apply(Op::SelectTokens { start }, &[x], &shape, |_| ops::select_tokens(x.tensor(), start, count))
}

/// `len` channels from `start` on.
///
/// # Errors
/// When there are not so many.
pub fn slice_channels(cx: &mut Context, x: &Variable, start: usize, len: usize) -> Result<Variable> {
    let shape = with_channels(x, len);
    cx.apply(Op::SliceChannels { start }, &[x], &shape, |_| ops::slice_channels(x.tensor(), start, len))
}

/// Channels of several inputs, one after another.
///
/// # Errors
/// When the other dimensions differ, or there is no input.
pub fn concat_channels(cx: &mut Context, mut inputs: Vec<Variable>) -> Result<Variable> {
    if inputs.len() == 1 {
        return Ok(inputs.swap_remove(0));
    }
    let Some(first) = inputs.first() else {
        return Err(Error::shape("concat_channels", "at least one input [..., C]", &[]));
    };
    let shape = with_channels(first, inputs.iter().filter_map(|x| x.dims().last()).sum());
    let all: Vec<&Variable> = inputs.iter().collect();
    cx.apply(Op::ConcatChannels, &all, &shape, |_| {
        let tensors: Vec<_> = all.iter().map(|x| x.tensor()).collect();
        ops::concat_channels(&tensors)
    })
}

/// The four pixels of each 2x2 square as channels: `[N, H, W, C]` to `[N, H / 2, W / 2, 4C]`.
///
/// # Errors
/// When an edge is odd.
pub fn merge_patches(cx: &mut Context, x: &Variable) -> Result<Variable> {
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape("merge_patches", "a map [N, H, W, C]", x.dims()));
    };
    cx.apply(Op::MergePatches, &[x], &[n, h / 2, w / 2, 4 * c], |_| ops::merge_patches(x.tensor()))
}

/// Mean over all pixels or tokens: `[N, ..., C]` to `[N, C]`.
///
/// # Errors
/// When there are none.
pub fn global_avg_pool(cx: &mut Context, x: &Variable) -> Result<Variable> {
    let shape = [x.dims()[0], x.dims()[x.dims().len() - 1]];
    cx.apply(Op::GlobalAvgPool, &[x], &shape, |_| ops::global_avg_pool(x.tensor()))
}

/// Max-pool of maps `[N, H, W, C]`.
///
/// # Errors
/// When the kernel does not fit the map.
pub fn max_pool2d(
    cx: &mut Context,
    x: &Variable,
    kernel: usize,
    stride: usize,
    padding: usize,
) -> Result<Variable> {
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape("max_pool2d", "a map [N, H, W, C]", x.dims()));
    };
    let places = |size: usize| (size + 2 * padding).checked_sub(kernel).map_or(0, |s| s / stride + 1);
    let shape = [n, places(h), places(w), c];
    let op = Op::MaxPool2d { kernel, stride, padding };
    cx.apply(op, &[x], &shape, |_| ops::max_pool2d(x.tensor(), kernel, stride, padding))
}

fn with_channels(x: &Variable, channels: usize) -> Vec<usize> {
    let mut shape = x.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = channels;
    }
    shape
}
