//! Queries `[b, n, c]` over packed keys and values `[b, m, 2, heads, d]` of other tokens.

use rayon::prelude::*;

use super::{Extra, Head, Out, Qkv, reads_as_stored};
use crate::ops::kernels::gemm::Mat;
use crate::ops::kernels::{Compute, Storage, vectorized};

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
}

/// Copies of one sequence's numbers, and memory for what comes of them, used again for the next.
struct Scratch<K: Storage> {
    q: Vec<K>,
    kv: Vec<K>,
    dout: Vec<K>,
    dkv: Vec<K::Real>,
    out: Vec<K::Real>,
    p: Vec<K::Real>,
    ds: Vec<K::Real>,
    kept: Vec<K>,
    dk: Vec<K::Real>,
}

impl<K: Storage> Scratch<K> {
    fn new(g: &Cross) -> Self {
        let (c, Head { n, m, d }) = (g.c(), g.head);
        let room = |len: usize| vec![K::Real::ZERO; len];
        let stored = |len: usize| vec![K::store(K::Real::ZERO); len];
        Self {
            q: stored(n * c),
            kv: stored(m * 2 * c),
            dout: stored(n * c),
            dkv: room(m * 2 * c),
            out: room(n * c),
            p: room(n * m),
            ds: room(n * m),
            kept: stored(if K::EXACT { 0 } else { n * m }),
            dk: room(m * d),
        }
    }
}

fn load<S: Storage, K: Storage<Real = S::Real>>(from: &[S], to: &mut [K]) {
    vectorized(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = K::store(from.load());
            }
        },
    );
}

fn store<S: Storage>(from: &[S::Real], to: &mut [S]) {
    vectorized(
        #[inline(always)]
        || {
            for (to, &from) in to.iter_mut().zip(from) {
                *to = S::store(from);
            }
        },
    );
}

/// `[b, n, c]`.
pub(crate) fn forward<S: Storage>(q: &[S], kv: &[S], g: &Cross) -> Vec<S> {
    if reads_as_stored::<S>() { forward_in::<S, S>(q, kv, g) } else { forward_in::<S, S::Real>(q, kv, g) }
}

fn forward_in<S: Storage, K: Storage<Real = S::Real>>(q: &[S], kv: &[S], g: &Cross) -> Vec<S> {
    let (c, Head { n, m, d }) = (g.c(), g.head);
    let mut out = vec![S::store(S::Real::ZERO); q.len()];
    let sequences = out.par_chunks_mut(n * c).zip(q.par_chunks(n * c)).zip(kv.par_chunks(m * 2 * c));
    sequences.for_each_init(
        || Scratch::<K>::new(g),
        |s, ((out, q), kv)| {
            load(q, &mut s.q);
            load(kv, &mut s.kv);
            for h in 0..g.heads {
                let x = g.qkv(&s.q, &s.kv, h);
                g.head.probabilities(x, Extra::none(), &mut s.p);
                g.head.mix(&s.p, x.v, Out::rows(&mut s.out[h * d..], c), &mut s.kept);
            }
            store(&s.out, out);
        },
    );
    out
}

/// Gradients of `q` and `kv`.
pub(crate) fn backward<S: Storage>(q: &[S], kv: &[S], dout: &[S], g: &Cross) -> (Vec<S>, Vec<S>) {
    if reads_as_stored::<S>() {
        backward_in::<S, S>(q, kv, dout, g)
    } else {
        backward_in::<S, S::Real>(q, kv, dout, g)
    }
}

fn backward_in<S: Storage, K: Storage<Real = S::Real>>(
    q: &[S],
    kv: &[S],
    dout: &[S],
    g: &Cross,
) -> (Vec<S>, Vec<S>) {
    let (c, Head { n, m, d }) = (g.c(), g.head);
    let zero = S::store(S::Real::ZERO);
    let (mut dq, mut dkv) = (vec![zero; q.len()], vec![zero; kv.len()]);
    let grads = dq.par_chunks_mut(n * c).zip(dkv.par_chunks_mut(m * 2 * c));
    let inputs = q.par_chunks(n * c).zip(kv.par_chunks(m * 2 * c)).zip(dout.par_chunks(n * c));
    grads.zip(inputs).for_each_init(
        || Scratch::<K>::new(g),
        |s, ((dq, dkv), ((q, kv), dout))| {
            load(q, &mut s.q);
            load(kv, &mut s.kv);
            load(dout, &mut s.dout);
            for h in 0..g.heads {
                let x = g.qkv(&s.q, &s.kv, h);
                g.head.probabilities(x, Extra::none(), &mut s.p);
                let dv = Out::rows(&mut s.dkv[c + h * d..], 2 * c);
                // Keys and values are interleaved, so the keys' gradient is written to scratch
                // memory first.
                let outs = [Out::rows(&mut s.out[h * d..], c), Out::rows(&mut s.dk, d), dv];
                g.head.pull(x, &s.p, Mat::rows(&s.dout[h * d..], c), (&mut s.ds, &mut s.kept), outs);
                for (dkv, dk) in s.dkv.chunks_exact_mut(2 * c).zip(s.dk.chunks_exact(d)) {
                    dkv[h * d..][..d].copy_from_slice(dk);
                }
            }
            store(&s.out, dq);
            store(&s.dkv, dkv);
        },
    );
    (dq, dkv)
}
