//! Sequences of tokens.

use candle_core::{DType, Tensor};

use super::channels::{indices, slice};
use super::converted;
use super::launch::Kernel;
use super::memory::{contiguous, empty, wide};
use super::rows::column_sums;
use crate::Result;
use crate::ops::Traced;

/// First tokens before the patches, plus the position embedding; shapes are right.
pub(in crate::ops) fn join_tokens(patches: &Tensor, first: &[&Tensor], position: &Tensor) -> Result<Traced> {
    const OP: &str = "join_tokens";
    let (b, l, c) = patches.dims3()?;
    let (extra, types) = (first.len(), first.iter().map(|t| t.dtype()).collect::<Vec<_>>());
    let own = position.dtype();
    let (patches, position) = (contiguous(patches)?, wide(position)?);
    let wides = first.iter().map(|t| wide(t)).collect::<Result<Vec<_>>>()?;
    let first = match wides.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        // As channels of one long row.
        several => Some(super::concat_channels(&several.iter().collect::<Vec<_>>())?.value),
    };
    let value = empty(&patches, (b, extra + l, c), patches.dtype())?;
    let kernel =
        Kernel::new(OP, "join_tokens", &patches, patches.dtype())?.tensor(&value)?.tensor(&patches)?;
    let kernel = kernel.maybe(first.as_ref())?.tensor(&position)?.int(extra).int(l).int(c);
    kernel.each(value.elem_count())?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let sums = column_sums(OP, &dy, (extra + l) * c)?.reshape((1, extra + l, c))?;
        let mut grads = vec![Some(slice(&dy, 1, extra, l)?)];
        for (i, &dtype) in types.iter().enumerate() {
            // A copy: gradients of two parameters must not share memory.
            grads.push(Some(converted(&slice(&sums, 1, i, 1)?, dtype)?));
        }
        grads.push(Some(converted(&sums, own)?));
        Ok(grads)
    }))
}

/// Rows of `x` (`[rows, C]` in any shape) at the given places, as `shape`.
fn gather(op: &'static str, x: &Tensor, places: &Tensor, shape: &[usize]) -> Result<Tensor> {
    let c = shape[shape.len() - 1];
    let y = empty(x, shape, x.dtype())?;
    let kernel = Kernel::new(op, "gather_rows", x, x.dtype())?.tensor(&y)?.tensor(x)?.tensor(places)?;
    kernel.int(c).each(y.elem_count())?;
    Ok(y)
}

/// The given rows of all tokens `[B, L, C]` as `[B, kept, C]`; the rows are different ones.
pub(in crate::ops) fn gather_tokens(x: &Tensor, rows: Vec<u32>, kept: usize) -> Result<Traced> {
    const OP: &str = "gather_tokens";
    let (b, l, c) = x.dims3()?;
    let x = contiguous(x)?;
    let rows = indices(&x, rows)?;
    let value = gather(OP, &x, &rows, &[b, kept, c])?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = Tensor::zeros((b, l, c), dy.dtype(), dy.device())?;
        let kernel = Kernel::new(OP, "scatter_rows", &dy, dy.dtype())?.tensor(&dx)?.tensor(&dy)?;
        kernel.tensor(&rows)?.int(c).each(dy.elem_count())?;
        Ok(vec![Some(dx)])
    }))
}

/// Source of each token of the longer sequences, and the positions that are filled.
pub(in crate::ops) struct Restore {
    /// A row of `x` for each position, or the number of rows for the filler.
    pub(in crate::ops) sources: Vec<u32>,
    /// The place of each row of `x`.
    pub(in crate::ops) places: Vec<u32>,
    /// The places of the filler.
    pub(in crate::ops) filled: Vec<u32>,
}

/// Tokens back at their places, the filler elsewhere; shapes are right.
pub(in crate::ops) fn restore_tokens(
    x: &Tensor,
    filler: &Tensor,
    from: Restore,
    length: usize,
) -> Result<Traced> {
    const OP: &str = "restore_tokens";
    let (b, k, c) = x.dims3()?;
    let own = filler.dtype();
    let (x, filler) = (contiguous(x)?, wide(filler)?);
    let (sources, places) = (indices(&x, from.sources)?, indices(&x, from.places)?);
    let filled = from.filled;
    let value = empty(&x, (b, length, c), x.dtype())?;
    let kernel =
        Kernel::new(OP, "gather_rows_or", &x, x.dtype())?.tensor(&value)?.tensor(&x)?.tensor(&filler)?;
    kernel.tensor(&sources)?.flag((b * k) as u32).int(c).each(value.elem_count())?;
    Ok(Traced::new(value, move |dy, needs| {
        let dy = contiguous(dy)?;
        let dx = if needs[0] { Some(gather(OP, &dy, &places, &[b, k, c])?) } else { None };
        let dfiller = match (needs[1], filled.len()) {
            (false, _) => None,
            (true, 0) => Some(Tensor::zeros((1, 1, c), own, dy.device())?),
            (true, n) => {
                let terms = gather(OP, &dy, &indices(&dy, filled.clone())?, &[n, c])?;
                Some(converted(&column_sums(OP, &terms, c)?.reshape((1, 1, c))?, own)?)
            }
        };
        debug_assert!(dfiller.as_ref().is_none_or(|g| g.dtype() == own || own == DType::F64));
        Ok(vec![dx, dfiller])
    }))
}
