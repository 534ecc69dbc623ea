//! Sums of tensors.

use candle_core::Tensor;
use rayon::prelude::*;

use super::kernels::{Element, rows, vectorised};
use super::view::{View, change, tensor};
use super::{Traced, by_dtype, expect_shape};
use crate::{Error, Result};

/// `x + y`, of equal shape.
///
/// # Errors
/// When shapes differ, or tensors are not `f32` or `f64` on the CPU.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Traced> {
    expect_shape("add", "a second term", y, x.dims())?;
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    by_dtype!("add", x, T => {
        let (xv, yv) = (View::new("add", &x)?, View::new("add", &y)?);
        let value = tensor(rows::zip(xv.slice::<T>()?, yv.slice::<T>()?, |a, b| a + b), x.dims())?;
        Ok(Traced::new(value, |dy, _| Ok(vec![Some(dy.clone()), Some(dy.clone())])))
    })
}

/// `x + y * scale[sample]`: a residual connection whose branch is scaled sample by sample (stochastic depth).
///
/// # Shapes
/// `x` and `y`: `[N, ...]`; `scale`: `N` numbers, 0 where the branch is dropped and `1 / keep` where it is kept.
///
/// # Errors
/// When shapes differ, or tensors are not `f32` or `f64` on the CPU.
pub fn add_scaled_rows(x: &Tensor, y: &Tensor, scale: Vec<f64>) -> Result<Traced> {
    const OP: &str = "add_scaled_rows";
    expect_shape(OP, "a branch", y, x.dims())?;
    if scale.len() != x.dim(0)? {
        return Err(Error::shape(OP, format!("a scale for each of {} samples", x.dim(0)?), &[scale.len()]));
    }
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    by_dtype!("add_scaled_rows", x, T => {
        let (xv, yv) = (View::new(OP, &x)?, View::new(OP, &y)?);
        let sum = scaled_rows::<T>(Some(xv.slice()?), yv.slice()?, &scale);
        let value = tensor(sum, x.dims())?;
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let branch = scaled_rows::<T>(None, View::new(OP, &dy)?.slice()?, &scale);
            Ok(vec![Some(dy.clone()), Some(tensor(branch, dy.dims())?)])
        }))
    })
}

fn scaled_rows<T: Element>(x: Option<&[T]>, y: &[T], scale: &[f64]) -> Vec<T> {
    let mut out = x.map_or_else(|| vec![T::ZERO; y.len()], <[T]>::to_vec);
    let sample = (y.len() / scale.len()).max(1);
    out.par_chunks_mut(sample).zip(y.par_chunks(sample)).zip(scale).for_each(|((out, y), &s)| {
        let s = T::of(s);
        // A dropped branch counts as zero even where it is not finite.
        if s != T::ZERO {
            vectorised(|| out.iter_mut().zip(y).for_each(|(o, &y)| *o += y * s));
        }
    });
    out
}

/// `target += term`, in place.
///
/// # Errors
/// When shapes differ, or tensors are not `f32` or `f64` on the CPU.
pub fn accumulate(target: &Tensor, term: &Tensor) -> Result<()> {
    expect_shape("accumulate", "a term", term, target.dims())?;
    let term = term.contiguous()?;
    by_dtype!("accumulate", target, T => {
        let view = View::new("accumulate", &term)?;
        let term = view.slice::<T>()?;
        change::<T>("accumulate", target, |target| {
            rows::update(target, term, |a, b| a + b);
            Ok(())
        })
    })
}

/// `target *= factor`, in place.
///
/// # Errors
/// When `target` is not a contiguous `f32` or `f64` tensor on the CPU.
pub fn scale_by(target: &Tensor, factor: f64) -> Result<()> {
    by_dtype!("scale_by", target, T => {
        let factor = T::of(factor);
        change::<T>("scale_by", target, |x| {
            x.par_chunks_mut(1 << 15).for_each(|x| vectorised(|| x.iter_mut().for_each(|x| *x *= factor)));
            Ok(())
        })
    })
}
