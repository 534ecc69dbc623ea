//! The heads of an attention that have the same groups of tokens.

use candle_core::{DType, Tensor};

use super::super::launch::{Grid, Kernel};
use super::super::memory::empty;
use super::OP;
use super::kernels::{Kernels, Kind, SINGLE_TILE, TILE, Tiled, Whole};
use crate::Result;

/// Blocks that there should be at least, of kernels that go through several groups: a few rounds of
/// those that a GPU runs at a time.
const BLOCKS: usize = 2048;
/// Groups of a block, at most.
const MOST_GROUPS: usize = 16;

/// Some heads of an attention, and the layout of their tensors.
pub(super) struct Heads {
    pub(super) dtype: DType,
    /// Numbers from token to token: of queries, of keys and values, of the result.
    pub(super) strides: [usize; 3],
    /// Tokens of a sample: queries, keys.
    pub(super) tokens: [usize; 2],
    /// Tokens of a group: queries, keys.
    pub(super) n: usize,
    pub(super) m: usize,
    pub(super) samples: usize,
    /// Groups of a sample.
    pub(super) groups: usize,
    /// Channels of a head.
    pub(super) d: usize,
    pub(super) first_head: usize,
    pub(super) heads: usize,
    /// Indices of the tokens of each group; tokens are in order if this is none.
    pub(super) index: Option<Tensor>,
    /// Region of each of them.
    pub(super) regions: Option<Tensor>,
}

/// Addresses of queries, keys and values, or of their gradients.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) q: u64,
    pub(super) k: u64,
    pub(super) v: u64,
}

/// Values that the backward pass needs.
pub(super) struct Saved {
    pub(super) out: Tensor,
    /// Logarithms of the sums of the softmax, of each set of heads; none where they are computed
    /// again.
    pub(super) sums: Vec<Option<Tensor>>,
    /// `[heads, n, m]`.
    pub(super) bias: Option<Tensor>,
}

/// The passes, by the pieces of rows that a block keeps.
#[derive(Clone, Copy)]
enum Pass {
    Forward,
    Backward,
}

impl Heads {
    fn kernels(&self, bias: Option<&Tensor>) -> Result<Kernels> {
        Kernels::of(&Kind {
            dtype: self.dtype,
            d: self.d,
            n: self.n,
            m: self.m,
            has_bias: bias.is_some(),
            has_regions: self.regions.is_some(),
        })
    }

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

    /// Groups of all samples.
    fn all_groups(&self) -> usize {
        self.samples * self.groups
    }

    /// A block for each so many `tokens` of every group. Groups go along the first dimension, which
    /// is the only one that may be longer than 65535.
    fn blocks(&self, tokens: usize, each: usize) -> [usize; 3] {
        [tokens.div_ceil(each) * self.all_groups(), self.heads, 1]
    }

    /// With a block for some of `tokens`, which goes through `others`, and the shared memory that it
    /// needs.
    fn tiled_grid(&self, kernels: &Tiled, pass: Pass, tokens: usize, others: usize) -> Grid {
        let rows = kernels.block_rows(tokens);
        let bytes = self.dtype.size_in_bytes();
        let shared = match kernels.channels {
            // `Pieces` of the kernels: rows that stay, and one or two stages of those that pass.
            Some(channels) => {
                let kept = match pass {
                    Pass::Forward => 1,
                    Pass::Backward => 2,
                };
                let stages = others.div_ceil(TILE).min(2);
                (kept * rows + 2 * stages * TILE) * (channels + 8) * bytes
            }
            // `shared_of` of the kernels: pieces of rows, and matrices of two kinds.
            None => {
                let (pieces, matrices) = match pass {
                    Pass::Forward => (3, 1),
                    Pass::Backward => (4, 2),
                };
                let (tile, row) = (SINGLE_TILE, self.d.div_ceil(16) * 16 + 8);
                pieces * tile * row * bytes + matrices * (tile * (tile + 8) * bytes + tile * (tile + 4) * 4)
            }
        };
        Grid { blocks: self.blocks(tokens, rows), threads: 2 * rows as u32, shared }
    }

    /// With a block for several groups; groups of a block, and pieces of memory for each of which
    /// there are two stages, beside `more` bytes.
    fn whole_grid(&self, kernels: &Whole, pieces: usize, more: usize) -> (Grid, usize) {
        let each = (self.all_groups() * self.heads / BLOCKS).clamp(1, MOST_GROUPS);
        let shared = 2 * pieces * kernels.tokens * (kernels.channels + 8) * self.dtype.size_in_bytes() + more;
        let blocks = [self.all_groups().div_ceil(each), self.heads, 1];
        (Grid { blocks, threads: 2 * kernels.tokens as u32, shared }, each)
    }

    /// Numbers that there is one of for each query.
    fn per_query(&self, like: &Tensor) -> Result<Tensor> {
        empty(like, self.all_groups() * self.heads * self.n, DType::F32)
    }

    fn kernel<'a>(&self, name: &'static str, like: &'a Tensor) -> Result<Kernel<'a>> {
        Kernel::new(OP, name, like, self.dtype)
    }

    /// Appends the arguments that all kernels have.
    fn common<'a>(&self, kernel: Kernel<'a>, bias: Option<&Tensor>) -> Result<Kernel<'a>> {
        let kernel = kernel.maybe(self.index.as_ref())?.maybe(self.regions.as_ref())?.maybe(bias)?;
        Ok(kernel.structure(&self.words()))
    }

    /// Writes the result of these heads; returns the logarithms of the sums of the softmax if the
    /// backward pass needs them.
    pub(super) fn forward(
        &self,
        out: &Tensor,
        from: Addresses,
        bias: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        match self.kernels(bias)? {
            Kernels::Whole(kernels) => {
                let (grid, each) = self.whole_grid(&kernels, 3, 0);
                let kernel = self.kernel(kernels.forward, out)?.tensor(out)?;
                let kernel = self.common(kernel.at(from.q).at(from.k).at(from.v), bias)?;
                kernel.int(self.all_groups()).flag(each as u32).run(grid)?;
                Ok(None)
            }
            Kernels::Tiled(kernels) => {
                let sums = self.per_query(out)?;
                let grid = self.tiled_grid(&kernels, Pass::Forward, self.n, self.m);
                let kernel = self.kernel(kernels.forward, out)?.tensor(out)?.tensor(&sums)?;
                self.common(kernel.at(from.q).at(from.k).at(from.v), bias)?.run(grid)?;
                Ok(Some(sums))
            }
        }
    }

    /// Writes the gradients of these heads' queries, keys and values, and adds to that of the bias.
    pub(super) fn backward(
        &self,
        saved: &Saved,
        to: Addresses,
        from: Addresses,
        dout: &Tensor,
        dbias: Option<&Tensor>,
    ) -> Result<()> {
        let bias = saved.bias.as_ref();
        match self.kernels(bias)? {
            Kernels::Whole(kernels) => {
                // Probabilities, and the gradients of scores.
                let matrices = 2 * kernels.tokens * (kernels.tokens + 8) * self.dtype.size_in_bytes();
                let (grid, each) = self.whole_grid(&kernels, 4, matrices);
                let kernel = self.kernel(kernels.backward, dout)?.at(to.q).at(to.k).at(to.v).maybe(dbias)?;
                let kernel = kernel.at(from.q).at(from.k).at(from.v).tensor(dout)?;
                self.common(kernel, bias)?.int(self.all_groups()).flag(each as u32).run(grid)
            }
            Kernels::Tiled(kernels) => self.backward_tiled(&kernels, saved, to, from, dout, dbias),
        }
    }

    fn backward_tiled(
        &self,
        kernels: &Tiled,
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
        let sums = saved.sums[self.first_head / self.heads].as_ref();
        let kernel = self.kernel(kernels.backward_q, out)?.at(to.q).maybe(dbias)?;
        let kernel = kernel.at(from.q).at(from.k).at(from.v).tensor(dout)?.maybe(sums)?.tensor(&dots)?;
        let grid = self.tiled_grid(kernels, Pass::Backward, self.n, self.m);
        self.common(kernel, bias)?.run(grid)?;
        let kernel = self.kernel(kernels.backward_kv, out)?.at(to.k).at(to.v);
        let kernel = kernel.at(from.q).at(from.k).at(from.v).tensor(dout)?.maybe(sums)?.tensor(&dots)?;
        self.common(kernel, bias)?.run(self.tiled_grid(kernels, Pass::Backward, self.m, self.n))
    }
}
