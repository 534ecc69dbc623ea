//! Finer maps from coarse ones.

use crate::graph::{Context, Op, Variable};
use crate::ops;
use crate::{Error, Result};

/// Each pixel repeated as a square: `[N, H, W, C]` to `[N, factor * H, factor * W, C]`.
///
/// # Errors
/// When `x` is no map, or `factor` is 0.
pub fn upsample_nearest(cx: &mut Context, x: &Variable, factor: usize) -> Result<Variable> {
    let &[n, h, w, c] = x.dims() else {
        return Err(Error::shape("upsample_nearest", "a map [N, H, W, C]", x.dims()));
    };
    let shape = [n, factor * h, factor * w, c];
    cx.apply(Op::UpsampleNearest { factor }, &[x], &shape, |_| ops::upsample_nearest(x.tensor(), factor))
}
