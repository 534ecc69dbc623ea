//! The two passes: sums of byte times weight in i32, rounded and clipped to a byte.

use super::Window;
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

/// Resizes one row of interleaved RGB.
pub(super) fn row(source: &[u8], coefficients: &Coefficients, out: &mut [u8]) {
    let source = source.as_chunks::<3>().0;
    for (pixel, (start, weights)) in out.as_chunks_mut::<3>().0.iter_mut().zip(coefficients.runs()) {
        let mut sum = [HALF; 3];
        for (rgb, &weight) in source[start..].iter().zip(weights) {
            for c in 0..3 {
                sum[c] += i32::from(rgb[c]) * weight;
            }
        }
        *pixel = sum.map(clip);
    }
}

/// Resizes two rows at once, into `out` one after the other: one multiplication of 64 bits serves both.
///
/// Every entry of `packed` holds a byte of the upper row plus 2^32 times that of the lower one. As both sums fit into
/// an i32, the low half of the sum of products is the upper row's, and what remains is the lower row's.
pub(super) fn row_pair(
    upper: &[u8],
    lower: &[u8],
    coefficients: &Coefficients,
    packed: &mut Vec<[i64; 3]>,
    out: &mut [u8],
) {
    let pairs = upper.as_chunks::<3>().0.iter().zip(lower.as_chunks::<3>().0);
    packed.clear();
    packed.extend(pairs.map(|(u, l)| [0, 1, 2].map(|c| i64::from(u[c]) | i64::from(l[c]) << 32)));
    let (first, second) = out.split_at_mut(out.len() / 2);
    let out = first.as_chunks_mut::<3>().0.iter_mut().zip(second.as_chunks_mut::<3>().0);
    for ((up, low), (start, weights)) in out.zip(coefficients.runs()) {
        let mut sum = [i64::from(HALF) | i64::from(HALF) << 32; 3];
        for (rgb, &weight) in packed[start..].iter().zip(weights) {
            for c in 0..3 {
                sum[c] += rgb[c] * i64::from(weight);
            }
        }
        *up = sum.map(|s| clip(s as i32));
        *low = sum.map(|s| clip(((s - i64::from(s as i32)) >> 32) as i32));
    }
}

vectorized! {
/// Resizes all columns: each output row is a weighted sum of whole input rows.
pub(super) fn columns<'a>(
    source: &'a Window<'a>,
    coefficients: &'a Coefficients,
    stride: usize,
    out: &'a mut [u8],
) {
    for (target, (start, weights)) in out.chunks_exact_mut(stride).zip(coefficients.runs()) {
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
fn column_block(source: &Window<'_>, start: usize, weights: &[i32], column: usize, block: &mut [u8; LANES]) {
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
