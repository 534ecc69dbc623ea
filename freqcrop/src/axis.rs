//! One axis of the separable form, folded by mirror symmetry and packed for the kernel.
//!
//! `A[p,n] = A[(P-p) mod P, (N-n) mod N]`, so the even part of the output depends on the even part
//! of the input only, and the odd part on the odd part: two matrices of about P/2 x N/2, half the
//! multiplications. If the checkerboard correction is needed, its input waves are one more output
//! column of each part: the cosine is even, the sine is odd. They usually fit into lanes that would
//! be padding.

use crate::kernel::TileLimits;
use crate::matrix::AxisShape;
use crate::real::Real;

/// Width of a tile.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TileWidth {
    /// 1 to 3 vectors.
    Vectors(usize),
    /// A single column that remains after whole vectors. Even sizes always have one: the even
    /// part has half the samples and one more, and a vector with one lane in use would cost up to a
    /// seventh of the whole product.
    Column,
}

/// A block of output columns that the kernel holds in registers at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tile {
    /// Reads the even part of the input, else the odd part.
    pub(crate) even: bool,
    /// Width.
    pub(crate) width: TileWidth,
    /// First column in the folded output row.
    pub(crate) column: usize,
    /// First element in `FoldedAxis::packed`.
    pub(crate) start: usize,
}

/// One axis, ready to run.
#[derive(Debug)]
pub(crate) struct FoldedAxis<T> {
    pub(crate) shape: AxisShape,
    /// Matrix entries, tile by tile, each `[n][column in tile]`.
    pub(crate) packed: Vec<T>,
    pub(crate) tiles: Vec<Tile>,
    /// Length of a folded output row: even columns, padding, odd columns, padding.
    pub(crate) width: usize,
    /// Column where the odd part starts.
    pub(crate) odd_start: usize,
    /// Used columns of each part, the correction's included.
    pub(crate) even_used: usize,
    pub(crate) odd_used: usize,
    /// `cos(pi B p/P)` for the even part and `sin(pi B p/P)` for the odd part; empty without
    /// correction.
    pub(crate) wave_even: Vec<T>,
    pub(crate) wave_odd: Vec<T>,
}

impl<T: Real> FoldedAxis<T> {
    /// Plans an axis for tiles within `limits`.
    pub(crate) fn new(shape: AxisShape, corrected: bool, limits: TileLimits) -> Self {
        let lanes = limits.lanes;
        let even_out = even_len(shape.p);
        let odd_out = shape.p - even_out;
        // The crop's output sine is zero everywhere, so its cosine input wave is never used.
        let (even_used, odd_used) =
            (even_out + usize::from(corrected && shape.p != shape.b), odd_out + usize::from(corrected));
        let odd_start = even_used.next_multiple_of(lanes);
        let mut axis = Self {
            shape,
            packed: Vec::new(),
            tiles: Vec::new(),
            width: odd_start + odd_used.next_multiple_of(lanes),
            odd_start,
            even_used,
            odd_used,
            wave_even: Vec::new(),
            wave_odd: Vec::new(),
        };
        axis.pack_part(true, even_used, limits);
        axis.pack_part(false, odd_used, limits);
        if corrected {
            axis.wave_even = (0..even_out).map(|p| T::of(shape.output_wave(p).0)).collect();
            axis.wave_odd = (1..=odd_out).map(|p| T::of(shape.output_wave(p).1)).collect();
        }
        axis
    }

    /// Number of input samples in the even part.
    pub(crate) fn even_in(&self) -> usize {
        even_len(self.shape.n)
    }

    /// Number of input samples in the odd part.
    pub(crate) fn odd_in(&self) -> usize {
        self.shape.n - self.even_in()
    }

    /// Number of output samples in the even part.
    pub(crate) fn even_out(&self) -> usize {
        even_len(self.shape.p)
    }

    /// Number of output samples in the odd part.
    pub(crate) fn odd_out(&self) -> usize {
        self.shape.p - self.even_out()
    }

    fn pack_part(&mut self, even: bool, used: usize, TileLimits { lanes, max_vectors }: TileLimits) {
        let rows = if even { self.even_in() } else { self.odd_in() };
        let first = if even { 0 } else { self.odd_start };
        let single = lanes > 1 && used % lanes == 1;
        let vectors = if single { used / lanes } else { used.div_ceil(lanes) };
        let widths = tile_sizes(vectors, max_vectors).into_iter().map(TileWidth::Vectors);
        let mut column = 0;
        for width in widths.chain(single.then_some(TileWidth::Column)) {
            let columns = match width {
                TileWidth::Vectors(vectors) => vectors * lanes,
                TileWidth::Column => 1,
            };
            self.tiles.push(Tile { even, width, column: first + column, start: self.packed.len() });
            for row in 0..rows {
                for c in column..column + columns {
                    self.packed.push(T::of(self.folded(even, row, c)));
                }
            }
            column += columns;
        }
    }

    /// Returns an entry of the folded matrices: from input sample `row` of a part to output column
    /// `c` of the same part.
    fn folded(&self, even: bool, row: usize, c: usize) -> f64 {
        let shape = self.shape;
        let outputs = if even { self.even_out() } else { self.odd_out() };
        let used = if even { self.even_used } else { self.odd_used };
        // The odd part has no sample 0 (and none in the middle).
        let (n, p) = if even { (row, c) } else { (row + 1, c + 1) };
        let mirrored = (shape.n - n) % shape.n;
        if c < outputs {
            let (direct, mirror) = (shape.cosine(p, n), shape.cosine(p, mirrored));
            0.5 * if even { direct + mirror } else { direct - mirror }
        } else if c < used {
            let (cosine, sine) = shape.input_wave(n);
            (if even { cosine } else { sine }) / shape.n as f64
        } else {
            0.0
        }
    }
}

/// Returns the number of samples that represent an even sequence of a period: 0 ..= len div 2.
fn even_len(len: usize) -> usize {
    len / 2 + 1
}

/// Splits `vectors` into tiles of at most `max`, without a narrow remainder if
/// possible.
fn tile_sizes(vectors: usize, max: usize) -> Vec<usize> {
    let tiles = vectors.div_ceil(max);
    (0..tiles).map(|i| vectors / tiles + usize::from(i < vectors % tiles)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_vector() {
        for vectors in 0..20 {
            for max in 1..4 {
                let sizes = tile_sizes(vectors, max);
                assert_eq!(sizes.iter().sum::<usize>(), vectors);
                assert!(sizes.iter().all(|&s| (1..=max).contains(&s)));
            }
        }
    }
}
