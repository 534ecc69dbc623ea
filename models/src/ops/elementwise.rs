//! Sums of tensors.

use candle_core::{DType, Tensor};
use rayon::prelude::*;

use super::cast::converted;
use super::kernels::{Compute, Storage, rows, vectorized};
use super::view::{View, change, tensor};
use super::{Traced, by_dtype, by_storage, by_storages, expect_shape, on_gpu};
use crate::{Error, Result};

/// `x + y`, of equal shape, in the element type of `x`.
///
/// # Errors
/// When shapes differ, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Traced> {
    expect_shape("add", "a second term", y, x.dims())?;
    on_gpu!(x, super::cuda::add(x, y));
    let (x, y) = (x.contiguous()?, y.contiguous()?);
    let dtype = y.dtype();
    by_storages!("add", x.dtype(), dtype, (S, R) => {
        let (xv, yv) = (View::new("add", &x)?, View::new("add", &y)?);
        let value = tensor(rows::zip(xv.slice::<S>()?, yv.slice::<R>()?, #[inline(always)] |a, b| a + b), x.dims())?;
        Ok(Traced::new(value, move |dy, _| Ok(vec![Some(dy.clone()), Some(converted(dy, dtype)?)])))
    })
}

/// `x * factors`, element by element, where `factors` get no gradient (dropout).
///
/// # Shapes
/// `x` and value: any; `factors`: as many elements, in any float type, on the same device.
///
/// # Errors
/// When there is not a factor for each element, or `x` is not `f32`, `f64` or `bf16` on the CPU.
pub fn scale_elements(x: &Tensor, factors: &Tensor) -> Result<Traced> {
    const OP: &str = "scale_elements";
    if factors.elem_count() != x.elem_count() {
        return Err(Error::shape(OP, format!("a tensor of {} elements", factors.elem_count()), x.dims()));
    }
    on_gpu!(x, super::cuda::scale_elements(x, factors));
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        type T = <S as Storage>::Real;
        let factors: Vec<T> = self::factors(factors)?;
        let value = tensor(rows::zip(View::new(OP, &x)?.slice::<S>()?, &factors, |x, f| x * f), x.dims())?;
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let dx = rows::zip(View::new(OP, &dy)?.slice::<S>()?, &factors, |g, f| g * f);
            Ok(vec![Some(tensor(dx, dy.dims())?)])
        }))
    })
}

/// The elements of a tensor of factors, in the type that an op computes in.
pub(super) fn factors<T: Compute>(factors: &Tensor) -> Result<Vec<T>> {
    let values = factors.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
    Ok(values.into_iter().map(T::of).collect())
}

/// `target += term`, in place.
///
/// # Errors
/// When shapes differ, or tensors are not `f32` or `f64` on the CPU.
pub fn accumulate(target: &Tensor, term: &Tensor) -> Result<()> {
    expect_shape("accumulate", "a term", term, target.dims())?;
    on_gpu!(target, super::cuda::accumulate(target, term));
    let term = term.contiguous()?;
    by_dtype!("accumulate", target, T => {
        let view = View::new("accumulate", &term)?;
        let term = view.slice::<T>()?;
        change::<T>("accumulate", target, |target| {
            rows::update(target, term, #[inline(always)] move |a, b| a + b);
            Ok(())
        })
    })
}

/// `target *= factor`, in place.
///
/// # Errors
/// When `target` is not a contiguous `f32` or `f64` tensor on the CPU.
pub fn scale_by(target: &Tensor, factor: f64) -> Result<()> {
    on_gpu!(target, super::cuda::scale_by(target, factor));
    by_dtype!("scale_by", target, T => {
        let factor = T::of(factor);
        change::<T>("scale_by", target, |x| {
            x.par_chunks_mut(1 << 15).for_each(|x| vectorized(#[inline(always)] move || x.iter_mut().for_each(|x| *x *= factor)));
            Ok(())
        })
    })
}
