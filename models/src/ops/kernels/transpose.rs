//! Transposes of small matrices, one after the other in memory: the weights of convolutions.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::rows::{FLAT, convert, fill_blocks};
use super::{Compute, Storage};

/// Transposes each of `n` matrices of `rows` x `cols`, stored as `O`.
pub(crate) fn transpose_each<O: Storage>(x: &[O::Real], n: usize, rows: usize, cols: usize) -> Vec<O> {
    assert_eq!(x.len(), n * rows * cols, "matrices to transpose have another size");
    if rows == 1 || cols == 1 {
        return convert(x);
    }
    let (size, together) = (rows * cols, (FLAT / (rows * cols)).max(1));
    // SAFETY: blocks are whole matrices, and `transpose` writes each of its elements.
    unsafe {
        fill_blocks(
            x.len(),
            together * size,
            #[inline(always)]
            |first, out| {
                let x = &x[first..first + out.len()];
                for (out, x) in out.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
                    match (rows, cols) {
                        (_, 9) => wide_to_tall::<O, 9>(x, rows, out),
                        (9, _) => tall_to_wide::<O, 9>(x, cols, out),
                        _ => transpose::<O>(x, [rows, cols], [0, rows], [0, cols], out),
                    }
                }
            },
        )
    }
}

/// Columns or rows that a narrow matrix is transposed by.
const NARROW: usize = 16;

/// Transposes rows `r` and columns `c` of a matrix of `rows` x `cols`.
#[inline(always)]
fn transpose<O: Storage>(
    x: &[O::Real],
    [rows, cols]: [usize; 2],
    r: [usize; 2],
    c: [usize; 2],
    out: &mut [MaybeUninit<O>],
) {
    for col in c[0]..c[1] {
        for row in r[0]..r[1] {
            out[col * rows + row].write(O::store(x[row * cols + col]));
        }
    }
}

/// Transposes a matrix of `K` columns, some rows at a time.
#[inline(always)]
fn wide_to_tall<O: Storage, const K: usize>(x: &[O::Real], rows: usize, out: &mut [MaybeUninit<O>]) {
    let (blocks, _) = x.as_chunks::<K>().0.as_chunks::<NARROW>();
    for (i, block) in blocks.iter().enumerate() {
        for (line, out) in transposed(block).iter().zip(out.chunks_exact_mut(rows)) {
            store(line, &mut out[i * NARROW..][..NARROW]);
        }
    }
    transpose::<O>(x, [rows, K], [rows / NARROW * NARROW, rows], [0, K], out);
}

/// Transposes a matrix of `K` rows, some columns at a time.
#[inline(always)]
fn tall_to_wide<O: Storage, const K: usize>(x: &[O::Real], cols: usize, out: &mut [MaybeUninit<O>]) {
    let (blocks, _) = out.as_chunks_mut::<K>().0.as_chunks_mut::<NARROW>();
    for (i, out) in blocks.iter_mut().enumerate() {
        let mut block = [[O::Real::ZERO; NARROW]; K];
        for (line, x) in block.iter_mut().zip(x.chunks_exact(cols)) {
            line.copy_from_slice(&x[i * NARROW..][..NARROW]);
        }
        store(transposed(&block).as_flattened(), out.as_flattened_mut());
    }
    transpose::<O>(x, [K, cols], [0, K], [cols / NARROW * NARROW, cols], out);
}

/// A small transpose in the cache. Not inlined: where there are instructions to gather and scatter,
/// the compiler would use them, and they take several times as long.
#[inline(never)]
fn transposed<T: Compute, const ROWS: usize, const COLS: usize>(x: &[[T; COLS]; ROWS]) -> [[T; ROWS]; COLS] {
    let mut out = [[T::ZERO; ROWS]; COLS];
    for (i, row) in x.iter().enumerate() {
        for (out, &x) in out.iter_mut().zip(row) {
            out[i] = x;
        }
    }
    out
}

#[inline(always)]
fn store<O: Storage>(x: &[O::Real], out: &mut [MaybeUninit<O>]) {
    for (out, &x) in out.iter_mut().zip(x) {
        out.write(O::store(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_changes_its_place() {
        for (n, rows, cols) in [(3, 40, 9), (2, 9, 37), (5, 16, 9), (1, 9, 16), (2, 7, 5), (700, 3, 49)] {
            let x: Vec<f32> = (0..n * rows * cols).map(|i| i as f32).collect();
            let y: Vec<f32> = transpose_each(&x, n, rows, cols);
            for (i, row, col) in
                (0..n).flat_map(|i| (0..rows).flat_map(move |r| (0..cols).map(move |c| (i, r, c))))
            {
                let at = (i * cols + col) * rows + row;
                assert_eq!(y[at], x[(i * rows + row) * cols + col], "{n} of {rows} x {cols}");
            }
        }
    }
}
