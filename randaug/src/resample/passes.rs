//! The two passes: sums of byte times weight in i32, rounded and clipped to a byte.

use std::hint::black_box;

use super::SourceWindow;
use super::filter::{Coefficients, PRECISION_BITS};
use crate::simd::vectorized;

/// Half a unit, so that the shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Bytes of a row that are summed together; few enough to stay in registers.
const LANES: usize = 32;

#[inline(always)]
fn clip(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

/// Rows that the horizontal pass works on together, and their pixels at one column: four bytes each,
/// the last of them unused.
pub(super) const ROWS: usize = 8;
pub(super) type Column = [[u8; 4]; ROWS];

vectorized! {
/// Resizes up to [`ROWS`] rows of interleaved RGB, as many as the target holds. `rows` is
/// the first row and their pixels, `target` the length of an output row and the output.
///
/// The rows are laid side by side first, so that every weight multiplies a whole vector.
pub(super) fn rows<'a>(
    source: &'a SourceWindow<'a>,
    rows: (usize, usize),
    coefficients: &'a Coefficients,
    packed: &'a mut Vec<Column>,
    target: (usize, &'a mut [u8]),
) {
    let ((first, from_w), (stride, out)) = (rows, target);
    // Pixels of earlier rows are overwritten, or not written out.
    packed.resize(from_w, Column::default());
    for (r, _) in out.chunks_exact(stride).enumerate() {
        pack(source.row(first + r, from_w * 3), r, packed);
    }
    for x in 0..stride / 3 {
        let values = weighted_sum(packed, coefficients.run(x));
        for (row, value) in out.chunks_exact_mut(stride).zip(&values) {
            unpack(value, row, x);
        }
    }
}
}

/// Lays a row beside those that are packed already, as the `r`-th.
#[inline(always)]
fn pack(row: &[u8], r: usize, packed: &mut [Column]) {
    // Four bytes at a time take one instruction. Only the last pixel has nothing behind it.
    for (column, pixel) in packed.iter_mut().zip(row.windows(4).step_by(3)) {
        column[r].copy_from_slice(pixel);
    }
    if let (Some(column), Some(pixel)) = (packed.last_mut(), row.last_chunk::<3>()) {
        column[r][..3].copy_from_slice(pixel);
    }
}

/// Writes the `x`-th pixel of a row. Pixels before it must be there, those behind it are written later.
#[inline(always)]
fn unpack(value: &[u8; 4], row: &mut [u8], x: usize) {
    let rest = &mut row[3 * x..];
    match rest.first_chunk_mut::<4>() {
        Some(bytes) => *bytes = *value,
        None => rest.copy_from_slice(&value[..3]),
    }
}

#[inline(always)]
fn weighted_sum(packed: &[Column], (start, weights): (usize, &[i32])) -> Column {
    let mut sum = [HALF; 4 * ROWS];
    for (column, &weight) in packed[start..].iter().zip(weights) {
        // Compilers would add over columns in vectors, which have to be gathered byte by byte, rather
        // than over the bytes of one.
        let weight = black_box(weight);
        let bytes = column.as_flattened();
        for i in 0..4 * ROWS {
            sum[i] += i32::from(bytes[i]) * weight;
        }
    }
    let mut values = Column::default();
    for (value, &sum) in values.as_flattened_mut().iter_mut().zip(&sum) {
        *value = clip(sum);
    }
    values
}

vectorized! {
/// Resizes all columns: each output row is a weighted sum of whole input rows.
pub(super) fn columns<'a>(
    source: &'a SourceWindow<'a>,
    coefficients: &'a Coefficients,
    stride: usize,
    out: &'a mut [u8],
) {
    for (y, target) in out.chunks_exact_mut(stride).enumerate() {
        let (start, weights) = coefficients.run(y);
        let (blocks, rest) = target.as_chunks_mut::<LANES>();
        for (i, block) in blocks.iter_mut().enumerate() {
            column_block(source, start, weights, i * LANES, block);
        }
        let done = stride - rest.len();
        for (i, value) in rest.iter_mut().enumerate() {
            let mut sum = HALF;
            for (k, &weight) in weights.iter().enumerate() {
                sum += i32::from(source.row(start + k, stride)[done + i]) * weight;
            }
            *value = clip(sum);
        }
    }
}
}

#[inline(always)]
fn column_block(
    source: &SourceWindow<'_>,
    start: usize,
    weights: &[i32],
    column: usize,
    block: &mut [u8; LANES],
) {
    let mut sum = [HALF; LANES];
    for (k, &weight) in weights.iter().enumerate() {
        let row = source.row(start + k, column + LANES);
        let bytes: &[u8] = &row[column..];
        for (sum, &byte) in sum.iter_mut().zip(bytes) {
            *sum += i32::from(byte) * weight;
        }
    }
    for (value, &sum) in block.iter_mut().zip(&sum) {
        *value = clip(sum);
    }
}
