//! The two passes: sums of byte times weight in i32, rounded and clipped to a byte.

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

/// Rows that the horizontal pass works on together, and their values at one column: four channels
/// each, the last of them unused.
pub(super) const ROWS: usize = 8;
pub(super) type Column = [u8; 4 * ROWS];

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
    let count = out.len() / stride;
    // Values of earlier rows are overwritten, or not written out.
    packed.resize(from_w, [0; 4 * ROWS]);
    for r in 0..count {
        let row = source.row(first + r, from_w * 3).as_chunks::<3>().0;
        for (column, pixel) in packed.iter_mut().zip(row) {
            column[4 * r..4 * r + 3].copy_from_slice(pixel);
        }
    }
    for x in 0..stride / 3 {
        let values = weighted_sum(packed, coefficients.run(x));
        for r in 0..count {
            out[r * stride + 3 * x..][..3].copy_from_slice(&values[4 * r..4 * r + 3]);
        }
    }
}
}

#[inline(always)]
fn weighted_sum(packed: &[Column], (start, weights): (usize, &[i32])) -> Column {
    let mut sum = [HALF; 4 * ROWS];
    for (column, &weight) in packed[start..].iter().zip(weights) {
        for i in 0..4 * ROWS {
            sum[i] += i32::from(column[i]) * weight;
        }
    }
    let mut values = [0; 4 * ROWS];
    for i in 0..4 * ROWS {
        values[i] = clip(sum[i]);
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
