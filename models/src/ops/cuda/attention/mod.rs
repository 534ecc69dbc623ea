//! Softmax attention.

mod heads;
mod kernels;

use candle_core::{DType, Tensor};

use super::constants::constant;
use super::converted;
use super::launch::Kernel;
use super::memory::{address, contiguous, empty, wide};
use crate::ops::Traced;
use crate::ops::kernels::attention::windows::{Tokens, Windowed};
use crate::{Error, Result};
use heads::{Addresses, Heads, Saved};

const OP: &str = "attention";
/// Channels of a head that a block holds.
const MOST_CHANNELS: usize = 128;

fn check(d: usize) -> Result<()> {
    if d <= MOST_CHANNELS {
        return Ok(());
    }
    let (what, supported) = (format!("a head of {d} channels on a GPU"), "heads of at most 128 channels");
    Err(Error::Unsupported { op: OP, what, supported })
}

/// Queries, keys and values side by side: `[.., 3, C]`.
fn packed(t: &Tensor, c: usize) -> Result<Addresses> {
    let (at, bytes) = (address(OP, t)?, t.dtype().size_in_bytes());
    let part = |i: usize| at + (i * c * bytes) as u64;
    Ok(Addresses { q: part(0), k: part(1), v: part(2) })
}

/// The table of a relative position bias, and the entry of each pair of tokens.
pub(in crate::ops) struct Bias<'a> {
    pub(in crate::ops) table: &'a Tensor,
    pub(in crate::ops) entries: Vec<u32>,
}

/// Attention inside windows of packed queries, keys and values `[B, H, W, 3C]`; shapes are right.
pub(in crate::ops) fn window_attention(qkv: &Tensor, g: &Windowed, bias: Option<Bias>) -> Result<Traced> {
    check(g.d)?;
    let qkv = contiguous(qkv)?;
    let c = g.heads * g.d;
    let (b, h, w, _) = qkv.dims4()?;
    let share = g.heads / g.groupings.len();
    let sets = g
        .groupings
        .iter()
        .enumerate()
        .map(|(i, t)| grouped(&qkv, g, t, i * share))
        .collect::<Result<Vec<_>>>()?;
    let table = bias.map(|bias| Table::new(&qkv, bias, g.heads)).transpose()?;
    let expanded = table.as_ref().map(Table::expand).transpose()?;
    let out = empty(&qkv, (b, h, w, c), qkv.dtype())?;
    let from = packed(&qkv, c)?;
    let sums =
        sets.iter().map(|set| set.forward(&out, from, expanded.as_ref())).collect::<Result<Vec<_>>>()?;
    let saved = Saved { out: out.clone(), sums, bias: expanded };
    Ok(Traced::new(out, move |dout, _| {
        let dout = contiguous(dout)?;
        let dqkv = empty(&qkv, qkv.dims(), qkv.dtype())?;
        let dbias = saved.bias.as_ref().map(Tensor::zeros_like).transpose()?;
        for set in &sets {
            set.backward(&saved, packed(&dqkv, c)?, packed(&qkv, c)?, &dout, dbias.as_ref())?;
        }
        let mut grads = vec![Some(dqkv)];
        if let (Some(table), Some(dbias)) = (&table, &dbias) {
            grads.push(Some(table.fold(dbias)?));
        }
        Ok(grads)
    }))
}

/// The heads from `first` on, grouped by `tokens`.
fn grouped(qkv: &Tensor, g: &Windowed, tokens: &Tokens, first: usize) -> Result<Heads> {
    let c = g.heads * g.d;
    let whole = tokens.n == g.tokens;
    let regions = |regions: &[u8]| constant(OP, qkv, regions);
    Ok(Heads {
        dtype: qkv.dtype(),
        strides: [3 * c, 3 * c, c],
        tokens: [g.tokens; 2],
        n: tokens.n,
        m: tokens.n,
        samples: qkv.dim(0)?,
        groups: g.tokens / tokens.n,
        d: g.d,
        first_head: first,
        heads: g.heads / g.groupings.len(),
        // One group of all tokens sees them in order.
        index: (!whole || tokens.regions().is_some())
            .then(|| constant(OP, qkv, &tokens.places().iter().map(|&i| i as u32).collect::<Vec<_>>()))
            .transpose()?,
        regions: tokens.regions().map(regions).transpose()?,
    })
}

/// A table of biases by offset, on the GPU.
struct Table {
    values: Tensor,
    dtype: DType,
    entries: Tensor,
    heads: usize,
}

impl Table {
    fn new(like: &Tensor, bias: Bias, heads: usize) -> Result<Self> {
        let entries = constant(OP, like, &bias.entries)?;
        Ok(Self { values: wide(bias.table)?, dtype: bias.table.dtype(), entries, heads })
    }

    fn pairs(&self) -> usize {
        self.entries.elem_count()
    }

    /// `[heads, pairs]`.
    fn expand(&self) -> Result<Tensor> {
        let bias = empty(&self.values, (self.heads, self.pairs()), DType::F32)?;
        let kernel =
            Kernel::new(OP, "expand_bias", &bias, DType::F32)?.tensor(&bias)?.tensor(&self.values)?;
        kernel.tensor(&self.entries)?.int(self.heads).int(self.pairs()).spread(bias.elem_count())?;
        Ok(bias)
    }

    /// The gradient of the table from that of all pairs.
    fn fold(&self, dbias: &Tensor) -> Result<Tensor> {
        let dtable = self.values.zeros_like()?;
        let kernel = Kernel::new(OP, "fold_bias", dbias, DType::F32)?.tensor(&dtable)?.tensor(dbias)?;
        kernel.tensor(&self.entries)?.int(self.heads).int(self.pairs()).spread(dbias.elem_count())?;
        converted(&dtable, self.dtype)
    }
}

/// Attention of `q` (`[B, N, C]`) over packed keys and values `[B, M, 2C]`; shapes are right.
pub(in crate::ops) fn cross_attention(q: &Tensor, kv: &Tensor, heads: usize) -> Result<Traced> {
    let (b, n, c) = q.dims3()?;
    let m = kv.dim(1)?;
    check(c / heads)?;
    let (q, kv) = (contiguous(q)?, converted(kv, q.dtype())?);
    let set = Heads {
        dtype: q.dtype(),
        strides: [c, 2 * c, c],
        tokens: [n, m],
        n,
        m,
        samples: b,
        groups: 1,
        d: c / heads,
        first_head: 0,
        heads,
        index: None,
        regions: None,
    };
    let out = empty(&q, (b, n, c), q.dtype())?;
    let addresses = move |q: &Tensor, kv: &Tensor| -> Result<Addresses> {
        let k = address(OP, kv)?;
        Ok(Addresses { q: address(OP, q)?, k, v: k + (c * kv.dtype().size_in_bytes()) as u64 })
    };
    let sums = vec![set.forward(&out, addresses(&q, &kv)?, None)?];
    let saved = Saved { out: out.clone(), sums, bias: None };
    Ok(Traced::new(out, move |dout, _| {
        let dout = contiguous(dout)?;
        let (dq, dkv) = (empty(&q, q.dims(), q.dtype())?, empty(&q, kv.dims(), kv.dtype())?);
        set.backward(&saved, addresses(&dq, &dkv)?, addresses(&q, &kv)?, &dout, None)?;
        Ok(vec![Some(dq), Some(dkv)])
    }))
}
