//! Sequences of which only some tokens are seen: choosing them, putting them back, and the loss on
//! those removed.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

use super::cast::converted;
use super::kernels::{Compute, rows};
use super::view::{View, tensor};
use super::{Traced, by_dtype, dims, expect_shape, on_gpu};
use crate::{Error, Result};

/// Tokens of every sequence at the given places.
///
/// # Shapes
/// `x`: `[B, L, C]`; `places`: for each sequence in turn K different numbers below L; value: `[B,
/// K, C]`.
///
/// # Errors
/// When there are not K places for each sequence, or one is not below L.
pub fn gather_tokens(x: &Tensor, places: &[u32]) -> Result<Traced> {
    const OP: &str = "gather_tokens";
    let [b, l, c] = dims(OP, "tokens [B, L, C]", x)?;
    let kept = per_sequence(OP, places, b, l)?;
    on_gpu!(x, super::cuda::gather_tokens(x, rows_of(places, kept, l), kept));
    let index = flat(places, kept, l)?;
    let value = x.reshape((b * l, c))?.contiguous()?.index_select(&index, 0)?.reshape((b, kept, c))?;
    Ok(Traced::new(value, move |dy, _| {
        let rows = dy.reshape((b * kept, c))?.contiguous()?;
        let empty = Tensor::zeros((b * l, c), dy.dtype(), dy.device())?;
        Ok(vec![Some(empty.index_add(&index, &rows, 0)?.reshape((b, l, c))?)])
    }))
}

/// Tokens back at the places that [`gather_tokens`] took them from, and one and the same token
/// everywhere else.
///
/// # Shapes
/// - `x`: `[B, K, C]`
/// - `filler`: `[1, 1, C]`
/// - `places`: as for [`gather_tokens`], of `length` places
/// - value: `[B, length, C]`
///
/// The pullback gives `[x, filler]`.
///
/// # Errors
/// When shapes or places do not fit.
pub fn restore_tokens(x: &Tensor, filler: &Tensor, places: &[u32], length: usize) -> Result<Traced> {
    const OP: &str = "restore_tokens";
    let [b, k, c] = dims(OP, "tokens [B, K, C]", x)?;
    expect_shape(OP, "a filler", filler, &[1, 1, c])?;
    if per_sequence(OP, places, b, length)? != k {
        return Err(Error::shape(OP, format!("a token for each of {} places", places.len()), x.dims()));
    }
    // Row of each position among the tokens, or the row after them for the filler.
    let mut sources = vec![(b * k) as u32; b * length];
    for (row, &place) in places.iter().enumerate() {
        sources[row / k * length + place as usize] = row as u32;
    }
    let others: Vec<u32> =
        (0..sources.len() as u32).filter(|&i| sources[i as usize] as usize == b * k).collect();
    on_gpu!(x, {
        let restore = super::cuda::Restore { sources, places: rows_of(places, k, length), filled: others };
        super::cuda::restore_tokens(x, filler, restore, length)
    });
    let dtype = filler.dtype();
    let all = Tensor::cat(&[x.reshape((b * k, c))?, converted(filler, x.dtype())?.reshape((1, c))?], 0)?;
    let sources = Tensor::from_vec(sources, b * length, &Device::Cpu)?;
    let value = all.index_select(&sources, 0)?.reshape((b, length, c))?;
    let index = flat(places, k, length)?;
    Ok(Traced::new(value, move |dy, needs| {
        let rows = dy.reshape((b * length, c))?.contiguous()?;
        let dx = if needs[0] { Some(rows.index_select(&index, 0)?.reshape((b, k, c))?) } else { None };
        let filler = match (needs[1], others.len()) {
            (false, _) => None,
            (true, 0) => Some(Tensor::zeros((1, 1, c), dtype, dy.device())?),
            (true, n) => {
                let index = Tensor::from_slice(&others, n, &Device::Cpu)?;
                let terms = widened(&rows.index_select(&index, 0)?)?;
                Some(converted(&terms.sum_keepdim(0)?, dtype)?.reshape((1, 1, c))?)
            }
        };
        Ok(vec![dx, filler])
    }))
}

/// Squared error of the removed tokens: the mean over the channels of each, averaged over all that
/// are removed.
///
/// # Shapes
/// `x` and `target`: `[B, L, D]`; `removed`: a flag for each of B L tokens; value: a scalar. The
/// target gets no gradient.
///
/// # Errors
/// When shapes differ, no token is removed, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn masked_squared_error(x: &Tensor, target: &Tensor, removed: &[bool]) -> Result<Traced> {
    const OP: &str = "masked_squared_error";
    let [b, l, d] = dims(OP, "tokens [B, L, D]", x)?;
    expect_shape(OP, "a target", target, &[b, l, d])?;
    let count = removed.iter().filter(|&&flag| flag).count();
    if removed.len() != b * l || count == 0 || d == 0 {
        let expected = format!("a flag for each token, at least one of {} set", removed.len());
        return Err(Error::shape(OP, expected, x.dims()));
    }
    on_gpu!(x, super::cuda::masked_squared_error(x, target, removed, count));
    let (dtype, x) = (x.dtype(), widened(x)?.contiguous()?);
    let target = target.to_dtype(x.dtype())?.contiguous()?;
    let removed = removed.to_vec();
    let share = 1.0 / (count * d) as f64;
    by_dtype!("masked_squared_error", x, T => {
        let loss = {
            let (xv, tv) = (View::new(OP, &x)?, View::new(OP, &target)?);
            let pairs = xv.slice::<T>()?.par_chunks(d).zip(tv.slice::<T>()?.par_chunks(d));
            let errors = pairs.zip(&removed).map(|((x, t), &flag)| if flag { squared(x, t) } else { 0.0 });
            // One number a token, summed in order: the same on any number of threads.
            errors.collect::<Vec<f64>>().iter().sum::<f64>() * share
        };
        let value = tensor(vec![T::of(loss)], &[])?;
        Ok(Traced::new(value, move |dy, _| {
            let scale = dy.to_dtype(DType::F64)?.to_scalar::<f64>()? * 2.0 * share;
            let (xv, tv) = (View::new(OP, &x)?, View::new(OP, &target)?);
            let (xs, ts) = (xv.slice::<T>()?, tv.slice::<T>()?);
            let grad: Vec<T> = rows::by_row(b * l, d, |row| {
                let weight = T::of(if removed[row] { scale } else { 0.0 });
                let (x, t) = (&xs[row * d..][..d], &ts[row * d..][..d]);
                // A token that is not removed counts as zero even if it is not finite.
                move |j| if weight == T::ZERO { T::ZERO } else { weight * (x[j] - t[j]) }
            });
            Ok(vec![Some(converted(&tensor(grad, &[b, l, d])?, dtype)?), None])
        }))
    })
}

/// In the type that it is computed with.
fn widened(x: &Tensor) -> Result<Tensor> {
    if x.dtype() == DType::BF16 { converted(x, DType::F32) } else { Ok(x.clone()) }
}

fn squared<T: Compute>(x: &[T], target: &[T]) -> f64 {
    x.iter().zip(target).map(|(x, t)| (x.into_f64() - t.into_f64()).powi(2)).sum()
}

/// Places for each of `b` sequences of `length` tokens.
fn per_sequence(op: &'static str, places: &[u32], b: usize, length: usize) -> Result<usize> {
    let fits = b > 0 && !places.is_empty() && places.len().is_multiple_of(b);
    if !fits || places.iter().any(|&place| place as usize >= length) {
        let expected = format!("{b} sequences with equally many places, each below {length}");
        return Err(Error::shape(op, expected, &[places.len()]));
    }
    Ok(places.len() / b)
}

/// Places within a sequence as rows of all sequences.
fn rows_of(places: &[u32], kept: usize, length: usize) -> Vec<u32> {
    places.iter().enumerate().map(|(i, &place)| (i / kept * length) as u32 + place).collect()
}

fn flat(places: &[u32], kept: usize, length: usize) -> Result<Tensor> {
    Ok(Tensor::from_vec(rows_of(places, kept, length), places.len(), &Device::Cpu)?)
}
