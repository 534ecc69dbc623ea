//! Sequences of which only some tokens are seen.

use crate::Result;
use crate::graph::{Context, Op, Variable};
use crate::ops;

/// Tokens of every sequence at the given places: `[B, L, C]` to `[B, K, C]`.
///
/// # Errors
/// Calls [`ops::gather_tokens`].
pub fn gather_tokens(cx: &mut Context, x: &Variable, places: &[u32]) -> Result<Variable> {
    let (b, c) = (x.dims()[0], x.dims()[x.dims().len() - 1]);
    let shape = [b, places.len() / b.max(1), c];
    cx.apply(Op::GatherTokens, &[x], &shape, |_| ops::gather_tokens(x.tensor(), places))
}

/// Tokens back at their places in sequences of `length`, `filler` everywhere else: `[B, K, C]` to
/// `[B, length, C]`.
///
/// # Errors
/// Calls [`ops::restore_tokens`].
pub fn restore_tokens(
    cx: &mut Context,
    x: &Variable,
    filler: &Variable,
    places: &[u32],
    length: usize,
) -> Result<Variable> {
    let (b, c) = (x.dims()[0], x.dims()[x.dims().len() - 1]);
    cx.apply(Op::RestoreTokens, &[x, filler], &[b, length, c], |_| {
        ops::restore_tokens(x.tensor(), filler.tensor(), places, length)
    })
}
