//! Products whose left factor lies as `bf16`, on a machine that multiplies such numbers in pairs: a task from end to end.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;

use super::super::Stored;
use super::Target;
use super::packing::{APART, pack_left, pack_right};
use super::pairs::{Begin, COLS, LANES, Line, MOST_ROWS, Native, PAIRS, PanelShape, Panels, Rows, Strip};
use super::sides::{Left, Right};

/// Where the results of a task go.
#[derive(Clone, Copy)]
pub(super) enum Out {
    Whole(Target<f32>),
    Rounded(Target<bf16>),
}

/// What a thread keeps from task to task.
struct Buffers {
    left: Vec<bf16>,
    right: Vec<Line>,
    lines: [Vec<bf16>; 2],
    sums: Vec<f32>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> =
        const { RefCell::new(Buffers { left: vec![], right: vec![], lines: [vec![], vec![]], sums: vec![] }) };
}

/// Computes rows `rows` and columns `cols` of the result, of inner indices `ks` alone.
pub(super) fn task<B: Stored>(
    native: Native,
    (a, b): (&Left<bf16>, &Right<B>),
    bias: Option<&[f32]>,
    out: &Out,
    (rows, cols, ks): (Range<usize>, Range<usize>, Range<usize>),
) {
    BUFFERS.with_borrow_mut(|Buffers { left, right, lines, sums }| {
        let shape = native.shape();
        let pieces = ks.len().div_ceil(2 * PAIRS).max(1);
        let depth = ks.len().div_ceil(pieces).next_multiple_of(2 * shape.unit);
        // Rounded up, fewer may do.
        let pieces = ks.len().div_ceil(depth.max(1)).max(1);
        let by_rows = shape.by_rows || a.by_rows();
        let height = a.strips() * shape.rows;
        grow(left, height * APART, bf16::ZERO);
        grow(right, cols.len().div_ceil(COLS) * depth, Line([0; LANES]));
        for line in lines.iter_mut() {
            grow(line, cols.len(), bf16::ZERO);
        }
        let rounded_late = pieces > 1 && matches!(out, Out::Rounded(_));
        if rounded_late {
            grow(sums, rows.len() * cols.len(), 0.0);
        }
        let kept = Kept { out, sums: sums.as_mut_ptr(), cols: &cols, first: rows.start, rounded_late };
        for piece in 0..pieces {
            let k = ks.start + piece * depth..ks.end.min(ks.start + (piece + 1) * depth);
            let pairs = k.len().div_ceil(2).next_multiple_of(shape.unit);
            native.compiled(
                #[inline(always)]
                || pack_right(native, b, k.clone(), cols.clone(), pairs, right, lines),
            );
            for top in rows.clone().step_by(height) {
                let together = top..rows.end.min(top + height);
                let lying = as_they_lie(a, shape, &together, &k);
                if lying.is_none() {
                    native.compiled(
                        #[inline(always)]
                        || pack_left(native, a, shape, together.clone(), k.clone(), left),
                    );
                }
                for (i, top) in together.clone().step_by(shape.rows).enumerate() {
                    let (apart, step) = if by_rows { (APART, 2) } else { (2, 2 * shape.rows) };
                    let panel = shape.rows * APART;
                    let panel = Panels { data: &left[i * panel..][..panel], apart, step };
                    let factors = (lying.unwrap_or(panel), (&right[..], cols.len()));
                    let strip = top..together.end.min(top + shape.rows);
                    // SAFETY: each row was checked to have room for the columns; rows are different (`Place::room`), and
                    // tasks have different rows or columns. What is read was written in the first round.
                    unsafe {
                        let ends = [piece == 0, piece + 1 == pieces];
                        kept.strip(native, pairs, factors, bias, strip, ends);
                    }
                }
            }
        }
    });
}

/// Where the sums of a task are kept.
struct Kept<'a> {
    out: &'a Out,
    /// Room for those of the task, where they are rounded in the end alone.
    sums: *mut f32,
    rounded_late: bool,
    cols: &'a Range<usize>,
    /// First row of the task.
    first: usize,
}

impl Kept<'_> {
    /// Computes one strip of one piece of the inner indices, which may be the `first` and the `last`.
    ///
    /// # Safety
    /// That of [`Strip::new`], for rows `strip` of the result.
    unsafe fn strip(
        &self,
        native: Native,
        pairs: usize,
        (left, right): (Panels, (&[Line], usize)),
        bias: Option<&[f32]>,
        strip: Range<usize>,
        [first, last]: [bool; 2],
    ) {
        let (mut whole, mut rounded) = ([std::ptr::null_mut(); MOST_ROWS], [std::ptr::null_mut(); MOST_ROWS]);
        let height = strip.len();
        for (i, row) in strip.enumerate() {
            match self.out {
                Out::Whole(out) => whole[i] = out.row(row, self.cols),
                Out::Rounded(out) => {
                    rounded[i] = out.row(row, self.cols);
                    whole[i] = self.sums.wrapping_add((row - self.first) * self.cols.len());
                }
            }
        }
        let (whole, rounded) = (&whole[..height], &rounded[..height]);
        let begin = match bias {
            _ if !first => Begin::Sums(whole),
            Some(bias) => Begin::Bias(&bias[self.cols.clone()]),
            None => Begin::Zero,
        };
        let late = self.rounded_late && !last;
        let rows = if late || matches!(self.out, Out::Whole(_)) {
            Rows::Whole(whole)
        } else {
            Rows::Rounded(rounded)
        };
        // SAFETY: the caller's promise; kept sums have room for every row and column of the task.
        native.run(&unsafe { Strip::new(pairs, left, right, begin, rows) });
    }
}

fn grow<T: Copy>(buffer: &mut Vec<T>, len: usize, value: T) {
    if buffer.len() < len {
        buffer.resize(len, value);
    }
}

/// The left factor's rows `rows` of inner indices `ks`, if they need not be packed.
fn as_they_lie<'a>(
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
        apart: width,
        step: 2,
    })
}
