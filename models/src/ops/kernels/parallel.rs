//! Loops over the threads of the pool.
//!
//! Bodies are passed as trait objects, so that the pool's plumbing is compiled once for each type of
//! element, and not for each kernel. A call per task costs nothing beside the task.

use rayon::prelude::*;

/// Calls `body` for every number below `count`.
pub(crate) fn for_each(count: usize, body: &(dyn Fn(usize) + Sync)) {
    (0..count).into_par_iter().for_each(body);
}

/// Calls `body` for every chunk of `size` elements, the last of which may be shorter, with the number
/// of the chunk.
pub(crate) fn chunks_mut<T: Send>(items: &mut [T], size: usize, body: &(dyn Fn(usize, &mut [T]) + Sync)) {
    items.par_chunks_mut(size).enumerate().for_each(|(index, chunk)| body(index, chunk));
}

/// Returns what `body` makes of every number below `count`, in order.
pub(crate) fn collect<R: Send>(count: usize, body: &(dyn Fn(usize) -> R + Sync)) -> Vec<R> {
    (0..count).into_par_iter().map(body).collect()
}
