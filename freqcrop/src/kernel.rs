//! The inner matrix product: a panel of folded columns times one register tile of the folded
//! matrix.
//!
//! The panel holds groups of [`GROUP`] image columns, `[group][n][GROUP]`, small enough for the
//! first-level cache. A tile of V vectors times GROUP columns keeps GROUP * V sums in registers
//! over the whole depth n.

use pulp::Simd;

use crate::axis::{FoldedAxis, Tile, TileWidth};
use crate::real::{Lanes, Real};

/// Number of image columns that the kernel processes at once.
pub(crate) const GROUP: usize = 8;

/// Limits of a tile on an instruction set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TileLimits {
    /// Elements of a vector.
    pub(crate) lanes: usize,
    /// Width of the widest tile, in vectors.
    pub(crate) max_vectors: usize,
}

/// Determines the limits for the instruction set it is dispatched to.
pub(crate) struct QueryTileLimits<T>(pub(crate) std::marker::PhantomData<T>);

impl<T: Lanes> pulp::WithSimd for QueryTileLimits<T> {
    type Output = TileLimits;
    fn with_simd<S: Simd>(self, _: S) -> TileLimits {
        // 8 x 3 sums, 3 matrix vectors and one broadcast fit into 32 registers; 16 registers take 8
        // sums.
        TileLimits { lanes: T::lanes::<S>(), max_vectors: if S::REGISTER_COUNT >= 32 { 3 } else { 1 } }
    }
}

/// Folded columns of one panel: even parts, then odd parts.
pub(crate) struct Panel<'a, T> {
    pub(crate) even: &'a [[T; GROUP]],
    pub(crate) odd: &'a [[T; GROUP]],
    /// Valid columns, at most `GROUP` times the number of groups.
    pub(crate) columns: usize,
}

/// Multiplies a panel by every tile of an axis: column c of the panel becomes row c of `out`,
/// `axis.width` long.
#[inline(always)]
pub(crate) fn multiply<T: Real, S: Simd>(simd: S, axis: &FoldedAxis<T>, panel: &Panel<'_, T>, out: &mut [T]) {
    for tile in &axis.tiles {
        match tile.width {
            TileWidth::Column => multiply_column(axis, tile, panel, out),
            TileWidth::Vectors(1) => multiply_tile::<T, S, 1>(simd, axis, tile, panel, out),
            TileWidth::Vectors(2) => multiply_tile::<T, S, 2>(simd, axis, tile, panel, out),
            TileWidth::Vectors(_) => multiply_tile::<T, S, 3>(simd, axis, tile, panel, out),
        }
    }
}

/// Multiplies by a single column of the matrix: here the image columns of a group are the elements
/// of a vector.
#[inline(always)]
fn multiply_column<T: Real>(axis: &FoldedAxis<T>, tile: &Tile, panel: &Panel<'_, T>, out: &mut [T]) {
    let (part, depth) = if tile.even { (panel.even, axis.even_in()) } else { (panel.odd, axis.odd_in()) };
    let entries = &axis.packed[tile.start..tile.start + depth];
    for (group, rows) in out[..panel.columns * axis.width].chunks_mut(GROUP * axis.width).enumerate() {
        let mut sums = [T::zero(); GROUP];
        for (column, &entry) in part[group * depth..(group + 1) * depth].iter().zip(entries) {
            for (sum, &value) in sums.iter_mut().zip(column) {
                *sum = *sum + value * entry;
            }
        }
        for (row, sum) in rows.chunks_exact_mut(axis.width).zip(sums) {
            row[tile.column] = sum;
        }
    }
}

#[inline(always)]
fn multiply_tile<T: Real, S: Simd, const V: usize>(
    simd: S,
    axis: &FoldedAxis<T>,
    tile: &Tile,
    panel: &Panel<'_, T>,
    out: &mut [T],
) {
    let width = V * T::lanes::<S>();
    let (part, depth) = if tile.even { (panel.even, axis.even_in()) } else { (panel.odd, axis.odd_in()) };
    let matrix = T::vectors::<S>(&axis.packed[tile.start..tile.start + depth * width]);
    let (matrix, _) = matrix.as_chunks::<V>();
    for (group, rows) in out[..panel.columns * axis.width].chunks_mut(GROUP * axis.width).enumerate() {
        let sums = sum_products::<T, S, V>(simd, &part[group * depth..(group + 1) * depth], matrix);
        for (row, sums) in rows.chunks_exact_mut(axis.width).zip(&sums) {
            T::vectors_mut::<S>(&mut row[tile.column..tile.column + width]).copy_from_slice(sums);
        }
    }
}

#[inline(always)]
fn sum_products<T: Real, S: Simd, const V: usize>(
    simd: S,
    columns: &[[T; GROUP]],
    matrix: &[[T::Vector<S>; V]],
) -> [[T::Vector<S>; V]; GROUP] {
    let mut sums = [[T::splat(simd, T::zero()); V]; GROUP];
    for (column, entries) in columns.iter().zip(matrix) {
        for (sums, &value) in sums.iter_mut().zip(column) {
            let value = T::splat(simd, value);
            for (sum, &entry) in sums.iter_mut().zip(entries) {
                *sum = T::mul_add(simd, value, entry, *sum);
            }
        }
    }
    sums
}
