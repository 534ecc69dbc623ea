//! Products whose left factor lies as `bf16`, on a machine that multiplies such numbers in pairs: how both factors are
//! packed, and a task from end to end.
//!
//! Numbers of the left factor are read as they lie, or copied; those of the right one are rounded as they are packed.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;

use half::bf16;

use super::super::{Element, Stored, vectorised};
use super::Target;
use super::pairs::{Begin, COLS, LANES, Line, Native, PAIRS, Panels, ROWS, Rows, Strip};
use super::sides::{Left, Right};

/// Distance of the rows of a left panel, and of its pairs where it lies pair by pair.
const APART: usize = 2 * PAIRS;
const STEP: usize = 2 * ROWS;

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
        let pieces = ks.len().div_ceil(2 * PAIRS).max(1);
        let depth = ks.len().div_ceil(pieces).next_multiple_of(2);
        let height = a.strips() * ROWS;
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
            vectorised(
                #[inline(always)]
                || pack_right(b, k.clone(), cols.clone(), right, lines),
            );
            for top in rows.clone().step_by(height) {
                let together = top..rows.end.min(top + height);
                let lying = as_they_lie(a, &together, &k);
                if lying.is_none() {
                    vectorised(
                        #[inline(always)]
                        || pack_left(a, together.clone(), k.clone(), left),
                    );
                }
                for (i, top) in together.clone().step_by(ROWS).enumerate() {
                    let (apart, step) = if a.by_rows() { (APART, 2) } else { (2, STEP) };
                    let panel = Panels { data: &left[i * ROWS * APART..][..ROWS * APART], apart, step };
                    let factors = (lying.unwrap_or(panel), (&right[..], cols.len()));
                    let strip = top..together.end.min(top + ROWS);
                    // SAFETY: each row was checked to have room for the columns; rows are different (`Place::room`), and
                    // tasks have different rows or columns. What is read was written in the first round.
                    unsafe {
                        let ends = [piece == 0, piece + 1 == pieces];
                        kept.strip(native, k.len().div_ceil(2), factors, bias, strip, ends);
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
        let (mut whole, mut rounded) = ([std::ptr::null_mut(); ROWS], [std::ptr::null_mut(); ROWS]);
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
fn as_they_lie<'a>(a: &Left<'a, bf16>, rows: &Range<usize>, ks: &Range<usize>) -> Option<Panels<'a>> {
    let &Left::Rows(data, width) = a else { return None };
    // A tile reads all its rows and whole pairs.
    let whole = rows.len() == ROWS && ks.len().is_multiple_of(2);
    whole.then(|| Panels {
        data: &data[rows.start * width + ks.start..][..(ROWS - 1) * width + ks.len()],
        apart: width,
        step: 2,
    })
}

/// Copies rows `rows`, inner indices `ks` of the left factor into panels.
#[inline(always)]
fn pack_left(a: &Left<bf16>, rows: Range<usize>, ks: Range<usize>, panels: &mut [bf16]) {
    let odd = !ks.len().is_multiple_of(2);
    match a {
        Left::Rows(data, width) => {
            for (row, out) in rows.zip(panels.chunks_exact_mut(APART)) {
                out[..ks.len()].copy_from_slice(&data[row * width + ks.start..][..ks.len()]);
                if odd {
                    out[ks.len()] = bf16::ZERO;
                }
            }
        }
        Left::Windows(windows) => {
            for (row, out) in rows.zip(panels.chunks_exact_mut(APART)) {
                let out = &mut out[..ks.len().next_multiple_of(2)];
                if odd {
                    out[ks.len()] = bf16::ZERO;
                }
                windows.copy_as(
                    row,
                    ks.clone(),
                    &mut out[..ks.len()],
                    bf16::ZERO,
                    #[inline(always)]
                    |from, to| to.copy_from_slice(from),
                );
            }
        }
        Left::Columns(data, width) => {
            for (p, k) in ks.clone().step_by(2).enumerate() {
                let row = |k: usize| &data[k * width + rows.start..][..rows.len()];
                columns(row(k), (k + 1 < ks.end).then(|| row(k + 1)), p, panels);
            }
        }
    }
}

/// Puts two rows of a transposed left factor into its panels as pair `p`.
#[inline(always)]
fn columns(low: &[bf16], high: Option<&[bf16]>, p: usize, panels: &mut [bf16]) {
    let panels = panels.chunks_exact_mut(ROWS * APART).map(|panel| &mut panel[p * STEP..][..STEP]);
    for ((i, low), panel) in low.chunks(ROWS).enumerate().zip(panels) {
        let high = high.map(|high| &high[i * ROWS..][..low.len()]);
        let bits = |x: bf16| u32::from(x.to_bits());
        let pairs: [u32; ROWS] =
            match (low.first_chunk::<ROWS>(), high.and_then(<[bf16]>::first_chunk::<ROWS>)) {
                (Some(low), Some(high)) => std::array::from_fn(|i| bits(low[i]) | bits(high[i]) << 16),
                _ => std::array::from_fn(|i| {
                    let of = |row: &[bf16]| row.get(i).map_or(0, |&x| bits(x));
                    of(low) | high.map_or(0, of) << 16
                }),
            };
        // The first of a pair in the low half, which comes first on the only machines that this runs on.
        let pairs = pairs.map(u32::to_le_bytes);
        // SAFETY: a panel has room for a pair of each row.
        unsafe { panel.as_mut_ptr().cast::<[[u8; 4]; ROWS]>().write_unaligned(pairs) };
    }
}

/// Packs inner indices `ks` of columns `cols` of the right factor; `lines` are scratch of a row each.
#[inline(always)]
fn pack_right<B: Stored>(
    b: &Right<B>,
    ks: Range<usize>,
    cols: Range<usize>,
    out: &mut [Line],
    [low, high]: &mut [Vec<bf16>; 2],
) {
    let pairs = ks.len().div_ceil(2);
    let places = ks.clone().step_by(2).enumerate().map(|(p, k)| (p, k, (k + 1 < ks.end).then_some(k + 1)));
    match b {
        Right::Rows(data, width) => {
            for (p, k, next) in places {
                let row = |k: usize| &data[k * width + cols.start..][..cols.len()];
                spread(row(k), next.map(row), p, pairs, out);
            }
        }
        Right::Flipped(weight) => {
            for (p, k, next) in places {
                let row = |k: usize| &weight.row(k)[cols.clone()];
                spread(row(k), next.map(row), p, pairs, out);
            }
        }
        Right::Windows(windows) => {
            for (p, k, next) in places {
                let (low, high) = (&mut low[..cols.len()], &mut high[..cols.len()]);
                windows.copy_as(k, cols.clone(), low, bf16::ZERO, round);
                if let Some(k) = next {
                    windows.copy_as(k, cols.clone(), high, bf16::ZERO, round);
                }
                spread(low, next.map(|_| &*high), p, pairs, out);
            }
        }
        Right::Columns(data, width) => {
            for (out, first) in out.chunks_exact_mut(2 * pairs.max(1)).zip(cols.clone().step_by(COLS)) {
                let count = COLS.min(cols.end - first);
                transpose(&data[first * width + ks.start..], *width, (count, ks.len()), out);
            }
        }
    }
}

#[inline(always)]
fn round<S: Stored>(from: &[S], to: &mut [bf16]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to = from.round();
    }
}

#[inline(always)]
fn pair<S: Stored>(low: S, high: S) -> u32 {
    u32::from(low.round().to_bits()) | u32::from(high.round().to_bits()) << 16
}

/// Puts two rows of the right factor into its panels as pair `p` of `pairs`.
#[inline(always)]
fn spread<S: Stored>(low: &[S], high: Option<&[S]>, p: usize, pairs: usize, out: &mut [Line]) {
    let zero = [S::store(S::Real::ZERO); LANES];
    for (i, low) in low.chunks(LANES).enumerate() {
        let Line(out) = &mut out[(i / 2 * pairs + p) * 2 + i % 2];
        let high = high.map_or(&zero[..low.len()], |high| &high[i * LANES..][..low.len()]);
        // The same loop twice: of a length that is known beforehand it becomes a few instructions.
        if let (Some(low), Some(high)) = (low.first_chunk::<LANES>(), high.first_chunk::<LANES>()) {
            for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
                *out = pair(low, high);
            }
        } else {
            for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
                *out = pair(low, high);
            }
        }
    }
}

/// `count` rows of `depth` numbers, `width` apart, as the columns of a panel.
#[inline(always)]
fn transpose<S: Stored>(from: &[S], width: usize, (count, depth): (usize, usize), to: &mut [Line]) {
    for p in (0..depth.div_ceil(2)).step_by(LANES) {
        for r in (0..count).step_by(LANES) {
            let to = &mut to[2 * p + r / LANES..];
            if 2 * (p + LANES) <= depth && r + LANES <= count {
                let mut rows = [[0; LANES]; LANES];
                for (i, pairs) in rows.iter_mut().enumerate() {
                    let row = from[(r + i) * width + 2 * p..].first_chunk::<{ 2 * LANES }>();
                    let (row, _) = row.expect("sixteen pairs are left").as_chunks::<2>();
                    for (to, &[low, high]) in pairs.iter_mut().zip(row) {
                        *to = pair(low, high);
                    }
                }
                for (j, Line(to)) in to.iter_mut().step_by(2).take(LANES).enumerate() {
                    for (to, row) in to.iter_mut().zip(&rows) {
                        *to = row[j];
                    }
                }
            } else {
                let zero = S::store(S::Real::ZERO);
                for (j, Line(to)) in
                    to.iter_mut().step_by(2).take(LANES.min(depth.div_ceil(2) - p)).enumerate()
                {
                    for i in r..count.min(r + LANES) {
                        let row = &from[i * width..];
                        let high = if 2 * (p + j) + 1 < depth { row[2 * (p + j) + 1] } else { zero };
                        to[i - r] = pair(row[2 * (p + j)], high);
                    }
                }
            }
        }
    }
}
