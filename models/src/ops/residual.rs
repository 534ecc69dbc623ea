//! Residual connections.

use candle_core::Tensor;

use super::kernels::{Element, rows};
use super::view::{View, tensor};
use super::{Traced, by_dtype, expect_shape};
use crate::{Error, Result};

const OP: &str = "residual";

/// What a residual connection does to its two terms, besides adding them.
#[derive(Clone, Debug, Default)]
pub struct Scales {
    /// Factor of each channel of the skip path, `[C]` (MetaFormer's residual scaling).
    pub skip: Option<Tensor>,
    /// Factor of each channel of the branch, `[C]` (layer scale).
    pub branch: Option<Tensor>,
    /// Factor of each sample's branch: 0 where it is dropped, `1 / keep` elsewhere (stochastic depth).
    pub keep: Option<Vec<f64>>,
}

/// `x * skip + branch * branch_scale * keep[sample]`: a residual connection in one pass over memory.
///
/// # Shapes
/// `x`, `branch` and value: `[N, ..., C]`; `keep`: `N` numbers.
///
/// The pullback gives `[x, branch]`, then the gradients of the skip's and the branch's factors where there are any.
///
/// # Errors
/// When shapes differ, or tensors are not `f32` or `f64` on the CPU.
pub fn residual(x: &Tensor, branch: &Tensor, scales: Scales) -> Result<Traced> {
    expect_shape(OP, "a branch", branch, x.dims())?;
    let (Some(&n), Some(&c)) = (x.dims().first(), x.dims().last()) else {
        return Err(Error::shape(OP, "[N, ..., C]", x.dims()));
    };
    for scale in scales.skip.iter().chain(&scales.branch) {
        expect_shape(OP, "a factor for each channel", scale, &[c])?;
    }
    if let Some(keep) = scales.keep.as_ref().filter(|keep| keep.len() != n) {
        return Err(Error::shape(OP, format!("a factor for each of {n} samples"), &[keep.len()]));
    }
    if x.elem_count() == 0 {
        return Err(Error::shape(OP, "at least one element", x.dims()));
    }
    let (x, branch) = (x.contiguous()?, branch.contiguous()?);
    by_dtype!("residual", x, T => {
        let f = Factors::<T>::of(&scales, n, c, x.elem_count() / n)?;
        let (xv, bv) = (View::new(OP, &x)?, View::new(OP, &branch)?);
        let value = tensor(f.sum(xv.slice()?, bv.slice()?), x.dims())?;
        drop((xv, bv));
        // Terms are kept only where a factor is trained.
        let (x, branch) = (scales.skip.is_some().then_some(x), scales.branch.is_some().then_some(branch));
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let dv = View::new(OP, &dy)?;
            let dys = dv.slice::<T>()?;
            let dx = if x.is_some() { tensor(f.scaled(dys, &f.skip, false), dy.dims())? } else { dy.clone() };
            let mut grads = vec![Some(dx), Some(tensor(f.scaled(dys, &f.branch, true), dy.dims())?)];
            for (term, keep) in [(&x, false), (&branch, true)] {
                if let Some(term) = term {
                    let sums = f.factor_gradient(dys, View::new(OP, term)?.slice()?, keep);
                    grads.push(Some(tensor(sums, &[f.c])?));
                }
            }
            Ok(grads)
        }))
    })
}

/// The factors of one connection, ones where there are none.
struct Factors<T> {
    c: usize,
    rows_per_sample: usize,
    skip: Vec<T>,
    branch: Vec<T>,
    keep: Vec<T>,
}

impl<T: Element> Factors<T> {
    fn of(scales: &Scales, n: usize, c: usize, per_sample: usize) -> Result<Self> {
        let values = |scale: &Option<Tensor>| -> Result<Vec<T>> {
            let Some(scale) = scale else { return Ok(vec![T::ONE; c]) };
            let scale = scale.contiguous()?;
            let view = View::new(OP, &scale)?;
            Ok(view.slice::<T>()?.to_vec())
        };
        Ok(Self {
            c,
            rows_per_sample: per_sample / c,
            skip: values(&scales.skip)?,
            branch: values(&scales.branch)?,
            keep: scales
                .keep
                .as_ref()
                .map_or_else(|| vec![T::ONE; n], |keep| keep.iter().map(|&k| T::of(k)).collect()),
        })
    }

    fn keep_of(&self, row: usize) -> T {
        self.keep[row / self.rows_per_sample]
    }

    fn sum(&self, x: &[T], branch: &[T]) -> Vec<T> {
        let c = self.c;
        rows::by_row(x.len() / c, c, |row| {
            let (x, branch, keep) = (&x[row * c..][..c], &branch[row * c..][..c], self.keep_of(row));
            let (skip, scale) = (&self.skip[..c], &self.branch[..c]);
            // A dropped branch counts as zero even where it is not finite.
            move |j| x[j] * skip[j] + if keep != T::ZERO { branch[j] * (scale[j] * keep) } else { T::ZERO }
        })
    }

    /// `dy` times the factor of each channel, and of each sample's branch if `keep`.
    fn scaled(&self, dy: &[T], factor: &[T], keep: bool) -> Vec<T> {
        let c = self.c;
        rows::by_row(dy.len() / c, c, |row| {
            let k = if keep { self.keep_of(row) } else { T::ONE };
            let (dy, factor) = (&dy[row * c..][..c], &factor[..c]);
            move |j| dy[j] * (factor[j] * k)
        })
    }

    /// Sum of `dy * term` over rows, for each channel.
    fn factor_gradient(&self, dy: &[T], term: &[T], keep: bool) -> Vec<T> {
        let c = self.c;
        let sums = rows::block_sums(dy.len() / c, c, |range, sums: &mut [T]| {
            for row in range {
                let k = if keep { self.keep_of(row) } else { T::ONE };
                if k != T::ZERO {
                    let (dy, term) = (&dy[row * c..][..c], &term[row * c..][..c]);
                    sums.iter_mut().zip(dy).zip(term).for_each(|((s, &g), &t)| *s += g * (t * k));
                }
            }
        });
        sums.into_iter().map(T::of).collect()
    }
}
