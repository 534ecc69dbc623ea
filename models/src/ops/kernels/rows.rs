//! Loops over rows of channels and over flat buffers.

use rayon::prelude::*;

use super::norm::lane_sum_zip;
use super::{Element, vectorised};

/// Elements that one task of a flat loop works on: a few L1 caches, so that the pool's overhead vanishes.
const FLAT: usize = 1 << 15;

/// Rows per partial sum: fixed, so that sums do not depend on the number of threads.
const BLOCK_ROWS: usize = 256;

/// `y = f(x)`, element by element.
pub(crate) fn map<T: Element>(x: &[T], f: impl Fn(T) -> T + Sync) -> Vec<T> {
    let mut y = vec![T::ZERO; x.len()];
    y.par_chunks_mut(FLAT).zip(x.par_chunks(FLAT)).for_each(|(y, x)| {
        vectorised(|| y.iter_mut().zip(x).for_each(|(y, &x)| *y = f(x)));
    });
    y
}

/// `z = f(x, y)`, element by element.
pub(crate) fn zip<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T + Sync) -> Vec<T> {
    assert_eq!(x.len(), y.len(), "element-wise operands differ in length");
    let mut z = vec![T::ZERO; x.len()];
    z.par_chunks_mut(FLAT).zip(x.par_chunks(FLAT)).zip(y.par_chunks(FLAT)).for_each(|((z, x), y)| {
        vectorised(|| z.iter_mut().zip(x).zip(y).for_each(|((z, &x), &y)| *z = f(x, y)));
    });
    z
}

/// Sum of `f(x, y)` over all elements: blocks in lanes, then in double precision and in order.
pub(crate) fn sum_zip<T: Element>(x: &[T], y: &[T], f: impl Fn(T, T) -> T + Sync) -> f64 {
    assert_eq!(x.len(), y.len(), "element-wise operands differ in length");
    let block = |(x, y): (&[T], &[T])| vectorised(|| lane_sum_zip(x, y, &f)).wide();
    let sums: Vec<f64> = x.par_chunks(FLAT / 8).zip(y.par_chunks(FLAT / 8)).map(block).collect();
    sums.into_iter().sum()
}

/// `x = f(x, y)`, element by element, in place.
pub(crate) fn update<T: Element>(x: &mut [T], y: &[T], f: impl Fn(T, T) -> T + Sync) {
    assert_eq!(x.len(), y.len(), "element-wise operands differ in length");
    x.par_chunks_mut(FLAT).zip(y.par_chunks(FLAT)).for_each(|(x, y)| {
        vectorised(|| x.iter_mut().zip(y).for_each(|(x, &y)| *x = f(*x, y)));
    });
}

/// Adds `bias` to every row.
pub(crate) fn add_bias<T: Element>(x: &mut [T], bias: &[T]) {
    let c = bias.len();
    x.par_chunks_mut(c * BLOCK_ROWS).for_each(|block| {
        vectorised(|| {
            for row in block.chunks_exact_mut(c) {
                row.iter_mut().zip(bias).for_each(|(x, &b)| *x += b);
            }
        });
    });
}

/// Sums of every column of a matrix with `c` columns.
pub(crate) fn column_sums<T: Element>(x: &[T], c: usize) -> Vec<T> {
    let rows = x.len() / c;
    let sums = block_sums(rows, c, |range, sums: &mut [T]| {
        for row in x[range.start * c..range.end * c].chunks_exact(c) {
            sums.iter_mut().zip(row).for_each(|(s, &x)| *s += x);
        }
    });
    sums.into_iter().map(T::of).collect()
}

/// Adds up `width` partial sums that `work` makes of each block of rows; blocks are summed in double precision, in order.
pub(crate) fn block_sums<T: Element>(
    rows: usize,
    width: usize,
    work: impl Fn(std::ops::Range<usize>, &mut [T]) + Sync,
) -> Vec<f64> {
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let partial: Vec<Vec<T>> = (0..blocks)
        .into_par_iter()
        .map(|block| {
            let mut sums = vec![T::ZERO; width];
            let range = block * BLOCK_ROWS..rows.min((block + 1) * BLOCK_ROWS);
            vectorised(|| work(range, &mut sums));
            sums
        })
        .collect();
    let mut total = vec![0.0; width];
    for sums in &partial {
        total.iter_mut().zip(sums).for_each(|(t, s)| *t += s.wide());
    }
    total
}

/// Runs `work` on blocks of whole rows of `out` in parallel; it gets the first row's index and the block.
pub(crate) fn for_row_blocks<T: Element>(out: &mut [T], c: usize, work: impl Fn(usize, &mut [T]) + Sync) {
    out.par_chunks_mut(c * BLOCK_ROWS).enumerate().for_each(|(block, out)| {
        vectorised(|| work(block * BLOCK_ROWS, out));
    });
}
