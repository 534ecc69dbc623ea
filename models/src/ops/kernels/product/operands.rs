//! The two factors of a product, and how they are packed for the tiles.
#![allow(unsafe_code)]

use std::ops::Range;

use half::bf16;

use super::im2col::{Im2col, load};
use super::tile::DEPTH;
use crate::ops::kernels::Storage;

/// The left factor, `m` x `k`.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a, S> {
    /// Rows at a distance of this many elements.
    Rows(&'a [S], usize),
    /// The transpose of a matrix whose rows are at a distance of this many elements.
    Columns(&'a [S], usize),
    /// Windows of images.
    Im2col(Im2col<'a, S>),
}

impl<'a, S: Storage> Left<'a, S> {
    /// The same factor, if its numbers are `bf16`.
    pub(super) fn as_bf16(&self) -> Option<Left<'a, bf16>> {
        Some(match *self {
            Self::Rows(data, width) => Left::Rows(S::as_bf16(data)?, width),
            Self::Columns(data, width) => Left::Columns(S::as_bf16(data)?, width),
            Self::Im2col(windows) => Left::Im2col(Im2col {
                x: S::as_bf16(windows.x)?,
                size: windows.size,
                c: windows.c,
                count: windows.count,
                step: windows.step,
                origin: windows.origin,
                kernel: windows.kernel,
                dilation: windows.dilation,
            }),
        })
    }

    /// Tells if its panels are stored by rows.
    pub(super) fn by_rows(&self) -> bool {
        !matches!(self, Self::Columns(..))
    }

    /// Returns rows `rows`, inner indices `ks`, and their row stride, if they need no packing.
    pub(super) fn unpacked(&self, rows: &Range<usize>, ks: &Range<usize>) -> Option<(&[S::Real], usize)> {
        let Self::Rows(data, width) = self else { return None };
        let numbers = S::as_compute(data)?;
        Some((&numbers[rows.start * width + ks.start..][..(rows.len() - 1) * width + ks.len()], *width))
    }

    /// Number of panels that are packed at once: several panels of columns, so that whole cache
    /// lines are read.
    pub(super) fn strips(&self) -> usize {
        if self.by_rows() { 1 } else { 8 }
    }

    /// Copies rows `rows`, inner indices `ks` into panels for tiles of `tile` rows.
    #[inline(always)]
    pub(super) fn pack(&self, rows: Range<usize>, ks: Range<usize>, tile: usize, panels: &mut [S::Real]) {
        match self {
            Self::Rows(data, width) => {
                for (row, out) in rows.zip(panels.chunks_exact_mut(DEPTH)) {
                    load(&data[row * width + ks.start..][..ks.len()], &mut out[..ks.len()]);
                }
            }
            Self::Im2col(windows) => {
                for (row, out) in rows.zip(panels.chunks_exact_mut(DEPTH)) {
                    windows.copy(row, ks.clone(), &mut out[..ks.len()]);
                }
            }
            Self::Columns(data, width) => {
                for (i, k) in ks.enumerate() {
                    prefetch(data, (k + AHEAD) * width + rows.start, rows.len());
                    let row = &data[k * width + rows.start..][..rows.len()];
                    match tile {
                        12 => columns::<S, 12>(row, i, panels),
                        6 => columns::<S, 6>(row, i, panels),
                        _ => unreachable!("tiles have twelve or six rows"),
                    }
                }
            }
        }
    }
}

/// Number of rows that are prefetched before some of their columns are packed.
const AHEAD: usize = 8;

/// Prefetches `len` elements from `at` on, if they exist: the hardware prefetcher does not follow
/// rows that are far apart.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(unused_variables))]
fn prefetch<S>(data: &[S], at: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(row) = data.get(at..at + len) {
        for line in row.chunks(64 / size_of::<S>()) {
            // SAFETY: asking has no effect but on caches.
            unsafe {
                std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast());
            }
        }
    }
}

/// Puts one row of a transposed left factor into its panels; a length that is known beforehand
/// needs no loop.
#[inline(always)]
fn columns<S: Storage, const TILE: usize>(row: &[S], i: usize, panels: &mut [S::Real]) {
    let (whole, rest) = row.as_chunks::<TILE>();
    let mut panels = panels.chunks_exact_mut(TILE * DEPTH);
    for (piece, panel) in whole.iter().zip(&mut panels) {
        load(piece, &mut panel[i * TILE..][..TILE]);
    }
    if let Some(panel) = panels.next() {
        load(rest, &mut panel[i * TILE..][..rest.len()]);
    }
}

/// The right factor, `k` x `n`.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a, S> {
    /// Rows at a distance of this many elements.
    Rows(&'a [S], usize),
    /// The transpose of a matrix whose rows are at a distance of this many elements.
    Columns(&'a [S], usize),
    /// Windows of images.
    Im2col(Im2col<'a, S>),
    /// Places of a convolution's kernel in reverse.
    FlippedKernel(FlippedKernel<'a, S>),
}

/// A convolution's packed weight `[o, kh, kw, c]` as the matrix `[(y, x, o), c]` of some of its
/// places, in reverse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlippedKernel<'a, S> {
    pub(crate) w: &'a [S],
    pub(crate) o: usize,
    pub(crate) c: usize,
    pub(crate) kernel: [usize; 2],
    /// Rows and columns of the kernel that are there.
    pub(crate) count: [usize; 2],
    /// The last of them, which come first here.
    pub(crate) last: [usize; 2],
    /// Distance of two of these rows or columns in the kernel.
    pub(crate) step: usize,
}

impl<'a, S> FlippedKernel<'a, S> {
    pub(super) fn row(&self, k: usize) -> &'a [S] {
        let (place, o) = (k / self.o, k % self.o);
        let y = self.last[0] - place / self.count[1] * self.step;
        let x = self.last[1] - place % self.count[1] * self.step;
        &self.w[((o * self.kernel[0] + y) * self.kernel[1] + x) * self.c..][..self.c]
    }
}

impl<S: Storage> Right<'_, S> {
    /// Packs inner indices `ks` of columns `cols` in panels of `tile` columns; `line` is scratch of
    /// a row.
    #[inline(always)]
    pub(super) fn pack(
        &self,
        ks: Range<usize>,
        cols: Range<usize>,
        tile: usize,
        out: &mut [S::Real],
        line: &mut [S::Real],
    ) {
        let depth = ks.len();
        match self {
            Self::Rows(data, width) => {
                for (i, k) in ks.enumerate() {
                    prefetch(data, (k + AHEAD) * width + cols.start, cols.len());
                    spread(&data[k * width + cols.start..][..cols.len()], i, depth, tile, out);
                }
            }
            Self::FlippedKernel(weight) => {
                for (i, k) in ks.enumerate() {
                    spread(&weight.row(k)[cols.clone()], i, depth, tile, out);
                }
            }
            Self::Im2col(windows) => {
                for (i, k) in ks.enumerate() {
                    windows.copy(k, cols.clone(), &mut line[..cols.len()]);
                    spread(&line[..cols.len()], i, depth, tile, out);
                }
            }
            Self::Columns(data, width) => {
                for (panel, first) in out.chunks_exact_mut(depth * tile).zip(cols.clone().step_by(tile)) {
                    let count = tile.min(cols.end - first);
                    transpose(&data[first * width + ks.start..], *width, count, depth, tile, panel);
                }
            }
        }
    }
}

/// Puts one row of the right factor into its panels.
#[inline(always)]
fn spread<S: Storage>(row: &[S], i: usize, depth: usize, tile: usize, out: &mut [S::Real]) {
    match tile {
        32 => spread_by::<S, 32>(row, i, depth, out),
        16 => spread_by::<S, 16>(row, i, depth, out),
        _ => {
            for (panel, piece) in row.chunks(tile).enumerate() {
                load(piece, &mut out[(panel * depth + i) * tile..][..piece.len()]);
            }
        }
    }
}

/// Does the same as [`spread`] for a width known at compile time, which needs no call for each
/// short copy.
#[inline(always)]
fn spread_by<S: Storage, const TILE: usize>(row: &[S], i: usize, depth: usize, out: &mut [S::Real]) {
    let (whole, rest) = row.as_chunks::<TILE>();
    let (out, _) = out.as_chunks_mut::<TILE>();
    for (panel, piece) in whole.iter().enumerate() {
        load(piece, &mut out[panel * depth + i]);
    }
    if !rest.is_empty() {
        load(rest, &mut out[whole.len() * depth + i][..rest.len()]);
    }
}

/// `count` rows of `depth` elements, `width` apart, to `depth` rows of `count` elements, `tile`
/// apart.
#[inline(always)]
fn transpose<S: Storage>(
    from: &[S],
    width: usize,
    count: usize,
    depth: usize,
    tile: usize,
    to: &mut [S::Real],
) {
    const SQUARE: usize = 16;
    for k in (0..depth).step_by(SQUARE) {
        for r in (0..count).step_by(SQUARE) {
            if k + SQUARE <= depth && r + SQUARE <= count {
                let rows: [&[S; SQUARE]; SQUARE] = std::array::from_fn(|i| {
                    from[(r + i) * width + k..].first_chunk().expect("sixteen elements are left")
                });
                for (j, to) in to[k * tile..].chunks_mut(tile).take(SQUARE).enumerate() {
                    let column: [S::Real; SQUARE] = std::array::from_fn(|i| rows[i][j].load());
                    to[r..r + SQUARE].copy_from_slice(&column);
                }
            } else {
                for j in k..depth.min(k + SQUARE) {
                    for i in r..count.min(r + SQUARE) {
                        to[j * tile + i] = from[i * width + j].load();
                    }
                }
            }
        }
    }
}
