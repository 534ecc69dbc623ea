//! Where the two factors of a product come from, and how they are packed for the tiles.

use std::ops::Range;

use super::super::Element;
use super::tile::DEPTH;
use super::windows::Windows;

/// The left factor, `m` x `k`.
#[derive(Clone, Copy)]
pub(crate) enum Left<'a, T> {
    /// Rows one after another, so many elements apart.
    Rows(&'a [T], usize),
    /// The transpose of a matrix whose rows are so many elements apart.
    Columns(&'a [T], usize),
    /// Windows of pictures.
    Windows(Windows<'a, T>),
}

impl<T: Element> Left<'_, T> {
    /// Whether its panels lie by rows.
    pub(super) fn by_rows(&self) -> bool {
        !matches!(self, Self::Columns(..))
    }

    /// Copies rows `rows`, inner indices `ks` into a panel for tiles of `tile` rows.
    pub(super) fn pack(&self, rows: Range<usize>, ks: Range<usize>, tile: usize, panel: &mut [T]) {
        match self {
            Self::Rows(data, width) => {
                for (row, out) in rows.zip(panel.chunks_exact_mut(DEPTH)) {
                    out[..ks.len()].copy_from_slice(&data[row * width + ks.start..][..ks.len()]);
                }
            }
            Self::Windows(windows) => {
                for (row, out) in rows.zip(panel.chunks_exact_mut(DEPTH)) {
                    windows.copy(row, ks.clone(), &mut out[..ks.len()]);
                }
            }
            Self::Columns(data, width) => {
                let count = rows.len();
                for (k, out) in ks.zip(panel.chunks_exact_mut(tile)) {
                    let from = &data[k * width + rows.start..][..count];
                    if let (Ok(out), Ok(from)) =
                        (<&mut [T; 12]>::try_from(&mut *out), <&[T; 12]>::try_from(from))
                    {
                        *out = *from;
                    } else {
                        out[..count].copy_from_slice(from);
                    }
                }
            }
        }
    }
}

/// The right factor, `k` x `n`.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a, T> {
    /// Rows one after another, so many elements apart.
    Rows(&'a [T], usize),
    /// The transpose of a matrix whose rows are so many elements apart.
    Columns(&'a [T], usize),
    /// Windows of pictures.
    Windows(Windows<'a, T>),
    /// Places of a convolution's kernel in reverse.
    Flipped(Flipped<'a, T>),
}

/// A convolution's packed weight `[o, kh, kw, c]` as the matrix `[(y, x, o), c]` of some of its places, in reverse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flipped<'a, T> {
    pub(crate) w: &'a [T],
    pub(crate) o: usize,
    pub(crate) c: usize,
    pub(crate) kernel: [usize; 2],
    /// Rows and columns of the kernel that are there.
    pub(crate) count: [usize; 2],
    /// The last of them, which come first here.
    pub(crate) last: [usize; 2],
    /// How far they are apart.
    pub(crate) step: usize,
}

impl<'a, T> Flipped<'a, T> {
    fn row(&self, k: usize) -> &'a [T] {
        let (place, o) = (k / self.o, k % self.o);
        let y = self.last[0] - place / self.count[1] * self.step;
        let x = self.last[1] - place % self.count[1] * self.step;
        &self.w[((o * self.kernel[0] + y) * self.kernel[1] + x) * self.c..][..self.c]
    }
}

impl<T: Element> Right<'_, T> {
    /// Packs inner indices `ks` of columns `cols` in panels of `tile` columns; `line` is scratch of a row.
    #[inline(always)]
    pub(super) fn pack(
        &self,
        ks: Range<usize>,
        cols: Range<usize>,
        tile: usize,
        out: &mut [T],
        line: &mut [T],
    ) {
        let depth = ks.len();
        match self {
            Self::Rows(data, width) => {
                for (i, k) in ks.enumerate() {
                    spread(&data[k * width + cols.start..][..cols.len()], i, depth, tile, out);
                }
            }
            Self::Flipped(weight) => {
                for (i, k) in ks.enumerate() {
                    spread(&weight.row(k)[cols.clone()], i, depth, tile, out);
                }
            }
            Self::Windows(windows) => {
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
fn spread<T: Element>(row: &[T], i: usize, depth: usize, tile: usize, out: &mut [T]) {
    match tile {
        32 => spread_by::<T, 32>(row, i, depth, out),
        16 => spread_by::<T, 16>(row, i, depth, out),
        _ => {
            for (panel, piece) in row.chunks(tile).enumerate() {
                out[(panel * depth + i) * tile..][..piece.len()].copy_from_slice(piece);
            }
        }
    }
}

/// As [`spread`], for a width that is known beforehand: no call for each short copy.
#[inline(always)]
fn spread_by<T: Element, const TILE: usize>(row: &[T], i: usize, depth: usize, out: &mut [T]) {
    let (whole, rest) = row.as_chunks::<TILE>();
    let (out, _) = out.as_chunks_mut::<TILE>();
    for (panel, piece) in whole.iter().enumerate() {
        out[panel * depth + i] = *piece;
    }
    if !rest.is_empty() {
        out[whole.len() * depth + i][..rest.len()].copy_from_slice(rest);
    }
}

/// `count` rows of `depth` elements, `width` apart, to `depth` rows of `count` elements, `tile` apart.
#[inline(always)]
fn transpose<T: Element>(from: &[T], width: usize, count: usize, depth: usize, tile: usize, to: &mut [T]) {
    const SQUARE: usize = 16;
    for k in (0..depth).step_by(SQUARE) {
        for r in (0..count).step_by(SQUARE) {
            if k + SQUARE <= depth && r + SQUARE <= count {
                let rows: [&[T; SQUARE]; SQUARE] = std::array::from_fn(|i| {
                    from[(r + i) * width + k..].first_chunk().expect("sixteen elements are left")
                });
                for (j, to) in to[k * tile..].chunks_mut(tile).take(SQUARE).enumerate() {
                    let column: [T; SQUARE] = std::array::from_fn(|i| rows[i][j]);
                    to[r..r + SQUARE].copy_from_slice(&column);
                }
            } else {
                for j in k..depth.min(k + SQUARE) {
                    for i in r..count.min(r + SQUARE) {
                        to[j * tile + i] = from[i * width + j];
                    }
                }
            }
        }
    }
}
