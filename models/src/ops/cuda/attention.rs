//! Softmax attention.

use candle_core::{DType, Tensor};

use super::channels::indices;
use super::converted;
use super::launch::{Grid, Kernel};
use super::memory::{address, contiguous, empty, unsupported, wide};
use crate::ops::Traced;
use crate::ops::kernels::attention::windows::{Tokens, Windowed};
use crate::{Error, Result};

const OP: &str = "attention";
/// Channels of a head that a block holds.
const MOST_CHANNELS: usize = 128;

/// The kernels for a storage type and heads of some width.
struct Kernels {
    /// Queries or keys in a block: `TILE` of the kernels.
    tile: usize,
    forward: &'static str,
    backward_q: &'static str,
    backward_kv: &'static str,
    /// Channels in half precision that a row of shared memory has room for; none in single
    /// precision.
    channels: Option<usize>,
}

impl Kernels {
    fn of(dtype: DType, d: usize) -> Result<Self> {
        macro_rules! half {
            ($channels:literal) => {
                Self {
                    tile: 64,
                    forward: concat!("attention_forward_", $channels),
                    backward_q: concat!("attention_backward_q_", $channels),
                    backward_kv: concat!("attention_backward_kv_", $channels),
                    channels: Some($channels),
                }
            };
        }
        match (dtype, d) {
            (DType::F32, _) => Ok(Self {
                tile: 32,
                forward: "attention_forward",
                backward_q: "attention_backward_q",
                backward_kv: "attention_backward_kv",
                channels: None,
            }),
            (DType::BF16 | DType::F16, ..=32) => Ok(half!(32)),
            (DType::BF16 | DType::F16, ..=64) => Ok(half!(64)),
            (DType::BF16 | DType::F16, _) => Ok(half!(128)),
            (other, _) => Err(unsupported(OP, other)),
        }
    }
}

/// The passes, by what a block keeps and what it goes through.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    Backward,
}

/// Some heads of an attention, and the layout of their tensors.
struct Heads {
    dtype: DType,
    /// Numbers from token to token: of queries, of keys and values, of the result.
    strides: [usize; 3],
    /// Tokens of a sample: queries, keys.
    tokens: [usize; 2],
    /// Tokens of a group: queries, keys.
    n: usize,
    m: usize,
    samples: usize,
    /// Groups of a sample.
    groups: usize,
    d: usize,
    first_head: usize,
    heads: usize,
    /// Indices of the tokens of each group; tokens are in order if this is none.
    index: Option<Tensor>,
    /// Region of each of them.
    regions: Option<Tensor>,
}

/// Addresses of queries, keys and values, or of their gradients.
#[derive(Clone, Copy)]
struct Addresses {
    q: u64,
    k: u64,
    v: u64,
}

impl Heads {
    /// Memory layout of the kernels' `Attention`; they read half of the last word.
    fn words(&self) -> [u64; 11] {
        let [q, kv, out] = self.strides;
        let [q_tokens, kv_tokens] = self.tokens;
        let scale = (1.0 / (self.d as f64).sqrt()) as f32;
        let ints = [q, kv, out, q_tokens, kv_tokens, self.n, self.m, self.groups, self.d, self.first_head];
        let mut words = [0; 11];
        words.iter_mut().zip(ints).for_each(|(word, value)| *word = value as u64);
        words[10] = u64::from(scale.to_bits());
        words
    }

    /// A block for each so many `tokens` of every group. Groups go along the first dimension, which
    /// is the only one that may be longer than 65535.
    fn blocks(&self, tokens: usize, each: usize) -> [usize; 3] {
        [tokens.div_ceil(each) * self.samples * self.groups, self.heads, 1]
    }

    /// With a block for each tile of `tokens`, which goes through `others`, and the shared memory
    /// that it needs.
    fn grid(&self, kernels: &Kernels, pass: Pass, tokens: usize, others: usize) -> Grid {
        let tile = kernels.tile;
        let shared = match kernels.channels {
            // `Pieces` of the kernels: rows that stay, and one or two stages of those that pass.
            Some(channels) => {
                let kept = match pass {
                    Pass::Forward => 1,
                    Pass::Backward => 2,
                };
                let stages = others.div_ceil(tile).min(2);
                (kept + 2 * stages) * tile * (channels + 8) * self.dtype.size_in_bytes()
            }
            // `shared_of` of the kernels: pieces of rows, and matrices of two kinds.
            None => {
                let (pieces, matrices) = match pass {
                    Pass::Forward => (3, 1),
                    Pass::Backward => (4, 2),
                };
                let (bytes, row) = (self.dtype.size_in_bytes(), self.d.div_ceil(16) * 16 + 8);
                pieces * tile * row * bytes + matrices * (tile * (tile + 8) * bytes + tile * (tile + 4) * 4)
            }
        };
        Grid { blocks: self.blocks(tokens, tile), threads: 2 * tile as u32, shared }
    }

    /// Numbers that there is one of for each query.
    fn per_query(&self, like: &Tensor) -> Result<Tensor> {
        empty(like, self.samples * self.groups * self.heads * self.n, DType::F32)
    }

    fn kernel<'a>(&self, name: &'static str, like: &'a Tensor) -> Result<Kernel<'a>> {
        Kernel::new(OP, name, like, self.dtype)
    }

    /// Appends the arguments that all kernels end with.
    fn finish(&self, kernel: Kernel, bias: Option<&Tensor>, grid: Grid) -> Result<()> {
        let kernel = kernel.maybe(self.index.as_ref())?.maybe(self.regions.as_ref())?.maybe(bias)?;
        kernel.structure(&self.words()).run(grid)
    }

    /// Writes the result of these heads; returns the logarithms of the sums of the softmax.
    fn forward(&self, out: &Tensor, from: Addresses, bias: Option<&Tensor>) -> Result<Tensor> {
        let sums = self.per_query(out)?;
        let kernels = Kernels::of(self.dtype, self.d)?;
        let grid = self.grid(&kernels, Pass::Forward, self.n, self.m);
        let kernel = self.kernel(kernels.forward, out)?.tensor(out)?.tensor(&sums)?;
        self.finish(kernel.at(from.q).at(from.k).at(from.v), bias, grid)?;
        Ok(sums)
    }

    /// Writes the gradients of these heads' queries, keys and values, and adds to that of the bias.
    fn backward(
        &self,
        saved: &Saved,
        to: Addresses,
        from: Addresses,
        dout: &Tensor,
        dbias: Option<&Tensor>,
    ) -> Result<()> {
        let (out, bias) = (&saved.out, saved.bias.as_ref());
        let dots = self.per_query(out)?;
        let kernel = self.kernel("attention_dots", out)?.tensor(&dots)?.tensor(out)?.tensor(dout)?;
        let blocks = self.blocks(self.n, 128);
        let kernel = kernel.maybe(self.index.as_ref())?.structure(&self.words());
        kernel.run(Grid { blocks, threads: 128, shared: 0 })?;
        let sums = &saved.sums[self.first_head / self.heads];
        let kernels = Kernels::of(self.dtype, self.d)?;
        let kernel = self.kernel(kernels.backward_q, out)?.at(to.q).maybe(dbias)?;
        let kernel = kernel.at(from.q).at(from.k).at(from.v).tensor(dout)?.tensor(sums)?.tensor(&dots)?;
        self.finish(kernel, bias, self.grid(&kernels, Pass::Backward, self.n, self.m))?;
        let kernel = self.kernel(kernels.backward_kv, out)?.at(to.k).at(to.v);
        let kernel = kernel.at(from.q).at(from.k).at(from.v).tensor(dout)?.tensor(sums)?.tensor(&dots)?;
        self.finish(kernel, bias, self.grid(&kernels, Pass::Backward, self.m, self.n))
    }
}

/// Values that the backward pass needs.
struct Saved {
    out: Tensor,
    /// Bias of each set of heads.
    sums: Vec<Tensor>,
    /// `[heads, n, m]`.
    bias: Option<Tensor>,
}

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
    let regions = |regions: &[u8]| Tensor::from_slice(regions, regions.len(), qkv.device());
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
            .then(|| indices(qkv, tokens.places().iter().map(|&i| i as u32).collect()))
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
        let entries = indices(like, bias.entries)?;
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
