//! Attention inside windows of a map `[b, h, w, 3, heads, d]`: squares, stripes, shifted ones, or
//! the whole map.

use rayon::prelude::*;

use super::{Extra, Head, Out, Qkv, reads_as_stored};
use crate::ops::kernels::gemm::Mat;
use crate::ops::kernels::{Compute, Storage, vectorized};

/// Parts of the batch that share one partial gradient of the bias: bounds memory and fixes the
/// order of the sum.
const BIAS_GROUPS: usize = 64;

/// Tokens of every window, and their regions where windows are shifted across the map's edge.
#[derive(Clone, Debug)]
pub(crate) struct Tokens {
    /// Tokens of a window.
    pub(crate) n: usize,
    /// Token indices, window by window.
    index: Vec<usize>,
    /// Region of each of them.
    regions: Option<Vec<u8>>,
}

impl Tokens {
    /// Windows of `wh` x `ww` on a map of `h` x `w` (which they tile), moved down by `dy` and right
    /// by `dx` and wrapping around.
    pub(crate) fn new([h, w]: [usize; 2], [wh, ww]: [usize; 2], [dy, dx]: [usize; 2]) -> Self {
        let mut index = Vec::with_capacity(h * w);
        let mut regions = Vec::with_capacity(h * w);
        let region = |at: usize, size: usize, window: usize, shift: usize| {
            u8::from(at >= size - window) + u8::from(at >= size - shift)
        };
        for (top, left) in (0..h).step_by(wh).flat_map(|y| (0..w).step_by(ww).map(move |x| (y, x))) {
            for (y, x) in (top..top + wh).flat_map(|y| (left..left + ww).map(move |x| (y, x))) {
                index.push((y + dy) % h * w + (x + dx) % w);
                regions.push(3 * region(y, h, wh, dy) + region(x, w, ww, dx));
            }
        }
        let shifted = dy > 0 || dx > 0;
        Self { n: wh * ww, index, regions: shifted.then_some(regions) }
    }

    /// Indices of the tokens of all windows, window by window.
    #[cfg(feature = "cuda")]
    pub(crate) fn places(&self) -> &[usize] {
        &self.index
    }

    /// Their regions, where windows are shifted.
    #[cfg(feature = "cuda")]
    pub(crate) fn regions(&self) -> Option<&[u8]> {
        self.regions.as_deref()
    }

    /// The term of each pair of tokens of each window, if windows are shifted.
    pub(crate) fn masks(&self) -> Option<Vec<f32>> {
        let of_window = |regions: &[u8]| -> Vec<f32> {
            let term = |a: &u8, b: &u8| if a == b { 0.0 } else { super::APART as f32 };
            regions.iter().flat_map(|a| regions.iter().map(move |b| term(a, b))).collect()
        };
        Some(self.regions.as_ref()?.chunks_exact(self.n).flat_map(of_window).collect())
    }

    /// Tokens and regions of each window.
    fn windows(&self) -> impl Iterator<Item = (&[usize], Option<&[u8]>)> {
        self.index
            .chunks_exact(self.n)
            .enumerate()
            .map(|(i, tokens)| (tokens, self.regions.as_ref().map(|r| &r[i * self.n..][..self.n])))
    }
}

/// Shapes of one windowed attention; the heads are shared out evenly among `groupings`.
#[derive(Clone, Debug)]
pub(crate) struct Windowed {
    /// Tokens of a map.
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) d: usize,
    pub(crate) groupings: Vec<Tokens>,
}

/// Queries, keys and values of one window's heads, copied together.
struct Inputs<K: Storage> {
    qkv: [Vec<K>; 3],
    /// In the backward pass, the gradient of the result.
    dout: Vec<K>,
    regions: Vec<K::Real>,
    shifted: bool,
}

/// Memory for what one window's heads write, used again for the next.
struct Scratch<K: Storage> {
    out: [Vec<K::Real>; 3],
    p: Vec<K::Real>,
    ds: Vec<K::Real>,
    kept: Vec<K>,
}

impl Windowed {
    fn c(&self) -> usize {
        self.heads * self.d
    }

    /// Heads of one grouping.
    fn share(&self) -> usize {
        self.heads / self.groupings.len()
    }

    fn scratch<K: Storage>(&self) -> (Inputs<K>, Scratch<K>) {
        let n = self.groupings.iter().map(|g| g.n).max().unwrap_or(0);
        let (zero, stored) = (K::Real::ZERO, K::store(K::Real::ZERO));
        let wide = n * self.share() * self.d;
        let rows = || vec![stored; wide];
        let sums = || vec![zero; wide];
        (
            Inputs { qkv: [rows(), rows(), rows()], dout: rows(), regions: vec![zero; n], shifted: false },
            Scratch {
                out: [sums(), sums(), sums()],
                p: vec![zero; n * n],
                ds: vec![zero; n * n],
                kept: vec![stored; if K::EXACT { 0 } else { n * n }],
            },
        )
    }
}

/// `[b, h, w, c]`. `bias`, if any, is `[heads, n, n]` for a single grouping.
pub(crate) fn forward<S: Storage<Real = T>, T: Compute>(
    qkv: &[S],
    bias: Option<&[T]>,
    g: &Windowed,
) -> Vec<S> {
    if reads_as_stored::<S>() {
        forward_in::<S, S, T>(qkv, bias, g)
    } else {
        forward_in::<S, T, T>(qkv, bias, g)
    }
}

fn forward_in<S: Storage<Real = T>, K: Storage<Real = T>, T: Compute>(
    qkv: &[S],
    bias: Option<&[T]>,
    g: &Windowed,
) -> Vec<S> {
    let c = g.c();
    let mut out = vec![S::store(T::ZERO); qkv.len() / 3];
    let maps = out.par_chunks_mut(g.tokens * c).zip(qkv.par_chunks(g.tokens * 3 * c));
    maps.for_each_init(
        || g.scratch::<K>(),
        |(inputs, s), (out, qkv)| {
            for_windows(g, |first, width, n, tokens, regions| {
                inputs.load(qkv, c, (first, width), tokens, regions);
                let (head, p) = (Head { n, m: n, d: g.d }, &mut s.p[..n * n]);
                for h in 0..width / g.d {
                    let x = inputs.head(h * g.d, width);
                    head.probabilities(x, inputs.extra(bias, first / g.d + h, n), p);
                    head.mix(p, x.v, Out::rows(&mut s.out[0][h * g.d..], width), &mut s.kept);
                }
                scatter(&s.out[0], width, tokens, out, c, first);
            });
        },
    );
    out
}

/// Gradients of the packed queries, keys and values, and of the bias if there is one.
pub(crate) fn backward<S: Storage<Real = T>, T: Compute>(
    qkv: &[S],
    bias: Option<&[T]>,
    dout: &[S],
    g: &Windowed,
) -> (Vec<S>, Option<Vec<T>>) {
    if reads_as_stored::<S>() {
        backward_in::<S, S, T>(qkv, bias, dout, g)
    } else {
        backward_in::<S, T, T>(qkv, bias, dout, g)
    }
}

fn backward_in<S: Storage<Real = T>, K: Storage<Real = T>, T: Compute>(
    qkv: &[S],
    bias: Option<&[T]>,
    dout: &[S],
    g: &Windowed,
) -> (Vec<S>, Option<Vec<T>>) {
    let c = g.c();
    let mut dqkv = vec![S::store(T::ZERO); qkv.len()];
    let maps = (dout.len() / (g.tokens * c)).div_ceil(BIAS_GROUPS).max(1);
    let (wide, narrow) = (maps * g.tokens * 3 * c, maps * g.tokens * c);
    let groups = dqkv.par_chunks_mut(wide).zip(qkv.par_chunks(wide)).zip(dout.par_chunks(narrow));
    let partial: Vec<Vec<T>> = groups
        .map_init(
            || g.scratch::<K>(),
            |(inputs, s), ((dqkv, qkv), dout)| {
                let mut dbias = vec![T::ZERO; bias.map_or(0, <[T]>::len)];
                let (wide, narrow) = (g.tokens * 3 * c, g.tokens * c);
                let maps = dqkv.chunks_mut(wide).zip(qkv.chunks(wide)).zip(dout.chunks(narrow));
                for ((dqkv, qkv), dout) in maps {
                    map_backward(g, (inputs, s), (qkv, dout), bias, dqkv, &mut dbias);
                }
                dbias
            },
        )
        .collect();
    let dbias = bias.map(|bias| {
        let mut sum = vec![T::ZERO; bias.len()];
        for part in &partial {
            for (s, &p) in sum.iter_mut().zip(part) {
                *s += p;
            }
        }
        sum
    });
    (dqkv, dbias)
}

/// One map's share of [`backward`].
fn map_backward<S: Storage<Real = T>, K: Storage<Real = T>, T: Compute>(
    g: &Windowed,
    (inputs, s): (&mut Inputs<K>, &mut Scratch<K>),
    (qkv, dout): (&[S], &[S]),
    bias: Option<&[T]>,
    dqkv: &mut [S],
    dbias: &mut [T],
) {
    let c = g.c();
    for_windows(g, |first, width, n, tokens, regions| {
        inputs.load(qkv, c, (first, width), tokens, regions);
        gather(dout, c, first, width, tokens, &mut inputs.dout);
        let (head, p, ds) = (Head { n, m: n, d: g.d }, &mut s.p[..n * n], &mut s.ds[..n * n]);
        for h in 0..width / g.d {
            let (at, number) = (h * g.d, first / g.d + h);
            let x = inputs.head(at, width);
            head.probabilities(x, inputs.extra(bias, number, n), p);
            let outs = s.out.each_mut().map(|grad| Out::rows(&mut grad[at..], width));
            head.pull(x, p, Mat::rows(&inputs.dout[at..], width), (ds, &mut s.kept), outs);
            if bias.is_some() {
                let sum = &mut dbias[number * n * n..][..n * n];
                for (s, &d) in sum.iter_mut().zip(ds.iter()) {
                    *s += d;
                }
            }
        }
        for (part, grad) in s.out.iter().enumerate() {
            scatter(grad, width, tokens, dqkv, 3 * c, part * c + first);
        }
    });
}

/// Calls `work(first channel, channels, tokens of a window, token indices, regions)` for each
/// window of each grouping.
fn for_windows(g: &Windowed, mut work: impl FnMut(usize, usize, usize, &[usize], Option<&[u8]>)) {
    let width = g.share() * g.d;
    for (i, grouping) in g.groupings.iter().enumerate() {
        for (tokens, regions) in grouping.windows() {
            work(i * width, width, grouping.n, tokens, regions);
        }
    }
}

impl<K: Storage<Real = T>, T: Compute> Inputs<K> {
    /// Takes queries, keys and values of a window's tokens, `width` channels from `first` on.
    fn load<S: Storage<Real = T>>(
        &mut self,
        qkv: &[S],
        c: usize,
        (first, width): (usize, usize),
        tokens: &[usize],
        regions: Option<&[u8]>,
    ) {
        for (part, to) in self.qkv.iter_mut().enumerate() {
            gather(qkv, 3 * c, part * c + first, width, tokens, to);
        }
        self.shifted = regions.is_some();
        for (to, &r) in self.regions.iter_mut().zip(regions.into_iter().flatten()) {
            *to = T::of(f64::from(r));
        }
    }

    /// The head whose channels begin at `at`.
    fn head(&self, at: usize, width: usize) -> Qkv<'_, K> {
        let part = |i: usize| Mat::rows(&self.qkv[i][at..], width);
        Qkv { q: part(0), k: part(1), v: part(2) }
    }

    /// Returns the terms that are added to the scores of head `number` of a window of `n` tokens.
    fn extra<'a>(&'a self, bias: Option<&'a [T]>, number: usize, n: usize) -> Extra<'a, T> {
        Extra {
            bias: bias.map(|b| &b[number * n * n..][..n * n]),
            regions: self.shifted.then_some(&self.regions[..n]),
        }
    }
}

/// Copies `width` channels from `first` on of the given rows of `stride` channels.
fn gather<S: Storage, K: Storage<Real = S::Real>>(
    from: &[S],
    stride: usize,
    first: usize,
    width: usize,
    rows: &[usize],
    to: &mut [K],
) {
    vectorized(
        #[inline(always)]
        || {
            for (&row, to) in rows.iter().zip(to.chunks_exact_mut(width)) {
                for (to, from) in to.iter_mut().zip(&from[row * stride + first..][..width]) {
                    *to = K::store(from.load());
                }
            }
        },
    );
}

/// The inverse of [`gather`].
fn scatter<S: Storage>(
    from: &[S::Real],
    width: usize,
    rows: &[usize],
    to: &mut [S],
    stride: usize,
    first: usize,
) {
    vectorized(
        #[inline(always)]
        || {
            for (&row, from) in rows.iter().zip(from.chunks_exact(width)) {
                let to = &mut to[row * stride + first..][..width];
                for (to, &from) in to.iter_mut().zip(from) {
                    *to = S::store(from);
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};

    use super::super::APART;
    use super::*;

    fn golden() -> HashMap<String, Tensor> {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/swin_tables.safetensors");
        candle_core::safetensors::load(file, &Device::Cpu).unwrap()
    }

    #[test]
    fn masks_of_shifted_windows_are_the_reference_s() {
        let mut seen = 0;
        for (key, mask) in golden().iter().filter(|(key, _)| key.contains("attn_mask")) {
            let (size, stage) = key.split_once("/attn_mask_stage").unwrap();
            let (size, stage): (usize, usize) = (size.parse().unwrap(), stage.parse().unwrap());
            let (map, window) = ((size / 4) >> stage, size / 32);
            let tokens = Tokens::new([map; 2], [window; 2], [window / 2; 2]);
            let mut got = Vec::new();
            for (_, regions) in tokens.windows() {
                let regions = regions.unwrap();
                let pairs = regions.iter().flat_map(|a| regions.iter().map(move |b| a == b));
                got.extend(pairs.map(|together| if together { 0.0 } else { APART as f32 }));
            }
            assert_eq!(got, mask.flatten_all().unwrap().to_vec1::<f32>().unwrap(), "{key}");
            seen += 1;
        }
        assert_eq!(seen, 6);
    }

    #[test]
    fn every_token_is_in_one_window() {
        let tokens = Tokens::new([6, 4], [3, 2], [1, 1]);
        let mut all = tokens.index.clone();
        all.sort_unstable();
        assert_eq!(all, (0..24).collect::<Vec<_>>());
        // The first window begins one down and one to the right.
        assert_eq!(tokens.index[..6], [5, 6, 9, 10, 13, 14]);
    }
}
