//! Matrix products whose factors are packed from where they lie: rows, transposes, or windows of pictures.
//!
//! A product is cut into tasks; the order of each sum is that of its shape alone, whatever the cut. Each task packs a
//! block of the right factor (an L2 cache full), then goes through the left one panel by panel (an L1 cache full); tiles of
//! the result stay in registers.
#![allow(unsafe_code)]

mod amx;
mod cut;
mod packing;
mod paired;
mod pairing;
mod pairs;
mod sides;
mod tile;
mod windows;

use std::mem::MaybeUninit;
use std::ops::Range;

use cut::{BLOCK_COLS, Cut, TASK_WORK, tasks};
use paired::Out;
use pairs::Native;
use rayon::prelude::*;
pub(crate) use sides::{Flipped, Left, Right};
use tile::{DEPTH, Finish, Strip, TileShape};
pub(crate) use windows::Windows;

use super::{Element, Stored};

/// Rows of a task, at most; and where its sums are rounded in the end, so that they stay in a cache until then.
const BLOCK_ROWS: usize = 1536;
const ROUNDED_ROWS: usize = 768;
/// Most parts of the sum that are tasks of their own.
const MOST_PARTS: usize = 16;
/// Rows and columns of a result that are a task of their own, rather than parts of their sums.
const ENOUGH: usize = 192;

/// Rows, columns and inner indices.
pub(crate) type Shape = (usize, usize, usize);

/// Where the rows of a result lie.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// One after another.
    Dense,
    /// Pixels of pictures `[n, h, w, c]`: `count` rows and columns of each, from `first` on, `step` apart.
    Grid { size: [usize; 2], count: [usize; 2], first: [usize; 2], step: usize },
}

impl Place {
    /// Number of the row of the result that row `row` of the product becomes.
    fn row(&self, row: usize) -> usize {
        match *self {
            Self::Dense => row,
            Self::Grid { size: [h, w], count: [rows, cols], first, step } => {
                let (image, place) = (row / (rows * cols), row % (rows * cols));
                (image * h + first[0] + place / cols * step) * w + first[1] + place % cols * step
            }
        }
    }

    /// That the rows are all different and how many of `m` rows there must be room for.
    fn room(&self, m: usize) -> usize {
        if let Self::Grid { size, count, first, step } = *self {
            for axis in 0..2 {
                let last = first[axis] + (count[axis] - 1) * step;
                assert!(step > 0 && last < size[axis], "rows of a result fall on each other");
            }
        }
        if m == 0 { 0 } else { self.row(m - 1) + 1 }
    }
}

/// `a * b + bias`, rows one after another.
pub(crate) fn product<A, B, O, T: Element>(
    shape: Shape,
    a: Left<A>,
    b: Right<B>,
    bias: Option<&[T]>,
) -> Vec<O>
where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
    O: Stored<Real = T>,
{
    let (m, n, _) = shape;
    let mut out = Vec::with_capacity(m * n);
    run(shape, a, b, bias, Target::new(out.as_mut_ptr(), m * n, n, Place::Dense));
    // SAFETY: `run` wrote all `m * n` elements.
    unsafe { out.set_len(m * n) };
    out
}

/// Writes `a * b` to rows of `out`, where `place` says.
pub(crate) fn product_at<A, B, O, T: Element>(
    shape: Shape,
    a: Left<A>,
    b: Right<B>,
    out: &mut [O],
    place: Place,
) where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
    O: Stored<Real = T>,
{
    run(shape, a, b, None, Target::new(out.as_mut_ptr(), out.len(), shape.1, place));
}

/// How this machine multiplies activations in `bf16`, where the left factor of a product is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bf16Products {
    /// In single precision, after they were loaded as such.
    Single,
    /// In pairs, by AVX-512-BF16; the right factor is rounded to `bf16`, too.
    Pairs,
    /// Matrices whole, by AMX; the right factor is rounded to `bf16`, too.
    Matrices,
}

impl Bf16Products {
    /// Those of this machine: AMX, where processor and system have it and `EFFICIENTTRAIN_AMX` is not 0, or else
    /// AVX-512-BF16, but for Intel's processors, which are faster in single precision.
    pub fn here() -> Self {
        match Native::here() {
            None => Self::Single,
            Some(native) if native.has_matrices() => Self::Matrices,
            Some(_) => Self::Pairs,
        }
    }
}

impl std::fmt::Display for Bf16Products {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Single => "in single precision",
            Self::Pairs => "in pairs (AVX-512-BF16)",
            Self::Matrices => "as whole matrices (AMX)",
        })
    }
}

/// Whether this machine multiplies `bf16` as such.
pub(crate) fn in_pairs() -> bool {
    Native::here().is_some()
}

/// `a * b` on this thread alone, to rows of `out` that are `width` elements apart: for products that are part of a task.
pub(crate) fn alone<A, B, T: Element>(shape: Shape, a: Left<A>, b: Right<B>, out: &mut [T], width: usize)
where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
{
    let (m, n, k) = shape;
    if m * n == 0 {
        return;
    }
    assert!(n <= width && (m - 1) * width + n <= out.len(), "matrix product writes out of bounds");
    let target = Target::new(out.as_mut_ptr(), out.len(), width, Place::Dense);
    task(&a, &b, None, &target, (0..m, 0..n, 0..k));
}

/// `a * b` where the result is small and `k` is large: parts of `k` are tasks of their own, added up in order.
pub(crate) fn product_deep<A, B, T: Element>(shape: Shape, a: Left<A>, b: Right<B>) -> Vec<T>
where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
{
    let (m, n, k) = shape;
    // By the shape alone, because the order of the sum depends on it.
    let blocks = (m / ENOUGH).max(1) * (n / ENOUGH).max(1);
    let parts = (MOST_PARTS / blocks).min(k / (2 * DEPTH)).min(m * n * k / TASK_WORK).max(1);
    if parts == 1 {
        return product(shape, a, b, None);
    }
    let depth = k.div_ceil(parts);
    let parts = k.div_ceil(depth);
    let cut = Cut::into((m, n), tasks(shape).div_ceil(parts), TileShape::here::<T>(), BLOCK_ROWS);
    let mut sums: Vec<T> = Vec::with_capacity(parts * m * n);
    let target = Target::new(sums.as_mut_ptr(), parts * m * n, n, Place::Dense);
    let tasks = cut.tasks((m, n));
    (0..parts * tasks).into_par_iter().for_each(|i| {
        let (part, (rows, cols)) = (i / tasks, cut.task((m, n), i % tasks));
        let ks = part * depth..k.min((part + 1) * depth);
        let target = target.rest(part * m * n);
        task(&a, &b, None, &target, (rows, cols, ks));
    });
    // SAFETY: every task wrote its part of the result, and together they cover it.
    unsafe { sums.set_len(parts * m * n) };
    let (total, rest) = sums.split_at_mut(m * n);
    total.par_chunks_mut(1 << 13).enumerate().for_each(|(i, total)| {
        for part in rest.chunks_exact(m * n) {
            let part = &part[i << 13..][..total.len()];
            super::vectorised(
                #[inline(always)]
                || {
                    for (t, &p) in total.iter_mut().zip(part) {
                        *t += p;
                    }
                },
            );
        }
    });
    sums.truncate(m * n);
    sums
}

/// Memory that tasks write disjoint parts of.
#[derive(Clone, Copy)]
struct Target<O> {
    start: *mut O,
    len: usize,
    /// Columns of the memory, and where its rows are.
    width: usize,
    place: Place,
    /// Row and column of the product that come first.
    first: [usize; 2],
}

// SAFETY: tasks on other threads only write elements through `task`, each of them by one task alone.
unsafe impl<O: Send> Sync for Target<O> {}

impl<O> Target<O> {
    fn new(start: *mut O, len: usize, width: usize, place: Place) -> Self {
        Self { start, len, width, place, first: [0; 2] }
    }

    /// The same memory as numbers of the type that they have, where that is known by another name.
    fn cast<P: Stored>(&self) -> Target<P> {
        assert!(size_of::<P>() == size_of::<O>(), "a result changes its type");
        Target {
            start: self.start.cast(),
            len: self.len,
            width: self.width,
            place: self.place,
            first: self.first,
        }
    }

    fn rest(&self, from: usize) -> Self {
        assert!(from <= self.len, "a part of a result lies outside it");
        Self { start: self.start.wrapping_add(from), len: self.len - from, ..*self }
    }

    /// Where columns `cols` of row `row` of the product lie.
    fn row(&self, row: usize, cols: &Range<usize>) -> *mut O {
        let at = self.place.row(row - self.first[0]) * self.width + cols.start - self.first[1];
        assert!(at + cols.len() <= self.len, "matrix product writes out of bounds");
        self.start.wrapping_add(at)
    }
}

fn run<A, B, O, T: Element>(shape: Shape, a: Left<A>, b: Right<B>, bias: Option<&[T]>, out: Target<O>)
where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
    O: Stored<Real = T>,
{
    let (m, n, k) = shape;
    assert!(out.place.room(m) * n <= out.len, "matrix product writes out of bounds");
    if m * n == 0 {
        return;
    }
    let most_rows = if O::EXACT { BLOCK_ROWS } else { ROUNDED_ROWS };
    let cut = Cut::into((m, n), tasks(shape), TileShape::here::<T>(), most_rows);
    (0..cut.tasks((m, n))).into_par_iter().for_each(|i| {
        let (rows, cols) = cut.task((m, n), i);
        task(&a, &b, bias, &out, (rows, cols, 0..k));
    });
}

/// Computes rows `rows` and columns `cols` of the result, of inner indices `ks` alone, in the way that fits the types and
/// this machine.
fn task<A, B, O, T: Element>(
    a: &Left<A>,
    b: &Right<B>,
    bias: Option<&[T]>,
    out: &Target<O>,
    (rows, cols, ks): (Range<usize>, Range<usize>, Range<usize>),
) where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
    O: Stored<Real = T>,
{
    if let (Some(native), Some(a)) = (Native::here(), a.rounded()) {
        // What is computed with in `f32` is stored as such, or as `bf16`.
        let out = if O::EXACT { Out::Whole(out.cast()) } else { Out::Rounded(out.cast()) };
        paired::task(native, (&a, b), bias.and_then(T::singles), &out, (rows, cols, ks));
    } else if O::EXACT {
        // The same type, as `EXACT` says.
        whole_task(a, b, bias, &out.cast(), rows, cols, ks);
    } else {
        rounded_task(a, b, bias, out, rows, cols, ks);
    }
}

/// As [`whole_task`], where the result is not stored as it is summed up.
fn rounded_task<A, B, O, T: Element>(
    a: &Left<A>,
    b: &Right<B>,
    bias: Option<&[T]>,
    out: &Target<O>,
    rows: Range<usize>,
    cols: Range<usize>,
    ks: Range<usize>,
) where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
    O: Stored<Real = T>,
{
    T::with_sums(|sums| {
        let (width, len) = (cols.len(), rows.len() * cols.len());
        if sums.len() < len {
            sums.resize(len, T::ZERO);
        }
        let first = [rows.start, cols.start];
        let target = Target { first, ..Target::new(sums.as_mut_ptr(), len, width, Place::Dense) };
        whole_task(a, b, bias, &target, rows.clone(), cols.clone(), ks);
        for (row, sums) in rows.zip(sums.chunks_exact(width)) {
            let start = out.row(row, &cols).cast::<MaybeUninit<O>>();
            // SAFETY: there is room for the columns, and tasks have different rows (`Place::room`) or columns.
            let out = unsafe { std::slice::from_raw_parts_mut(start, width) };
            super::vectorised(
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

/// A task whose results are stored as they are summed up.
fn whole_task<A, B, T: Element>(
    a: &Left<A>,
    b: &Right<B>,
    bias: Option<&[T]>,
    out: &Target<T>,
    rows: Range<usize>,
    cols: Range<usize>,
    ks: Range<usize>,
) where
    A: Stored<Real = T>,
    B: Stored<Real = T>,
{
    let tile = TileShape::here::<T>();
    let depth = ks.len().div_ceil(ks.len().div_ceil(DEPTH).max(1));
    T::with_scratch(|scratch| {
        let block = cols.len().next_multiple_of(tile.cols) * depth;
        let (strips, panel) = (a.strips(), tile.rows * DEPTH);
        let (block, rest) = aligned(scratch, block + strips * panel + BLOCK_COLS).split_at_mut(block);
        let (panels, line) = rest.split_at_mut(strips * panel);
        let mut starts = [std::ptr::null_mut(); 12];
        let mut first = true;
        let mut k = ks.start;
        while first || k < ks.end {
            let piece = k..ks.end.min(k + depth);
            super::vectorised(
                #[inline(always)]
                || b.pack(piece.clone(), cols.clone(), tile.cols, block, line),
            );
            let finish = if first { Finish::Set(bias.map(|b| &b[cols.clone()])) } else { Finish::Add };
            for top in rows.clone().step_by(strips * tile.rows) {
                let together = top..rows.end.min(top + strips * tile.rows);
                // A tile reads all its rows: where some are missing, it needs a panel.
                let lying = (together.len() == tile.rows).then(|| a.as_they_lie(&together, &piece)).flatten();
                if lying.is_none() {
                    super::vectorised(
                        #[inline(always)]
                        || a.pack(together.clone(), piece.clone(), tile.rows, panels),
                    );
                }
                for (i, top) in together.clone().step_by(tile.rows).enumerate() {
                    let strip = top..together.end.min(top + tile.rows);
                    for (start, row) in starts.iter_mut().zip(strip.clone()) {
                        *start = out.row(row, &cols);
                    }
                    let strip = Strip {
                        depth: piece.len(),
                        left: lying.map_or(&panels[i * panel..][..panel], |(rows, _)| rows),
                        by_rows: a.by_rows(),
                        apart: lying.map_or(DEPTH, |(_, apart)| apart),
                        right: block,
                        cols: cols.len(),
                        out: &starts[..strip.len()],
                        finish,
                    };
                    // SAFETY: each row was checked to have room for the columns; rows are different
                    // (`Place::room`), and tasks have different rows or columns. What is added to was set in the
                    // first round.
                    unsafe { strip.run() };
                }
            }
            first = false;
            k += depth.max(1);
        }
    });
}

/// `len` elements of `scratch` that begin on a cache line.
fn aligned<T: Element>(scratch: &mut Vec<T>, len: usize) -> &mut [T] {
    let spare = 64 / size_of::<T>();
    if scratch.len() < len + spare {
        scratch.resize(len + spare, T::ZERO);
    }
    let start = scratch.as_ptr().align_offset(64).min(spare);
    &mut scratch[start..start + len]
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn filled(n: usize, salt: f64) -> Vec<f64> {
        (0..n).map(|i| ((i as f64 + salt) * 0.7).sin()).collect()
    }

    /// `a * b + bias` as a triple loop.
    fn plain(
        (m, n, k): Shape,
        a: impl Fn(usize, usize) -> f64,
        b: impl Fn(usize, usize) -> f64,
        bias: impl Fn(usize) -> f64,
    ) -> Vec<f64> {
        let sum = |r: usize, c: usize| (0..k).map(|i| a(r, i) * b(i, c)).sum::<f64>() + bias(c);
        (0..m).flat_map(|r| (0..n).map(move |c| (r, c))).map(|(r, c)| sum(r, c)).collect()
    }

    fn close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-10), "{got:?} is not {want:?}");
    }

    const SHAPES: [Shape; 5] = [(1, 1, 1), (5, 7, 3), (64, 33, 385), (200, 130, 17), (13, 401, 800)];

    #[test]
    fn rows_and_columns_agree_with_the_triple_loop() {
        for (m, n, k) in SHAPES {
            let (a, b, bias) = (filled(m * k, 0.1), filled(n * k, 0.9), filled(n, 0.4));
            let got: Vec<f64> = product((m, n, k), Left::Rows(&a, k), Right::Columns(&b, k), Some(&bias));
            close(&got, &plain((m, n, k), |r, i| a[r * k + i], |i, c| b[c * k + i], |c| bias[c]));
            let got: Vec<f64> = product((m, n, k), Left::Columns(&a, m), Right::Rows(&b, n), None);
            close(&got, &plain((m, n, k), |r, i| a[i * m + r], |i, c| b[i * n + c], |_| 0.0));
        }
    }

    #[test]
    fn deep_products_agree_with_the_triple_loop() {
        let (m, n, k) = (30, 50, 5000);
        let (a, b) = (filled(m * k, 0.1), filled(n * k, 0.9));
        let got = product_deep((m, n, k), Left::Columns(&a, m), Right::Rows(&b, n));
        close(&got, &plain((m, n, k), |r, i| a[i * m + r], |i, c| b[i * n + c], |_| 0.0));
    }

    #[test]
    fn windows_are_zero_outside_the_picture() {
        let (size, c, kernel, count) = ([5, 4], 3, [3, 2], [3, 4]);
        let x = filled(2 * 5 * 4 * c, 0.2);
        let windows = Windows { x: &x, size, c, count, step: 2, origin: [-1, -3], kernel, dilation: 1 };
        let at = |row: usize, k: usize| {
            let (image, place) = (row / 12, row % 12);
            let y = (place / 4 * 2 + k / (2 * c)) as isize - 1;
            let left = (place % 4 * 2 + k / c % 2) as isize - 3;
            let inside = (0..5).contains(&y) && (0..4).contains(&left);
            if inside { x[((image * 5 + y as usize) * 4 + left as usize) * c + k % c] } else { 0.0 }
        };
        let k = 3 * 2 * c;
        let b = filled(k * 9, 0.5);
        let got: Vec<f64> = product((24, 9, k), Left::Windows(windows), Right::Rows(&b, 9), None);
        close(&got, &plain((24, 9, k), at, |i, c| b[i * 9 + c], |_| 0.0));
        let a = filled(24 * 7, 0.6);
        let got: Vec<f64> = product((7, k, 24), Left::Columns(&a, 7), Right::Windows(windows), None);
        close(&got, &plain((7, k, 24), |r, i| a[i * 7 + r], at, |_| 0.0));
    }

    /// Every kind of factor, odd sizes, sums that are taken in pieces: both factors are rounded where this machine
    /// multiplies in pairs, and only the left one elsewhere, so the right one holds numbers that are not rounded any more.
    #[test]
    fn rounded_numbers_agree_with_the_triple_loop() {
        let half = |values: Vec<f64>| values.into_iter().map(bf16::from_f64).collect::<Vec<_>>();
        let wide = |values: &[bf16]| values.iter().map(|x| x.to_f64()).collect::<Vec<_>>();
        for (m, n, k) in SHAPES.into_iter().chain([(40, 70, 1601), (25, 32, 770)]) {
            let (a, b, bias) = (half(filled(m * k, 0.1)), half(filled(n * k, 0.9)), filled(n, 0.4));
            let single = b.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
            let bias: Vec<f32> = bias.into_iter().map(|x| x as f32).collect();
            let (aw, bw) = (wide(&a), wide(&b));
            let near = |got: Vec<f64>, want: Vec<f64>, unit: f64| {
                assert_eq!(got.len(), want.len());
                for (got, want) in got.iter().zip(&want) {
                    assert!((got - want).abs() < 1e-4 + want.abs() * unit, "{m}x{n}x{k}: {got}, {want}");
                }
            };
            let want = plain((m, n, k), |r, i| aw[r * k + i], |i, c| bw[c * k + i], |c| bias[c].into());
            let (left, right) = (Left::Rows(&a, k), Right::Columns(&single, k));
            let got: Vec<bf16> = product((m, n, k), left, right, Some(&bias));
            near(wide(&got), want.clone(), 1.0 / 256.0);
            let got: Vec<f32> = product((m, n, k), left, right, Some(&bias));
            near(got.into_iter().map(f64::from).collect(), want, 1e-6);
            let want = plain((m, n, k), |r, i| aw[i * m + r], |i, c| bw[i * n + c], |_| 0.0);
            let got = product_deep((m, n, k), Left::Columns(&a, m), Right::Rows(&b, n));
            near(got.into_iter().map(f64::from).collect(), want.clone(), 1e-6);
            // Where matrices are multiplied whole, pairs are still what other machines have.
            #[cfg(target_arch = "x86_64")]
            if let Some(native) = Native::here() {
                let mut got = vec![f32::NAN; m * n];
                let out = Out::Whole(Target::new(got.as_mut_ptr(), m * n, n, Place::Dense));
                let factors = (&Left::Columns(&a, m), &Right::Rows(&b, n));
                paired::task(native.by_vectors(), factors, None, &out, (0..m, 0..n, 0..k));
                near(got.into_iter().map(f64::from).collect(), want, 1e-6);
            }
        }
    }

    #[test]
    #[should_panic(expected = "rows of a result fall on each other")]
    fn refuses_rows_that_fall_on_each_other() {
        let place = Place::Grid { size: [2, 2], count: [1, 3], first: [0, 0], step: 1 };
        product_at((3, 1, 1), Left::Rows(&[1.0; 3], 1), Right::Rows(&[1.0], 1), &mut [0.0; 4], place);
    }
}
