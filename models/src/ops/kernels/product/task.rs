//! One task of a product: a block of the result, from packing to storing.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;

use super::bf16::{self, Native};
use super::output::Output;
use super::partition::{BLOCK_COLS, Block};
use super::tile::{DEPTH, Epilogue, Strip, TileShape};
use super::{Left, Right};
use crate::ops::kernels::{Compute, Storage, vectorized};

/// What the products of a block are added to.
#[derive(Clone, Copy)]
pub(super) enum Onto<'a, T> {
    /// A number for each column, or nothing.
    Bias(Option<&'a [T]>),
    /// A matrix of the result's shape, row by row at this distance.
    Matrix(&'a [T], usize),
    /// What is in the result's memory.
    Result,
}

/// Computes a block of the result in the way that fits the types and this machine.
pub(super) fn run<A, B, O, T: Compute>(
    a: &Left<A>,
    b: &Right<B>,
    bias: Option<&[T]>,
    out: &Output<O>,
    block: Block,
) where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
    O: Storage<Real = T>,
{
    if let (Some(native), Some(a)) = (Native::detect(), a.as_bf16()) {
        // A result that is computed in `f32` is stored as `f32` or as `bf16`.
        let out = if O::EXACT { bf16::Out::Exact(out.cast()) } else { bf16::Out::Rounded(out.cast()) };
        bf16::run_task(native, (&a, b), bias.and_then(T::as_f32), &out, block);
    } else if O::EXACT {
        // The cast keeps the type, as `EXACT` says.
        run_exact(a, b, Onto::Bias(bias), &out.cast(), block);
    } else {
        run_rounded(a, b, bias, out, block);
    }
}

/// Computes a block whose sums are rounded when they are stored.
fn run_rounded<A, B, O, T: Compute>(
    a: &Left<A>,
    b: &Right<B>,
    bias: Option<&[T]>,
    out: &Output<O>,
    block: Block,
) where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
    O: Storage<Real = T>,
{
    T::with_sums(|sums| {
        let Block { rows, cols, .. } = block.clone();
        let (width, len) = (cols.len(), rows.len() * cols.len());
        if sums.len() < len {
            sums.resize(len, T::ZERO);
        }
        let exact = Output::for_block(sums.as_mut_ptr(), len, width, [rows.start, cols.start]);
        run_exact(a, b, Onto::Bias(bias), &exact, block);
        for (row, sums) in rows.zip(sums.chunks_exact(width)) {
            let start = out.row(row, &cols).cast::<MaybeUninit<O>>();
            // SAFETY: the row holds the columns, and tasks have different rows
            // (`OutputRows::required_rows`) or columns.
            let out = unsafe { std::slice::from_raw_parts_mut(start, width) };
            vectorized(
                #[inline(always)]
                || {
                    for (out, &sum) in out.iter_mut().zip(sums) {
                        out.write(O::store(sum));
                    }
                },
            );
        }
    });
}

/// Computes a block whose sums are stored in the type that they are computed in.
pub(super) fn run_exact<A, B, T: Compute>(
    a: &Left<A>,
    b: &Right<B>,
    onto: Onto<T>,
    out: &Output<T>,
    Block { rows, cols, ks }: Block,
) where
    A: Storage<Real = T>,
    B: Storage<Real = T>,
{
    let tile = TileShape::native::<T>();
    let depth = ks.len().div_ceil(ks.len().div_ceil(DEPTH).max(1));
    T::with_scratch(|scratch| {
        let right = cols.len().next_multiple_of(tile.cols) * depth;
        let (strips, panel) = (a.strips(), tile.rows * DEPTH);
        let (right, rest) = aligned(scratch, right + strips * panel + BLOCK_COLS).split_at_mut(right);
        let (panels, line) = rest.split_at_mut(strips * panel);
        let mut starts = [std::ptr::null_mut(); 12];
        let mut terms = [std::ptr::null(); 12];
        let mut first = !matches!(onto, Onto::Result);
        let mut k = ks.start;
        while first || k < ks.end {
            let piece = k..ks.end.min(k + depth);
            vectorized(
                #[inline(always)]
                || b.pack(piece.clone(), cols.clone(), tile.cols, right, line),
            );
            for top in rows.clone().step_by(strips * tile.rows) {
                let together = top..rows.end.min(top + strips * tile.rows);
                // A tile reads all its rows: if some are missing, it needs a panel.
                let unpacked = (together.len() == tile.rows).then(|| a.unpacked(&together, &piece)).flatten();
                if unpacked.is_none() {
                    vectorized(
                        #[inline(always)]
                        || a.pack(together.clone(), piece.clone(), tile.rows, panels),
                    );
                }
                for (i, top) in together.clone().step_by(tile.rows).enumerate() {
                    let strip = top..together.end.min(top + tile.rows);
                    for (start, row) in starts.iter_mut().zip(strip.clone()) {
                        *start = out.row(row, &cols);
                    }
                    let epilogue = match onto {
                        _ if !first => Epilogue::Accumulate,
                        Onto::Result => Epilogue::Accumulate,
                        Onto::Bias(bias) => Epilogue::Store(bias.map(|b| &b[cols.clone()])),
                        Onto::Matrix(matrix, width) => {
                            for (term, row) in terms.iter_mut().zip(strip.clone()) {
                                *term = matrix[row * width + cols.start..][..cols.len()].as_ptr();
                            }
                            Epilogue::StoreWith(&terms[..strip.len()])
                        }
                    };
                    let strip = Strip {
                        depth: piece.len(),
                        left: unpacked.map_or(&panels[i * panel..][..panel], |(rows, _)| rows),
                        by_rows: a.by_rows(),
                        row_stride: unpacked.map_or(DEPTH, |(_, row_stride)| row_stride),
                        right,
                        cols: cols.len(),
                        out: &starts[..strip.len()],
                        epilogue,
                    };
                    // SAFETY: each row was checked to hold the columns; rows are different
                    // (`OutputRows::required_rows`), and tasks have different rows or columns.
                    // Memory that is added to was written in the first round.
                    unsafe { strip.run() };
                }
            }
            first = false;
            k += depth.max(1);
        }
    });
}

/// `len` elements of `scratch` that begin on a cache line.
fn aligned<T: Compute>(scratch: &mut Vec<T>, len: usize) -> &mut [T] {
    let spare = 64 / size_of::<T>();
    if scratch.len() < len + spare {
        scratch.resize(len + spare, T::ZERO);
    }
    let start = scratch.as_ptr().align_offset(64).min(spare);
    &mut scratch[start..start + len]
}
