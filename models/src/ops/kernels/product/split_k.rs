//! Products with a small result and many inner indices: parts of the sums are tasks of their own.
#![allow(unsafe_code)]

use super::output::{Output, OutputRows};
use super::partition::{Partition, TASK_WORK, task_count};
use super::tile::{DEPTH, TileShape};
use super::{BLOCK_ROWS, Left, Right, Shape, product, task};
use crate::ops::kernels::{Compute, Storage, parallel, vectorized};

/// Most parts that a sum is split into.
const MAX_PARTS: usize = 16;
/// Rows and columns of a result that are worth a task by themselves, so that their sums need no
/// splitting.
const MIN_OUTPUT_FOR_SPLIT: usize = 192;
/// Elements of the result that one task adds up.
const CHUNK: usize = 1 << 13;

/// `a * b` for a small result and a large `k`: parts of `k` are tasks of their own, added up in
/// order.
pub(crate) fn product_split_k<A, B, T: Compute>(shape: Shape, a: Left<A>, b: Right<B>) -> Vec<T>
where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
{
    let (m, n, k) = shape;
    // A function of the shape alone, because the order of the sum depends on it.
    let blocks = (m / MIN_OUTPUT_FOR_SPLIT).max(1) * (n / MIN_OUTPUT_FOR_SPLIT).max(1);
    let parts = (MAX_PARTS / blocks).min(k / (2 * DEPTH)).min(m * n * k / TASK_WORK).max(1);
    if parts == 1 {
        return product(shape, a, b, None);
    }
    let depth = k.div_ceil(parts);
    let parts = k.div_ceil(depth);
    let tasks = task_count(shape).div_ceil(parts);
    let partition = Partition::new((m, n), tasks, TileShape::native::<T>(), BLOCK_ROWS);
    let mut sums: Vec<T> = Vec::with_capacity(parts * m * n);
    let out = Output::new(sums.as_mut_ptr(), parts * m * n, n, OutputRows::Dense);
    let tasks = partition.len();
    parallel::for_each(parts * tasks, &|i| {
        let part = i / tasks;
        let ks = part * depth..k.min((part + 1) * depth);
        task::run(&a, &b, None, &out.rest(part * m * n), partition.block(i % tasks, ks));
    });
    // SAFETY: every task wrote its part of the result, and together they cover it.
    unsafe { sums.set_len(parts * m * n) };
    add_parts(&mut sums, m * n);
    sums
}

/// Adds the parts behind the first `len` elements to these, and drops them.
fn add_parts<T: Compute>(sums: &mut Vec<T>, len: usize) {
    let (total, rest) = sums.split_at_mut(len);
    parallel::chunks_mut(total, CHUNK, &|i, total| {
        for part in rest.chunks_exact(len) {
            let part = &part[i * CHUNK..][..total.len()];
            vectorized(
                #[inline(always)]
                || {
                    for (t, &p) in total.iter_mut().zip(part) {
                        *t += p;
                    }
                },
            );
        }
    });
    sums.truncate(len);
}
