//! Matrix products whose factors are packed from rows, transposes or the windows of a convolution.
//!
//! A product is divided into tasks; the order of each sum depends on the shape alone, never on the
//! division. Each task packs a block of the right factor that fits the L2 cache, then goes through
//! the left factor panel by panel, each of which fits the L1 cache; tiles of the result stay in
//! registers.
#![allow(unsafe_code)]

mod bf16;
mod im2col;
mod operands;
mod output;
mod panel;
mod partition;
mod split_k;
mod task;
#[cfg(test)]
mod tests;
mod tile;

pub use bf16::Bf16Products;
pub(crate) use bf16::multiplies_bf16;
pub(crate) use im2col::Im2col;
pub(crate) use operands::{FlippedKernel, Left, Right};
use output::Output;
pub(crate) use output::OutputRows;
pub(crate) use panel::{PANEL_DEPTH, panel_columns, panel_product, panel_rows};
use partition::{Block, Partition, task_count};
pub(crate) use split_k::product_split_k;
use task::Onto;
use tile::TileShape;

use super::{Compute, Storage, parallel, rows};

/// Most rows of a task.
const BLOCK_ROWS: usize = 1536;
/// Most rows of a task whose sums are rounded when they are stored, so that the sums stay in a
/// cache until then.
const ROUNDED_BLOCK_ROWS: usize = 768;

/// Rows, columns and inner indices.
pub(crate) type Shape = (usize, usize, usize);

/// Returns `a * b + bias`, row by row.
pub(crate) fn product<A, B, O, T: Compute>(
    shape: Shape,
    a: Left<A>,
    b: Right<B>,
    bias: Option<&[T]>,
) -> Vec<O>
where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
    O: Storage<Real = T>,
{
    let (m, n, _) = shape;
    let mut out = Vec::with_capacity(m * n);
    run(shape, a, b, bias, Output::new(out.as_mut_ptr(), m * n, n, OutputRows::Dense));
    // SAFETY: `run` wrote all `m * n` elements.
    unsafe { out.set_len(m * n) };
    out
}

/// Returns `a * b + onto`, or `a * b` without such a matrix.
pub(crate) fn product_onto<A, B, O, T: Compute>(
    shape: Shape,
    a: Left<A>,
    b: Right<B>,
    onto: Option<&[O]>,
) -> Vec<O>
where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
    O: Storage<Real = T>,
{
    let Some(onto) = onto else { return product(shape, a, b, None) };
    let (m, n, _) = shape;
    assert_eq!(onto.len(), m * n, "terms of a sum differ in size");
    if !O::EXACT {
        return rows::zip(&product::<A, B, O, T>(shape, a, b, None), onto, |sum, more| sum + more);
    }
    // The conversion succeeds, as `EXACT` says.
    let onto = Onto::Matrix(O::as_compute(onto).unwrap_or_default(), n);
    let mut out = Vec::with_capacity(m * n);
    let memory = Output::new(out.as_mut_ptr(), m * n, n, OutputRows::Dense).cast();
    divide::<O, T>(shape, |block| task::run_exact(&a, &b, onto, &memory, block));
    // SAFETY: the tasks wrote all `m * n` elements.
    unsafe { out.set_len(m * n) };
    out
}

/// Writes `a * b` to the given rows of `out`.
pub(crate) fn product_at<A, B, O, T: Compute>(
    shape: Shape,
    a: Left<A>,
    b: Right<B>,
    out: &mut [O],
    rows: OutputRows,
) where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
    O: Storage<Real = T>,
{
    run(shape, a, b, None, Output::new(out.as_mut_ptr(), out.len(), shape.1, rows));
}

/// Writes `a * b` to rows of `out` that are `row_stride` elements apart, on the calling thread
/// alone: for products that are part of a task.
pub(crate) fn product_serial<A, B, T: Compute>(
    shape: Shape,
    a: Left<A>,
    b: Right<B>,
    out: &mut [T],
    row_stride: usize,
) where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
{
    if let Some((out, block)) = serial(shape, out, row_stride) {
        task::run(&a, &b, None, &out, block);
    }
}

/// Adds `a * b` to `out`, like [`product_serial`], for numbers that are stored as they are computed
/// with.
pub(crate) fn product_serial_onto<T: Compute>(
    shape: Shape,
    a: Left<T>,
    b: Right<T>,
    out: &mut [T],
    row_stride: usize,
) {
    if let Some((out, block)) = serial(shape, out, row_stride) {
        task::run_exact(&a, &b, Onto::Result, &out, block);
    }
}

/// The whole of a product as one block, and its memory; nothing if it is empty.
fn serial<T: Compute>((m, n, k): Shape, out: &mut [T], row_stride: usize) -> Option<(Output<T>, Block)> {
    if m * n == 0 {
        return None;
    }
    assert!(n <= row_stride && (m - 1) * row_stride + n <= out.len(), "matrix product writes out of bounds");
    let memory = Output::new(out.as_mut_ptr(), out.len(), row_stride, OutputRows::Dense);
    Some((memory, Block { rows: 0..m, cols: 0..n, ks: 0..k }))
}

fn run<A, B, O, T: Compute>(shape: Shape, a: Left<A>, b: Right<B>, bias: Option<&[T]>, out: Output<O>)
where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
    O: Storage<Real = T>,
{
    let (m, n, _) = shape;
    assert!(out.rows.required_rows(m) * n <= out.len, "matrix product writes out of bounds");
    divide::<O, T>(shape, |block| task::run(&a, &b, bias, &out, block));
}

/// Runs `task` for each block of a result stored as `O`.
fn divide<O: Storage<Real = T>, T: Compute>((m, n, k): Shape, task: impl Fn(Block) + Sync) {
    if m * n == 0 {
        return;
    }
    let max_rows = if O::EXACT { BLOCK_ROWS } else { ROUNDED_BLOCK_ROWS };
    let partition = Partition::new((m, n), task_count((m, n, k)), TileShape::native::<T>(), max_rows);
    parallel::for_each(partition.len(), &|i| task(partition.block(i, 0..k)));
}
