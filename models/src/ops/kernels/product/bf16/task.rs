//! One task of a product in pairs: a block of the result, from packing to storing.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;

use super::super::output::Output;
use super::super::partition::Block;
use super::super::{Left, Right};
use super::pack::{PANEL_STRIDE, pack_left, pack_right};
use super::tile::{Begin, Panels, Rows, Strip};
use super::{COLS, LANES, MAX_ROWS, Native, PAIRS, PairVec, PanelShape};
use crate::ops::kernels::Storage;

/// Memory for the results of a task.
#[derive(Clone, Copy)]
pub(in super::super) enum Out {
    Exact(Output<f32>),
    Rounded(Output<bf16>),
}

/// Scratch memory that a thread keeps from task to task.
struct Buffers {
    left: Vec<bf16>,
    right: Vec<PairVec>,
    lines: [Vec<bf16>; 2],
    sums: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        const { RefCell::new(Buffers { left: vec![], right: vec![], lines: [vec![], vec![]], sums: vec![] }) };
}

/// Computes a block of the result.
pub(in super::super) fn run_task<B: Storage>(
    native: Native,
    (a, b): (&Left<bf16>, &Right<B>),
    bias: Option<&[f32]>,
    out: &Out,
    Block { rows, cols, ks }: Block,
) {
    BUFFERS.with_borrow_mut(|Buffers { left, right, lines, sums }| {
        let shape = native.shape();
        let pieces = ks.len().div_ceil(2 * PAIRS).max(1);
        let depth = ks.len().div_ceil(pieces).next_multiple_of(2 * shape.unit);
        // `depth` was rounded up, so fewer pieces may be enough.
        let pieces = ks.len().div_ceil(depth.max(1)).max(1);
        let by_rows = shape.by_rows || a.by_rows();
        let height = a.strips() * shape.rows;
        grow(left, height * PANEL_STRIDE, bf16::ZERO);
        grow(right, cols.len().div_ceil(COLS) * depth, PairVec([0; LANES]));
        for line in lines.iter_mut() {
            grow(line, cols.len(), bf16::ZERO);
        }
        let rounded_late = pieces > 1 && matches!(out, Out::Rounded(_));
        if rounded_late {
            grow(sums, rows.len() * cols.len(), 0.0);
        }
        let sums = TaskSums { out, sums: sums.as_mut_ptr(), cols: &cols, first: rows.start, rounded_late };
        for piece in 0..pieces {
            let k = ks.start + piece * depth..ks.end.min(ks.start + (piece + 1) * depth);
            let pairs = k.len().div_ceil(2).next_multiple_of(shape.unit);
            native.compiled(
                #[inline(always)]
                || pack_right(native, b, k.clone(), cols.clone(), pairs, right, lines),
            );
            for top in rows.clone().step_by(height) {
                let together = top..rows.end.min(top + height);
                let unpacked = unpacked(a, shape, &together, &k);
                if unpacked.is_none() {
                    native.compiled(
                        #[inline(always)]
                        || pack_left(native, a, shape, together.clone(), k.clone(), left),
                    );
                }
                for (i, top) in together.clone().step_by(shape.rows).enumerate() {
                    let (row_stride, step) = if by_rows { (PANEL_STRIDE, 2) } else { (2, 2 * shape.rows) };
                    let panel = shape.rows * PANEL_STRIDE;
                    let panel = Panels { data: &left[i * panel..][..panel], row_stride, step };
                    let factors = (unpacked.unwrap_or(panel), (&right[..], cols.len()));
                    let strip = top..together.end.min(top + shape.rows);
                    // SAFETY: each row was checked to hold the columns; rows are different
                    // (`OutputRows::required_rows`), and tasks have different rows or columns. Sums
                    // that are read were written in the first round.
                    unsafe {
                        let ends = [piece == 0, piece + 1 == pieces];
                        sums.strip(native, pairs, factors, bias, strip, ends);
                    }
                }
            }
        }
    });
}

/// The sums of a task between two pieces of the inner indices.
struct TaskSums<'a> {
    out: &'a Out,
    /// Memory for the sums of the task, if they are rounded only after the last piece.
    sums: *mut f32,
    rounded_late: bool,
    cols: &'a Range<usize>,
    /// First row of the task.
    first: usize,
}

impl TaskSums<'_> {
    /// Computes one strip of one piece of the inner indices, which may be the `first` and the
    /// `last`.
    ///
    /// # Safety
    /// Those of [`Strip::new`], for rows `strip` of the result.
    unsafe fn strip(
        &self,
        native: Native,
        pairs: usize,
        (left, right): (Panels, (&[PairVec], usize)),
        bias: Option<&[f32]>,
        strip: Range<usize>,
        [first, last]: [bool; 2],
    ) {
        let (mut exact, mut rounded) = ([std::ptr::null_mut(); MAX_ROWS], [std::ptr::null_mut(); MAX_ROWS]);
        let height = strip.len();
        for (i, row) in strip.enumerate() {
            match self.out {
                Out::Exact(out) => exact[i] = out.row(row, self.cols),
                Out::Rounded(out) => {
                    rounded[i] = out.row(row, self.cols);
                    exact[i] = self.sums.wrapping_add((row - self.first) * self.cols.len());
                }
            }
        }
        let (exact, rounded) = (&exact[..height], &rounded[..height]);
        let begin = match bias {
            _ if !first => Begin::Sums(exact),
            Some(bias) => Begin::Bias(&bias[self.cols.clone()]),
            None => Begin::Zero,
        };
        let late = self.rounded_late && !last;
        let rows = if late || matches!(self.out, Out::Exact(_)) {
            Rows::Exact(exact)
        } else {
            Rows::Rounded(rounded)
        };
        // SAFETY: the caller's promise; `self.sums` holds every row and column of the task.
        native.run(&unsafe { Strip::new(pairs, left, right, begin, rows) });
    }
}

fn grow<T: Copy>(buffer: &mut Vec<T>, len: usize, value: T) {
    if buffer.len() < len {
        buffer.resize(len, value);
    }
}

/// Returns rows `rows` of the left factor, inner indices `ks`, if they need no packing.
fn unpacked<'a>(
    a: &Left<'a, bf16>,
    shape: PanelShape,
    rows: &Range<usize>,
    ks: &Range<usize>,
) -> Option<Panels<'a>> {
    let &Left::Rows(data, width) = a else { return None };
    // A tile reads all its rows and whole pairs.
    let whole = rows.len() == shape.rows && ks.len().is_multiple_of(2 * shape.unit);
    whole.then(|| Panels {
        data: &data[rows.start * width + ks.start..][..(rows.len() - 1) * width + ks.len()],
        row_stride: width,
        step: 2,
    })
}
