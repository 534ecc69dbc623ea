//! Residual connections.

use candle_core::{DType, Tensor};

use super::converted;
use super::launch::Kernel;
use super::memory::{contiguous, empty, unsupported, wide};
use super::rows::{parts, sum_parts};
use crate::Result;
use crate::ops::{Scales, Traced};

const OP: &str = "residual";

/// Factors of one connection, and its rows.
struct Factors {
    skip: Option<Tensor>,
    branch: Option<Tensor>,
    keep: Option<Tensor>,
    c: usize,
    per_sample: usize,
}

impl Factors {
    /// `dy` times a factor of each channel, and of each sample's branch, as `to`.
    fn scaled(
        &self,
        dy: &Tensor,
        channel: Option<&Tensor>,
        keep: Option<&Tensor>,
        to: DType,
    ) -> Result<Tensor> {
        let (name, stored) = if dy.dtype() == to { ("scale_rows", to) } else { ("scale_rows_from_wide", to) };
        let y = empty(dy, dy.dims(), to)?;
        let kernel =
            Kernel::new(OP, name, dy, stored)?.tensor(&y)?.tensor(dy)?.maybe(channel)?.maybe(keep)?;
        kernel.int(self.c).int(self.per_sample).each(dy.elem_count())?;
        Ok(y)
    }

    /// Sum of `dy * term` over rows, for each channel.
    fn gradient(&self, dy: &Tensor, term: &Tensor, keep: Option<&Tensor>) -> Result<Tensor> {
        let name = if dy.dtype() == term.dtype() { "factor_sums" } else { "factor_sums_wide" };
        let rows = dy.elem_count() / self.c;
        let cut = parts(rows, self.c);
        let sums = empty(dy, (cut.count, self.c), DType::F32)?;
        let kernel =
            Kernel::new(OP, name, dy, term.dtype())?.tensor(&sums)?.tensor(dy)?.tensor(term)?.maybe(keep)?;
        kernel.int(self.per_sample / self.c).int(rows).int(self.c).run(cut.grid)?;
        sum_parts(OP, &sums, cut.count, self.c)
    }
}

/// `x * skip + branch * scale * keep[sample]`; shapes are right.
pub(in crate::ops) fn residual(x: &Tensor, branch: &Tensor, scales: &Scales) -> Result<Traced> {
    let (x, branch) = (contiguous(x)?, contiguous(branch)?);
    let (name, stored) = match (x.dtype(), branch.dtype()) {
        (a, b) if a == b => ("residual_forward", a),
        (DType::F32, b) => ("residual_forward_wide", b),
        (_, b) => return Err(unsupported(OP, b)),
    };
    let (n, c) = (x.dims()[0], x.dims()[x.rank() - 1]);
    let types = [&scales.skip, &scales.branch].map(|s| s.as_ref().map(Tensor::dtype));
    let f = Factors {
        skip: scales.skip.as_ref().map(wide).transpose()?,
        branch: scales.branch.as_ref().map(wide).transpose()?,
        keep: scales.keep.as_ref().map(wide).transpose()?,
        c,
        per_sample: x.elem_count() / n,
    };
    let value = empty(&x, x.dims(), x.dtype())?;
    let kernel = Kernel::new(OP, name, &x, stored)?.tensor(&value)?.tensor(&x)?.tensor(&branch)?;
    let kernel = kernel.maybe(f.skip.as_ref())?.maybe(f.branch.as_ref())?.maybe(f.keep.as_ref())?;
    kernel.int(c).int(f.per_sample).each(x.elem_count())?;
    let branch_type = branch.dtype();
    // Terms are kept only if a factor is trained.
    let (x, branch) = (f.skip.is_some().then_some(x), f.branch.is_some().then_some(branch));
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = match &f.skip {
            Some(skip) => f.scaled(&dy, Some(skip), None, dy.dtype())?,
            None => dy.clone(),
        };
        let mut grads = vec![Some(dx), Some(f.scaled(&dy, f.branch.as_ref(), f.keep.as_ref(), branch_type)?)];
        if let (Some(x), Some(dtype)) = (&x, types[0]) {
            grads.push(Some(converted(&f.gradient(&dy, x, None)?, dtype)?));
        }
        if let (Some(term), Some(dtype)) = (&branch, types[1]) {
            grads.push(Some(converted(&f.gradient(&dy, term, f.keep.as_ref())?, dtype)?));
        }
        Ok(grads)
    }))
}
