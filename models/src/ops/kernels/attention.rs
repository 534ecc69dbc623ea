//! Softmax attention over packed `[b, n, 3, heads, d]` queries, keys and values.

use rayon::prelude::*;

use super::gemm::{Mat, Threads, gemm};
use super::norm::{lane_sum, lane_sum_zip};
use super::{Element, vectorised};

/// Shapes of one attention: `b` sequences of `n` tokens, `heads` heads of `d` channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    pub(crate) n: usize,
    pub(crate) heads: usize,
    pub(crate) d: usize,
}

impl Heads {
    /// Channels of all heads.
    fn c(&self) -> usize {
        self.heads * self.d
    }

    /// Where head `h` of query (0), key (1) or value (2) starts within a token.
    fn offset(&self, part: usize, h: usize) -> usize {
        part * self.c() + h * self.d
    }

    fn scale<T: Element>(&self) -> T {
        T::of(1.0 / (self.d as f64).sqrt())
    }

    /// `softmax(q k^T / sqrt(d))` of one head.
    fn probabilities<T: Element>(&self, qkv: &[T], h: usize, p: &mut [T]) {
        let (n, width) = (self.n, 3 * self.c());
        let (q, k) = (&qkv[self.offset(0, h)..], &qkv[self.offset(1, h)..]);
        gemm(
            (n, n, self.d),
            p,
            n,
            false,
            self.scale(),
            Mat::rows(q, width),
            Mat::transposed(k, width),
            Threads::One,
        );
        vectorised(|| p.chunks_exact_mut(n).for_each(softmax));
    }
}

/// Softmax of a row, in place.
#[inline(always)]
pub(crate) fn softmax<T: Element>(row: &mut [T]) {
    let max = row.iter().fold(row[0], |m, &x| if x > m { x } else { m });
    row.iter_mut().for_each(|x| *x = (*x - max).exp());
    let inverse = T::ONE / lane_sum(row, |x| x);
    row.iter_mut().for_each(|x| *x *= inverse);
}

/// Attention of every sequence: `[b, n, 3c]` to `[b, n, c]`. Keeps no `n x n` matrix.
pub(crate) fn forward<T: Element>(qkv: &[T], g: &Heads) -> Vec<T> {
    let (n, c, width) = (g.n, g.c(), 3 * g.c());
    let mut out = vec![T::ZERO; qkv.len() / 3];
    out.par_chunks_mut(n * c).zip(qkv.par_chunks(n * width)).for_each_init(
        || vec![T::ZERO; n * n],
        |p, (out, qkv)| {
            for h in 0..g.heads {
                g.probabilities(qkv, h, p);
                let v = Mat::rows(&qkv[g.offset(2, h)..], width);
                gemm((n, g.d, n), &mut out[h * g.d..], c, false, T::ONE, Mat::rows(p, n), v, Threads::One);
            }
        },
    );
    out
}

/// Gradient of the packed queries, keys and values; probabilities are computed again.
pub(crate) fn backward<T: Element>(qkv: &[T], dout: &[T], g: &Heads) -> Vec<T> {
    let (n, d, c, width) = (g.n, g.d, g.c(), 3 * g.c());
    let mut dqkv = vec![T::ZERO; qkv.len()];
    let sequences = dqkv.par_chunks_mut(n * width).zip(qkv.par_chunks(n * width)).zip(dout.par_chunks(n * c));
    sequences.for_each_init(
        || (vec![T::ZERO; n * n], vec![T::ZERO; n * n]),
        |(p, dp), ((dqkv, qkv), dout)| {
            for h in 0..g.heads {
                g.probabilities(qkv, h, p);
                let part = |i| Mat::rows(&qkv[g.offset(i, h)..], width);
                let dout = &dout[h * d..];
                let mut write = |i, scale, a, b| {
                    gemm((n, d, n), &mut dqkv[g.offset(i, h)..], width, false, scale, a, b, Threads::One);
                };
                write(2, T::ONE, Mat::transposed(p, n), Mat::rows(dout, c));
                let v = Mat::transposed(&qkv[g.offset(2, h)..], width);
                gemm((n, n, d), dp, n, false, T::ONE, Mat::rows(dout, c), v, Threads::One);
                vectorised(|| {
                    for (dp, p) in dp.chunks_exact_mut(n).zip(p.chunks_exact(n)) {
                        let dot = lane_sum_zip(dp, p, |a, b| a * b);
                        dp.iter_mut().zip(p).for_each(|(g, &p)| *g = p * (*g - dot));
                    }
                });
                write(0, g.scale(), Mat::rows(dp, n), part(1));
                write(1, g.scale(), Mat::transposed(dp, n), part(0));
            }
        },
    );
    dqkv
}
