//! Products of numbers rounded to `bf16`, two at a time, summed in `f32`: what AVX-512-BF16 does in one instruction.
//!
//! Panels are packed as for the other tiles, then neighbouring inner indices are put together, the first in the low half.
#![allow(unsafe_code)]

use half::bf16;

use super::super::Stored;
use super::tile::{DEPTH, Finish};

/// Rows and columns of a full tile, those of the tiles in `f32` on the machines that have the instruction.
pub(super) const ROWS: usize = 12;
pub(super) const COLS: usize = 2 * LANES;
/// Pairs that a row of a left panel has room for.
const PAIRS: usize = DEPTH / 2;
const LANES: usize = 16;

/// Sixteen sums of products of pairs.
pub(super) trait Dot: Copy {
    type Sums: Copy;
    fn zero(self) -> Self::Sums;
    /// `sums + x * y`, pair by pair.
    fn add(self, sums: Self::Sums, x: u32, y: &[u32; LANES]) -> Self::Sums;
    fn store(self, sums: Self::Sums) -> [f32; LANES];
}

/// The instruction, on a machine that has it.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Native(());

#[cfg(target_arch = "x86_64")]
mod native {
    use std::arch::x86_64::{
        __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_storeu_ps,
    };

    use super::{Dot, LANES, Native, Strip};

    impl Native {
        /// If this machine has it.
        pub(in super::super) fn here() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16"))
                .then_some(Self(()))
        }

        pub(in super::super) fn run(self, strip: &Strip) {
            // SAFETY: `self` was made where the features are there.
            unsafe { tiles(self, strip) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn tiles(native: Native, strip: &Strip) {
        strip.tiles(native);
    }

    impl Dot for Native {
        type Sums = __m512;

        #[inline(always)]
        fn zero(self) -> __m512 {
            // SAFETY: `self` was made where the features are there.
            unsafe { _mm512_setzero_ps() }
        }

        #[inline(always)]
        fn add(self, sums: __m512, x: u32, y: &[u32; LANES]) -> __m512 {
            // SAFETY: `self` was made where the features are there; both are vectors of 32 plain numbers.
            unsafe {
                let x = std::mem::transmute::<__m512i, __m512bh>(_mm512_set1_epi32(x.cast_signed()));
                let y = y.as_ptr().cast::<__m512bh>().read_unaligned();
                _mm512_dpbf16_ps(sums, x, y)
            }
        }

        #[inline(always)]
        fn store(self, sums: __m512) -> [f32; LANES] {
            let mut out = [0.0; LANES];
            // SAFETY: `self` was made where the features are there, and there is room for sixteen numbers.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sums) };
            out
        }
    }
}

/// Elsewhere there is none.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(super) enum Native {}

#[cfg(not(target_arch = "x86_64"))]
impl Native {
    pub(super) fn here() -> Option<Self> {
        None
    }

    pub(super) fn run(self, _: &Strip) {
        match self {}
    }
}

/// How many pairs `panels` left panels take.
pub(super) fn left_len(panels: usize) -> usize {
    panels * ROWS * PAIRS
}

/// Left panels of `depth` inner indices as pairs.
#[inline(always)]
pub(super) fn pair_left(panels: &[f32], depth: usize, by_rows: bool, out: &mut [u32]) {
    if by_rows {
        for (row, out) in panels.chunks_exact(DEPTH).zip(out.chunks_exact_mut(PAIRS)) {
            let (pairs, last) = row[..depth].as_chunks::<2>();
            out.iter_mut().zip(pairs).for_each(|(out, &[low, high])| *out = pair(low, high));
            if let [last] = last {
                out[pairs.len()] = pair(*last, 0.0);
            }
        }
    } else {
        for (panel, out) in panels.chunks_exact(ROWS * DEPTH).zip(out.chunks_exact_mut(ROWS * PAIRS)) {
            pair_lines::<ROWS>(&panel[..depth * ROWS], out);
        }
    }
}

/// A right block of `depth` inner indices as pairs.
#[inline(always)]
pub(super) fn pair_right(block: &[f32], depth: usize, out: &mut Vec<u32>) {
    let pairs = depth.div_ceil(2) * COLS;
    out.resize(block.len() / (depth * COLS) * pairs, 0);
    for (panel, out) in block.chunks_exact(depth * COLS).zip(out.chunks_exact_mut(pairs)) {
        pair_lines::<COLS>(panel, out);
    }
}

/// A panel that lies inner index by inner index, `WIDTH` numbers each, as pairs.
#[inline(always)]
fn pair_lines<const WIDTH: usize>(panel: &[f32], out: &mut [u32]) {
    let (lines, _) = panel.as_chunks::<WIDTH>();
    let (out, _) = out.as_chunks_mut::<WIDTH>();
    for (lines, out) in lines.chunks(2).zip(out) {
        let high = lines.get(1).unwrap_or(&[0.0; WIDTH]);
        out.iter_mut().zip(&lines[0]).zip(high).for_each(|((out, &low), &high)| *out = pair(low, high));
    }
}

#[inline(always)]
fn pair(low: f32, high: f32) -> u32 {
    let bits = |x: f32| u32::from(<bf16 as Stored>::store(x).to_bits());
    bits(low) | bits(high) << 16
}

/// One panel of the left matrix times a block of the right one: as [`super::tile::Strip`], in pairs.
pub(super) struct Strip<'a> {
    pub(super) pairs: usize,
    pub(super) left: &'a [u32],
    pub(super) by_rows: bool,
    pub(super) right: &'a [u32],
    pub(super) cols: usize,
    /// Where each row of the result begins; for reading and writing `cols` elements each.
    out: &'a [*mut f32],
    pub(super) finish: Finish<'a, f32>,
}

impl<'a> Strip<'a> {
    /// # Safety
    /// Each of `out` is valid for writing `cols` elements, and for reading them with [`Finish::Add`], and nothing else
    /// touches them as long as this lives.
    pub(super) unsafe fn new(
        pairs: usize,
        (left, by_rows): (&'a [u32], bool),
        (right, cols): (&'a [u32], usize),
        out: &'a [*mut f32],
        finish: Finish<'a, f32>,
    ) -> Self {
        assert!(out.len() <= ROWS && pairs <= PAIRS, "a strip is one tile high");
        Self { pairs, left, by_rows, right, cols, out, finish }
    }

    #[inline(always)]
    fn tiles<D: Dot>(&self, dot: D) {
        match self.out.len() {
            0..=4 => self.sweep::<D, 4>(dot),
            5..=8 => self.sweep::<D, 8>(dot),
            _ => self.sweep::<D, ROWS>(dot),
        }
    }

    #[inline(always)]
    fn sweep<D: Dot, const R: usize>(&self, dot: D) {
        let (step, apart) = if self.by_rows { (1, PAIRS) } else { (ROWS, 1) };
        // Checked once: the last element that the loop below reads.
        let left = &self.left[..(R - 1) * apart + self.pairs.saturating_sub(1) * step + 1];
        let (right, _) = self.right.as_chunks::<LANES>();
        for first in (0..self.cols).step_by(COLS) {
            let lines = &right[first / COLS * 2 * self.pairs..][..2 * self.pairs];
            let mut sums = [[dot.zero(); 2]; R];
            for (p, line) in lines.as_chunks::<2>().0.iter().enumerate() {
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `left` ends behind the last row's last pair.
                    let x = unsafe { *left.get_unchecked(p * step + r * apart) };
                    sums[0] = dot.add(sums[0], x, &line[0]);
                    sums[1] = dot.add(sums[1], x, &line[1]);
                }
            }
            for (sums, &out) in sums.iter().zip(self.out) {
                let cols = COLS.min(self.cols - first);
                // SAFETY: the promise of `new`; these columns lie among `self.cols`.
                let out = unsafe { std::slice::from_raw_parts_mut(out.add(first), cols) };
                let [low, high] = sums.map(|sums| dot.store(sums));
                let sums = low.iter().chain(&high);
                match self.finish {
                    Finish::Set(None) => out.iter_mut().zip(sums).for_each(|(out, &sum)| *out = sum),
                    Finish::Set(Some(bias)) => {
                        let sums = sums.zip(&bias[first..][..cols]);
                        out.iter_mut().zip(sums).for_each(|(out, (&sum, &bias))| *out = sum + bias);
                    }
                    Finish::Add => out.iter_mut().zip(sums).for_each(|(out, &sum)| *out += sum),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instruction as a plain loop.
    #[derive(Clone, Copy)]
    struct Plain;

    fn halves(pair: u32) -> [f32; 2] {
        [f32::from_bits(pair << 16), f32::from_bits(pair & 0xFFFF_0000)]
    }

    impl Dot for Plain {
        type Sums = [f32; LANES];

        fn zero(self) -> Self::Sums {
            [0.0; LANES]
        }

        fn add(self, sums: Self::Sums, x: u32, y: &[u32; LANES]) -> Self::Sums {
            let [low, high] = halves(x);
            std::array::from_fn(|i| {
                let [first, second] = halves(y[i]);
                sums[i] + low * first + high * second
            })
        }

        fn store(self, sums: Self::Sums) -> [f32; LANES] {
            sums
        }
    }

    fn filled(n: usize, salt: f32) -> Vec<f32> {
        (0..n).map(|i| ((i as f32 + salt) * 0.7).sin()).collect()
    }

    fn rounded(x: f32) -> f64 {
        f64::from(bf16::from_f32(x).to_f32())
    }

    /// Every number of rows, odd depths, a last tile that is not whole; by the plain loop, and by the instruction where
    /// this machine has it.
    #[test]
    fn pairs_agree_with_the_triple_loop() {
        for (rows, cols, depth) in [(12, 70, 31), (1, 5, 1), (4, 32, 8), (7, 33, 384), (9, 64, 2)] {
            for by_rows in [true, false] {
                let (a, b, bias) = (filled(rows * depth, 0.3), filled(depth * cols, 0.8), filled(cols, 0.1));
                let mut panel = vec![0.0; ROWS * DEPTH];
                for (r, k) in (0..rows).flat_map(|r| (0..depth).map(move |k| (r, k))) {
                    panel[if by_rows { r * DEPTH + k } else { k * ROWS + r }] = a[r * depth + k];
                }
                let mut block = vec![0.0; cols.next_multiple_of(COLS) * depth];
                for (k, c) in (0..depth).flat_map(|k| (0..cols).map(move |c| (k, c))) {
                    block[(c / COLS * depth + k) * COLS + c % COLS] = b[k * cols + c];
                }
                let (mut left, mut right) = (vec![0; left_len(1)], Vec::new());
                pair_left(&panel, depth, by_rows, &mut left);
                pair_right(&block, depth, &mut right);
                let check = |run: &dyn Fn(&Strip)| {
                    let mut got = vec![f32::NAN; rows * cols];
                    for finish in [Finish::Set(Some(&bias[..])), Finish::Add, Finish::Set(None)] {
                        let starts: Vec<_> = got.chunks_exact_mut(cols).map(<[f32]>::as_mut_ptr).collect();
                        let pairs = depth.div_ceil(2);
                        // SAFETY: the starts are those of rows of `got`, which is not touched meanwhile.
                        let strip =
                            unsafe { Strip::new(pairs, (&left, by_rows), (&right, cols), &starts, finish) };
                        run(&strip);
                        let (times, biased) = match finish {
                            Finish::Set(None) => (1.0, 0.0),
                            Finish::Set(Some(_)) => (1.0, 1.0),
                            Finish::Add => (2.0, 1.0),
                        };
                        for (i, &got) in got.iter().enumerate() {
                            let (r, c) = (i / cols, i % cols);
                            let terms =
                                (0..depth).map(|k| rounded(a[r * depth + k]) * rounded(b[k * cols + c]));
                            let want = times * terms.sum::<f64>() + biased * f64::from(bias[c]);
                            assert!(
                                (f64::from(got) - want).abs() < 1e-4,
                                "{rows}x{cols}x{depth}: {got}, {want}"
                            );
                        }
                    }
                };
                check(&|strip| strip.tiles(Plain));
                if let Some(native) = Native::here() {
                    check(&|strip| native.run(strip));
                }
            }
        }
    }
}
