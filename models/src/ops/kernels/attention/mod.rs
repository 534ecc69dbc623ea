//! Softmax attention: one head of one group of tokens ([`Head`]), and the two ways that tokens are
//! grouped.
//!
//! `S` is the storage type of tensors, `K` the type in which products read their factors: the
//! compute type, or `bf16` if tensors are `bf16` and the machine multiplies `bf16`. Scores, their
//! softmax and all sums are not rounded.

pub(crate) mod cross;
pub(crate) mod windows;

use super::gemm::{Mat, multiply};
use super::lanes::{lane_max, lane_sum, lane_sum_zip};
use super::product::multiplies_bf16;
use super::{Compute, FusedLoop, Storage, vectorized, vectorized_fused};

/// Term of the score of two tokens from different regions of a shifted window, as in the reference.
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

/// Terms that are added to the scores before the softmax.
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

/// Memory for `[rows, d]`, with rows `width` elements apart.
pub(crate) struct Out<'a, T> {
    pub(crate) data: &'a mut [T],
    pub(crate) width: usize,
}

impl<'a, T> Out<'a, T> {
    pub(crate) fn rows(data: &'a mut [T], width: usize) -> Self {
        Self { data, width }
    }
}

/// Tells if products read numbers as they are stored; otherwise they are converted to the compute
/// type first.
fn reads_as_stored<S: Storage>() -> bool {
    S::EXACT || multiplies_bf16()
}

impl Head {
    fn scale<T: Compute>(&self) -> T {
        T::of(1.0 / (self.d as f64).sqrt())
    }

    /// `softmax(q k^T / sqrt(d) + extra)`, `[n, m]`.
    pub(crate) fn probabilities<K: Storage>(&self, x: Qkv<K>, extra: Extra<K::Real>, p: &mut [K::Real]) {
        let (n, m) = (self.n, self.m);
        multiply((n, m, self.d), p, m, self.scale(), x.q, x.k.t());
        vectorized_fused(Softmax { p, m, extra });
    }

    /// `p v`; `kept` is scratch memory as large as `p`.
    pub(crate) fn mix<K: Storage>(&self, p: &[K::Real], v: Mat<K>, out: Out<K::Real>, kept: &mut [K]) {
        let (p, width) = (Mat::rows(keep(p, kept), self.m), out.width);
        multiply((self.n, self.d, self.m), out.data, width, K::Real::ONE, p, v);
    }

    /// Gradients of queries, keys and values from that of the result; leaves the gradient of the
    /// scores in `ds`.
    ///
    /// `p` are the probabilities, `ds` and `kept` are scratch of the same size.
    pub(crate) fn pull<K: Storage>(
        &self,
        x: Qkv<K>,
        p: &[K::Real],
        dout: Mat<K>,
        (ds, kept): (&mut [K::Real], &mut [K]),
        [dq, dk, dv]: [Out<K::Real>; 3],
    ) {
        let Self { n, m, d } = *self;
        multiply((m, d, n), dv.data, dv.width, K::Real::ONE, Mat::rows(keep(p, kept), m).t(), dout);
        multiply((n, m, d), ds, m, K::Real::ONE, dout, x.v.t());
        vectorized(
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
        let ds = Mat::rows(keep(ds, kept), m);
        multiply((n, d, m), dq.data, dq.width, self.scale(), ds, x.k);
        multiply((m, d, n), dk.data, dk.width, self.scale(), ds.t(), x.q);
    }
}

/// Returns numbers in the type that products read: unchanged, or rounded into `scratch`.
fn keep<'a, K: Storage>(numbers: &'a [K::Real], scratch: &'a mut [K]) -> &'a [K] {
    if let Some(same) = K::as_stored(numbers) {
        return same;
    }
    let scratch = &mut scratch[..numbers.len()];
    vectorized(
        #[inline(always)]
        || {
            for (to, &from) in scratch.iter_mut().zip(numbers) {
                *to = K::store(from);
            }
        },
    );
    scratch
}

/// Softmax of each row of `m` scores and their extra terms, in place.
struct Softmax<'a, T> {
    p: &'a mut [T],
    m: usize,
    extra: Extra<'a, T>,
}

impl<T: Compute> FusedLoop for Softmax<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Self { p, m, extra } = self;
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
            softmax::<T, FUSED>(p);
        }
    }
}

/// Softmax of a row, in place.
#[inline(always)]
pub(crate) fn softmax<T: Compute, const FUSED: bool>(row: &mut [T]) {
    let max = lane_max(row);
    for x in row.iter_mut() {
        *x = (*x - max).exp::<FUSED>();
    }
    let inverse = T::ONE / lane_sum(row, |x| x);
    for x in row.iter_mut() {
        *x *= inverse;
    }
}
