//! Residual connections.

use candle_core::Tensor;

use super::elementwise::factors;
use super::kernels::{Compute, Storage, rows};
use super::view::{Param, View, tensor};
use super::{Traced, by_storages, expect_shape, on_gpu};
use crate::{Error, Result};

const OP: &str = "residual";

/// Factors of the two terms of a residual connection.
#[derive(Clone, Debug, Default)]
pub struct Scales {
    /// Factor of each channel of the skip path, `[C]` (MetaFormer's residual scaling).
    pub skip: Option<Tensor>,
    /// Factor of each channel of the branch, `[C]` (layer scale).
    pub branch: Option<Tensor>,
    /// Factor of each sample's branch, `[N]`: 0 if it is dropped, `1 / keep` elsewhere (stochastic
    /// depth).
    pub keep: Option<Tensor>,
}

/// `x * skip + branch * branch_scale * keep[sample]`: a residual connection in one pass over
/// memory.
///
/// # Shapes
/// `x`, `branch` and value: `[N, ..., C]`; `keep`: `[N]`. The value has the element type of
/// `x`; with `x` in `f32` the branch may be `bf16`.
///
/// The pullback gives `[x, branch]`, then the gradients of the skip's and the branch's factors
/// if there are any.
///
/// # Errors
/// When shapes differ, or tensors are not `f32`, `f64` or `bf16` on the CPU.
pub fn residual(x: &Tensor, branch: &Tensor, scales: Scales) -> Result<Traced> {
    expect_shape(OP, "a branch", branch, x.dims())?;
    let (Some(&n), Some(&c)) = (x.dims().first(), x.dims().last()) else {
        return Err(Error::shape(OP, "[N, ..., C]", x.dims()));
    };
    for scale in scales.skip.iter().chain(&scales.branch) {
        expect_shape(OP, "a factor for each channel", scale, &[c])?;
    }
    if let Some(keep) = &scales.keep {
        expect_shape(OP, "a factor for each sample", keep, &[n])?;
    }
    if x.elem_count() == 0 {
        return Err(Error::shape(OP, "at least one element", x.dims()));
    }
    on_gpu!(x, super::cuda::residual(x, branch, &scales));
    let (x, branch) = (x.contiguous()?, branch.contiguous()?);
    by_storages!(OP, x.dtype(), branch.dtype(), (S, B) => {
        let f = Factors::<<S as Storage>::Real>::of::<S>(&scales, n, c, x.elem_count() / n)?;
        let (xv, bv) = (View::new(OP, &x)?, View::new(OP, &branch)?);
        let value = tensor(f.sum::<S, B>(xv.slice()?, bv.slice()?), x.dims())?;
        drop((xv, bv));
        // Terms are kept only if a factor is trained.
        let (x, branch) = (f.skip.1.is_some().then_some(x), f.branch.1.is_some().then_some(branch));
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let dv = View::new(OP, &dy)?;
            let dys = dv.slice::<S>()?;
            let dx = match x {
                Some(_) => tensor(f.scaled::<S, S>(dys, &f.skip.0, false), dy.dims())?,
                None => dy.clone(),
            };
            let dbranch = tensor(f.scaled::<S, B>(dys, &f.branch.0, true), dy.dims())?;
            let mut grads = vec![Some(dx), Some(dbranch)];
            if let (Some(x), Some(skip)) = (&x, &f.skip.1) {
                grads.push(skip.gradient(f.factor_gradient::<S, S>(dys, View::new(OP, x)?.slice()?, false))?);
            }
            if let (Some(term), Some(scale)) = (&branch, &f.branch.1) {
                grads.push(scale.gradient(f.factor_gradient::<S, B>(dys, View::new(OP, term)?.slice()?, true))?);
            }
            Ok(grads)
        }))
    })
}

/// The factors of one connection, ones if there are none.
struct Factors<T> {
    c: usize,
    rows_per_sample: usize,
    /// Factors of each channel, with the parameter that holds them.
    skip: (Vec<T>, Option<Param>),
    branch: (Vec<T>, Option<Param>),
    keep: Vec<T>,
}

impl<T: Compute> Factors<T> {
    fn of<S: Storage<Real = T>>(scales: &Scales, n: usize, c: usize, per_sample: usize) -> Result<Self> {
        let values = |scale: &Option<Tensor>| -> Result<(Vec<T>, Option<Param>)> {
            let Some(scale) = scale else { return Ok((vec![T::ONE; c], None)) };
            let scale = Param::of::<S>(scale)?;
            let values = scale.view(OP)?.slice::<T>()?.to_vec();
            Ok((values, Some(scale)))
        };
        let keep = match &scales.keep {
            Some(keep) => factors::<T>(keep)?,
            None => vec![T::ONE; n],
        };
        Ok(Self {
            c,
            rows_per_sample: per_sample / c,
            skip: values(&scales.skip)?,
            branch: values(&scales.branch)?,
            keep,
        })
    }

    fn keep_of(&self, row: usize) -> T {
        self.keep[row / self.rows_per_sample]
    }

    fn sum<S: Storage<Real = T>, B: Storage<Real = T>>(&self, x: &[S], branch: &[B]) -> Vec<S> {
        let c = self.c;
        rows::by_row(
            x.len() / c,
            c,
            #[inline(always)]
            |row| {
                let (x, branch, keep) = (&x[row * c..][..c], &branch[row * c..][..c], self.keep_of(row));
                let (skip, scale) = (&self.skip.0[..c], &self.branch.0[..c]);
                // A dropped branch counts as zero even if it is not finite.
                #[inline(always)]
                move |j| {
                    let term = if keep != T::ZERO { branch[j].load() * (scale[j] * keep) } else { T::ZERO };
                    x[j].load() * skip[j] + term
                }
            },
        )
    }

    /// `dy` times the factor of each channel, and of each sample's branch if `keep`.
    fn scaled<S: Storage<Real = T>, O: Storage<Real = T>>(
        &self,
        dy: &[S],
        factor: &[T],
        keep: bool,
    ) -> Vec<O> {
        let c = self.c;
        rows::by_row(
            dy.len() / c,
            c,
            #[inline(always)]
            |row| {
                let k = if keep { self.keep_of(row) } else { T::ONE };
                let (dy, factor) = (&dy[row * c..][..c], &factor[..c]);
                #[inline(always)]
                move |j| dy[j].load() * (factor[j] * k)
            },
        )
    }

    /// Sum of `dy * term` over rows, for each channel.
    fn factor_gradient<S: Storage<Real = T>, B: Storage<Real = T>>(
        &self,
        dy: &[S],
        term: &[B],
        keep: bool,
    ) -> Vec<T> {
        let c = self.c;
        let sums = rows::block_sums(
            dy.len() / c,
            c,
            #[inline(always)]
            |range, sums: &mut [T]| {
                for row in range {
                    let k = if keep { self.keep_of(row) } else { T::ONE };
                    if k != T::ZERO {
                        let (dy, term) = (&dy[row * c..][..c], &term[row * c..][..c]);
                        for ((s, g), t) in sums.iter_mut().zip(dy).zip(term) {
                            *s += g.load() * (t.load() * k);
                        }
                    }
                }
            },
        );
        sums.into_iter().map(T::of).collect()
    }
}
