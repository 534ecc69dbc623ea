//! Softmax attention: one head of one group of tokens ([`Head`]), and the two ways that tokens are grouped.

pub(crate) mod cross;
pub(crate) mod windows;

use super::gemm::{Mat, gemm};
use super::norm::{lane_sum, lane_sum_zip};
use super::{Element, vectorised};

/// Score that a shifted window gives to a pair of tokens from different regions, as the reference has it.
const APART: f64 = -100.0;

/// Shapes of one head: `n` queries of `d` channels over `m` keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) n: usize,
    pub(crate) m: usize,
    pub(crate) d: usize,
}

/// Queries `[n, d]`, keys and values `[m, d]` of one head.
#[derive(Clone, Copy)]
pub(crate) struct Qkv<'a, T> {
    pub(crate) q: Mat<'a, T>,
    pub(crate) k: Mat<'a, T>,
    pub(crate) v: Mat<'a, T>,
}

/// What is added to the scores before the softmax.
#[derive(Clone, Copy)]
pub(crate) struct Extra<'a, T> {
    /// `[n, m]`.
    pub(crate) bias: Option<&'a [T]>,
    /// Region of each token; tokens of different regions do not see each other.
    pub(crate) regions: Option<&'a [T]>,
}

impl<T> Extra<'_, T> {
    pub(crate) fn none() -> Self {
        Self { bias: None, regions: None }
    }
}

/// A place to write `[rows, d]`, rows `width` apart.
pub(crate) struct Out<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) width: usize,
}

impl<'a, T> Out<'a, T> {
    pub(crate) fn rows(data: &'a mut [T], width: usize) -> Self {
        Self { data, width }
    }
}

impl Head {
    fn scale<T: Element>(&self) -> T {
        T::of(1.0 / (self.d as f64).sqrt())
    }

    /// `softmax(q k^T / sqrt(d) + extra)`, `[n, m]`.
    pub(crate) fn probabilities<T: Element>(&self, x: Qkv<T>, extra: Extra<T>, p: &mut [T]) {
        let (n, m) = (self.n, self.m);
        gemm((n, m, self.d), p, m, false, self.scale(), x.q, x.k.t());
        vectorised(
            #[inline(always)]
            || {
                for (i, p) in p.chunks_exact_mut(m).enumerate() {
                    if let Some(bias) = extra.bias {
                        for (p, &b) in p.iter_mut().zip(&bias[i * m..][..m]) {
                            *p += b;
                        }
                    }
                    if let Some(regions) = extra.regions {
                        let own = regions[i];
                        let apart = T::of(APART);
                        for (p, &r) in p.iter_mut().zip(regions) {
                            *p += if r == own { T::ZERO } else { apart };
                        }
                    }
                    softmax(p);
                }
            },
        );
    }

    /// `p v`.
    pub(crate) fn mix<T: Element>(&self, p: &[T], v: Mat<T>, out: Out<T>) {
        let (p, width) = (Mat::rows(p, self.m), out.width);
        gemm((self.n, self.d, self.m), out.data, width, false, T::ONE, p, v);
    }

    /// Gradients of queries, keys and values from that of the result; leaves the gradient of the scores in `ds`.
    ///
    /// `p` are the probabilities, `ds` is scratch of the same size.
    pub(crate) fn pull<T: Element>(
        &self,
        x: Qkv<T>,
        p: &[T],
        dout: Mat<T>,
        ds: &mut [T],
        [dq, dk, dv]: [Out<T>; 3],
    ) {
        let Self { n, m, d } = *self;
        gemm((m, d, n), dv.data, dv.width, false, T::ONE, Mat::rows(p, m).t(), dout);
        gemm((n, m, d), ds, m, false, T::ONE, dout, x.v.t());
        vectorised(
            #[inline(always)]
            || {
                for (ds, p) in ds.chunks_exact_mut(m).zip(p.chunks_exact(m)) {
                    let dot = lane_sum_zip(ds, p, |a, b| a * b);
                    for (g, &p) in ds.iter_mut().zip(p) {
                        *g = p * (*g - dot);
                    }
                }
            },
        );
        let ds = Mat::rows(ds, m);
        gemm((n, d, m), dq.data, dq.width, false, self.scale(), ds, x.k);
        gemm((m, d, n), dk.data, dk.width, false, self.scale(), ds.t(), x.q);
    }
}

/// Softmax of a row, in place.
#[inline(always)]
pub(crate) fn softmax<T: Element>(row: &mut [T]) {
    let max = row.iter().fold(row[0], |m, &x| if x > m { x } else { m });
    for x in row.iter_mut() {
        *x = (*x - max).exp();
    }
    let inverse = T::ONE / lane_sum(row, |x| x);
    for x in row.iter_mut() {
        *x *= inverse;
    }
}
