//! Packing of the factors of a product in pairs: the left factor is copied, the right factor is
//! rounded.
#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;

use super::super::{Left, Right};
use super::shuffle::{Shuffle, pair};
use super::{COLS, LANES, PAIRS, PairVec, PanelShape, ROWS};
use crate::ops::kernels::{Compute, Storage};

/// Distance of the rows of a left panel.
pub(super) const PANEL_STRIDE: usize = 2 * PAIRS;

/// Copies rows `rows`, inner indices `ks` of the left factor into panels, padded with zeros.
#[inline(always)]
pub(super) fn pack_left<P: Shuffle>(
    shuffle: P,
    a: &Left<bf16>,
    shape: PanelShape,
    rows: Range<usize>,
    ks: Range<usize>,
    panels: &mut [bf16],
) {
    let padded = ks.len().next_multiple_of(2 * shape.unit);
    match a {
        Left::Rows(data, width) => {
            for (row, out) in rows.zip(panels.chunks_exact_mut(PANEL_STRIDE)) {
                let (out, rest) = out[..padded].split_at_mut(ks.len());
                out.copy_from_slice(&data[row * width + ks.start..][..ks.len()]);
                rest.fill(bf16::ZERO);
            }
        }
        Left::Im2col(windows) => {
            for (row, out) in rows.zip(panels.chunks_exact_mut(PANEL_STRIDE)) {
                let (out, rest) = out[..padded].split_at_mut(ks.len());
                rest.fill(bf16::ZERO);
                windows.copy_as(
                    row,
                    ks.clone(),
                    out,
                    bf16::ZERO,
                    #[inline(always)]
                    |from, to| to.copy_from_slice(from),
                );
            }
        }
        Left::Columns(data, width) if shape.by_rows => {
            transpose_left(
                shuffle,
                &data[ks.start * width + rows.start..],
                *width,
                (rows.len(), ks.len()),
                panels,
            );
        }
        Left::Columns(data, width) => {
            for (p, k) in ks.clone().step_by(2).enumerate() {
                let row = |k: usize| &data[k * width + rows.start..][..rows.len()];
                columns(row(k), (k + 1 < ks.end).then(|| row(k + 1)), p, panels);
            }
        }
    }
}

/// Puts two rows of a transposed left factor into its panels as pair `p`.
#[inline(always)]
fn columns(low: &[bf16], high: Option<&[bf16]>, p: usize, panels: &mut [bf16]) {
    let panels =
        panels.chunks_exact_mut(ROWS * PANEL_STRIDE).map(|panel| &mut panel[2 * ROWS * p..][..2 * ROWS]);
    for ((i, low), panel) in low.chunks(ROWS).enumerate().zip(panels) {
        let high = high.map(|high| &high[i * ROWS..][..low.len()]);
        let pairs: [u32; ROWS] =
            match (low.first_chunk::<ROWS>(), high.and_then(<[bf16]>::first_chunk::<ROWS>)) {
                (Some(low), Some(high)) => std::array::from_fn(|i| pair(low[i], high[i])),
                _ => std::array::from_fn(|i| {
                    let of = |row: &[bf16]| row.get(i).copied().unwrap_or(bf16::ZERO);
                    pair(of(low), high.map_or(bf16::ZERO, of))
                }),
            };
        write_pairs(pairs, panel);
    }
}

/// Writes pairs as numbers, the first of a pair in the low half: it comes first on the only
/// machines that this runs on.
#[inline(always)]
fn write_pairs<const N: usize>(pairs: [u32; N], to: &mut [bf16]) {
    let to = &mut to[..2 * N];
    // SAFETY: the slice holds `2 * N` elements.
    unsafe { to.as_mut_ptr().cast::<[u32; N]>().write_unaligned(pairs) };
}

/// `depth` rows of `count` numbers, `width` apart, as rows of panels, padded with zeros.
#[inline(always)]
fn transpose_left<P: Shuffle>(
    shuffle: P,
    from: &[bf16],
    width: usize,
    (count, depth): (usize, usize),
    panels: &mut [bf16],
) {
    for k in (0..depth).step_by(2 * LANES) {
        for r in (0..count).step_by(LANES) {
            let mut pairs = [PairVec([0; LANES]); LANES];
            let rows = LANES.min(count - r);
            for (i, pairs) in pairs.iter_mut().enumerate().take((depth - k).div_ceil(2)) {
                let row = |k: usize| &from[k * width + r..][..rows];
                let low = row(k + 2 * i);
                let high = (k + 2 * i + 1 < depth).then(|| row(k + 2 * i + 1));
                match (low.first_chunk::<LANES>(), high.and_then(<[bf16]>::first_chunk::<LANES>)) {
                    (Some(low), Some(high)) => *pairs = shuffle.interleave(low, high),
                    _ => {
                        for (j, (to, &low)) in pairs.0.iter_mut().zip(low).enumerate() {
                            *to = pair(low, high.map_or(bf16::ZERO, |high| high[j]));
                        }
                    }
                }
            }
            shuffle.transpose(&mut pairs);
            for (PairVec(pairs), to) in
                pairs.into_iter().zip(panels[r * PANEL_STRIDE + k..].chunks_mut(PANEL_STRIDE)).take(rows)
            {
                write_pairs(pairs, to);
            }
        }
    }
}

/// Packs inner indices `ks` of columns `cols` of the right factor, and zeros up to `pairs`; `lines`
/// are scratch of a row each.
#[inline(always)]
pub(super) fn pack_right<P: Shuffle, B: Storage>(
    shuffle: P,
    b: &Right<B>,
    ks: Range<usize>,
    cols: Range<usize>,
    pairs: usize,
    out: &mut [PairVec],
    [low, high]: &mut [Vec<bf16>; 2],
) {
    let out = &mut out[..cols.len().div_ceil(COLS) * 2 * pairs];
    for panel in out.chunks_exact_mut(2 * pairs.max(1)) {
        panel[2 * ks.len().div_ceil(2)..].fill(PairVec([0; LANES]));
    }
    let places = ks.clone().step_by(2).enumerate().map(|(p, k)| (p, k, (k + 1 < ks.end).then_some(k + 1)));
    match b {
        Right::Rows(data, width) => {
            for (p, k, next) in places {
                let row = |k: usize| &data[k * width + cols.start..][..cols.len()];
                spread(shuffle, row(k), next.map(row), p, pairs, out);
            }
        }
        Right::FlippedKernel(weight) => {
            for (p, k, next) in places {
                let row = |k: usize| &weight.row(k)[cols.clone()];
                spread(shuffle, row(k), next.map(row), p, pairs, out);
            }
        }
        Right::Im2col(windows) => {
            for (p, k, next) in places {
                let (low, high) = (&mut low[..cols.len()], &mut high[..cols.len()]);
                windows.copy_as(k, cols.clone(), low, bf16::ZERO, round);
                if let Some(k) = next {
                    windows.copy_as(k, cols.clone(), high, bf16::ZERO, round);
                }
                spread(shuffle, low, next.map(|_| &*high), p, pairs, out);
            }
        }
        Right::Columns(data, width) => {
            for (out, first) in out.chunks_exact_mut(2 * pairs.max(1)).zip(cols.clone().step_by(COLS)) {
                let count = COLS.min(cols.end - first);
                transpose(shuffle, &data[first * width + ks.start..], *width, (count, ks.len()), out);
            }
        }
    }
}

#[inline(always)]
fn round<S: Storage>(from: &[S], to: &mut [bf16]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.round();
    }
}

/// Puts two rows of the right factor into its panels as pair `p` of `pairs`.
#[inline(always)]
fn spread<P: Shuffle, S: Storage>(
    shuffle: P,
    low: &[S],
    high: Option<&[S]>,
    p: usize,
    pairs: usize,
    out: &mut [PairVec],
) {
    let zero = [S::store(S::Real::ZERO); LANES];
    for (i, low) in low.chunks(LANES).enumerate() {
        let out = &mut out[(i / 2 * pairs + p) * 2 + i % 2];
        let high = high.map_or(&zero[..low.len()], |high| &high[i * LANES..][..low.len()]);
        if let (Some(low), Some(high)) = (low.first_chunk::<LANES>(), high.first_chunk::<LANES>()) {
            *out = shuffle.interleave(low, high);
        } else {
            for ((out, &low), &high) in out.0.iter_mut().zip(low).zip(high) {
                *out = pair(low, high);
            }
        }
    }
}

/// `count` rows of `depth` numbers, `width` apart, as the columns of a panel.
#[inline(always)]
fn transpose<P: Shuffle, S: Storage>(
    shuffle: P,
    from: &[S],
    width: usize,
    (count, depth): (usize, usize),
    to: &mut [PairVec],
) {
    for p in (0..depth.div_ceil(2)).step_by(LANES) {
        for r in (0..count).step_by(LANES) {
            let to = &mut to[2 * p + r / LANES..];
            if 2 * (p + LANES) <= depth && r + LANES <= count {
                let mut rows = [PairVec([0; LANES]); LANES];
                for (i, pairs) in rows.iter_mut().enumerate() {
                    let row = from[(r + i) * width + 2 * p..].first_chunk();
                    *pairs = shuffle.adjacent(row.expect("sixteen pairs are left"));
                }
                shuffle.transpose(&mut rows);
                for (to, row) in to.iter_mut().step_by(2).zip(rows) {
                    *to = row;
                }
            } else {
                let zero = S::store(S::Real::ZERO);
                for (j, PairVec(to)) in
                    to.iter_mut().step_by(2).take(LANES.min(depth.div_ceil(2) - p)).enumerate()
                {
                    for i in r..count.min(r + LANES) {
                        let row = &from[i * width..];
                        let high = if 2 * (p + j) + 1 < depth { row[2 * (p + j) + 1] } else { zero };
                        to[i - r] = pair(row[2 * (p + j)], high);
                    }
                }
            }
        }
    }
}
