//! Queries `[b, n, c]` over packed keys and values `[b, m, 2, heads, d]` of other tokens.

use rayon::prelude::*;

use super::{Extra, Head, Out, Qkv};
use crate::ops::kernels::Element;
use crate::ops::kernels::gemm::Mat;

/// Shapes of one attention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cross {
    pub(crate) head: Head,
    pub(crate) heads: usize,
}

impl Cross {
    fn c(&self) -> usize {
        self.heads * self.head.d
    }

    fn qkv<'a, T>(&self, q: &'a [T], kv: &'a [T], h: usize) -> Qkv<'a, T> {
        let (c, at) = (self.c(), h * self.head.d);
        Qkv { q: Mat::rows(&q[at..], c), k: Mat::rows(&kv[at..], 2 * c), v: Mat::rows(&kv[c + at..], 2 * c) }
    }

    fn scores(&self) -> usize {
        self.head.n * self.head.m
    }
}

/// `[b, n, c]`.
pub(crate) fn forward<T: Element>(q: &[T], kv: &[T], g: &Cross) -> Vec<T> {
    let (c, Head { n, m, d }) = (g.c(), g.head);
    let mut out = vec![T::ZERO; q.len()];
    let sequences = out.par_chunks_mut(n * c).zip(q.par_chunks(n * c)).zip(kv.par_chunks(m * 2 * c));
    sequences.for_each_init(
        || vec![T::ZERO; g.scores()],
        |p, ((out, q), kv)| {
            for h in 0..g.heads {
                let x = g.qkv(q, kv, h);
                g.head.probabilities(x, Extra::none(), p);
                g.head.mix(p, x.v, Out::rows(&mut out[h * d..], c));
            }
        },
    );
    out
}

/// Gradients of `q` and `kv`.
pub(crate) fn backward<T: Element>(q: &[T], kv: &[T], dout: &[T], g: &Cross) -> (Vec<T>, Vec<T>) {
    let (c, Head { n, m, d }) = (g.c(), g.head);
    let (mut dq, mut dkv) = (vec![T::ZERO; q.len()], vec![T::ZERO; kv.len()]);
    let grads = dq.par_chunks_mut(n * c).zip(dkv.par_chunks_mut(m * 2 * c));
    let inputs = q.par_chunks(n * c).zip(kv.par_chunks(m * 2 * c)).zip(dout.par_chunks(n * c));
    grads.zip(inputs).for_each_init(
        || (vec![T::ZERO; g.scores()], vec![T::ZERO; g.scores()]),
        |(p, ds), ((dq, dkv), ((q, kv), dout))| {
            // Keys and values lie interleaved: write the keys' gradient here first.
            let mut dk = vec![T::ZERO; m * d];
            for h in 0..g.heads {
                let x = g.qkv(q, kv, h);
                g.head.probabilities(x, Extra::none(), p);
                let dv = Out::rows(&mut dkv[c + h * d..], 2 * c);
                let outs = [Out::rows(&mut dq[h * d..], c), Out::rows(&mut dk, d), dv];
                g.head.pull(x, p, Mat::rows(&dout[h * d..], c), ds, outs);
                for (dkv, dk) in dkv.chunks_exact_mut(2 * c).zip(dk.chunks_exact(d)) {
                    dkv[h * d..][..d].copy_from_slice(dk);
                }
            }
        },
    );
    (dq, dkv)
}
