//! The innermost loops of a product in pairs: one strip of the result, tile by tile or matrix by
//! matrix.
#![allow(unsafe_code)]
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

use half::bf16;

use super::amx::{self, Sums, TileMul};
use super::{COLS, LANES, MAX_ROWS, PairDot, PairVec, ROWS};

/// Left panels; pair `p` of row `r` begins at element `r * row_stride + p * step`.
#[derive(Clone, Copy)]
pub(super) struct Panels<'a> {
    pub(super) data: &'a [bf16],
    pub(super) row_stride: usize,
    pub(super) step: usize,
}

/// First value of a sum.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    Zero,
    /// One number for each column.
    Bias(&'a [f32]),
    /// The sums over earlier inner indices: a pointer to the start of each row.
    Sums(&'a [*mut f32]),
}

/// Pointers to the start of each row of a result.
#[derive(Clone, Copy)]
pub(super) enum Rows<'a> {
    Exact(&'a [*mut f32]),
    Rounded(&'a [*mut bf16]),
}

/// One panel of the left matrix times a block of the right one.
pub(super) struct Strip<'a> {
    pub(super) pairs: usize,
    pub(super) left: Panels<'a>,
    /// Panels of a tile's columns, pair by pair.
    pub(super) right: &'a [PairVec],
    pub(super) cols: usize,
    pub(super) begin: Begin<'a>,
    out: Rows<'a>,
    rows: usize,
}

impl<'a> Strip<'a> {
    /// # Safety
    /// Each row of `out` is valid for writing `cols` elements and each of `begin` for reading them,
    /// and nothing else accesses them during the lifetime of the strip.
    pub(super) unsafe fn new(
        pairs: usize,
        left: Panels<'a>,
        (right, cols): (&'a [PairVec], usize),
        begin: Begin<'a>,
        out: Rows<'a>,
    ) -> Self {
        assert!(right.len() >= cols.div_ceil(COLS) * 2 * pairs, "right block is short");
        let rows = match out {
            Rows::Exact(out) => out.len(),
            Rows::Rounded(out) => out.len(),
        };
        assert!(rows <= MAX_ROWS, "a strip is one tile high");
        match begin {
            Begin::Zero => {}
            Begin::Bias(bias) => assert!(bias.len() >= cols, "bias is too short"),
            Begin::Sums(sums) => assert!(sums.len() >= rows, "rows of sums are missing"),
        }
        Self { pairs, left, right, cols, begin, out, rows }
    }

    /// Computes the strip by whole matrices, from panels of [`super::PanelShape::MATRICES`].
    #[inline(always)]
    pub(super) fn matrices<M: TileMul, D: PairDot>(&self, tile_mul: M, dot: D) {
        let Panels { data, row_stride, step } = self.left;
        let held = (amx::ROWS - 1) * row_stride + 2 * self.pairs;
        assert!(
            step == 2 && self.pairs.is_multiple_of(amx::UNIT) && data.len() >= held,
            "left panel is short"
        );
        let mut sums = Sums([[0.0; COLS]; amx::ROWS]);
        for first in (0..self.cols).step_by(COLS) {
            let right = &self.right[first / COLS * 2 * self.pairs..][..2 * self.pairs];
            // SAFETY: `held` elements are there.
            unsafe {
                tile_mul.multiply(data.as_ptr().cast(), row_stride, right.as_chunks::<2>().0, &mut sums);
            }
            for (r, sums) in sums.0.iter().enumerate().take(self.rows) {
                let (low, high) = sums.split_at(LANES);
                // SAFETY: both halves have so many numbers.
                let sums = unsafe { [dot.read(low.as_ptr(), LANES), dot.read(high.as_ptr(), LANES)] };
                self.finish(dot, sums, r, first);
            }
        }
    }

    /// Computes the strip tile by tile.
    #[inline(always)]
    pub(super) fn tiles<D: PairDot>(&self, dot: D) {
        assert!(self.rows <= ROWS, "a strip is one tile high");
        match self.rows {
            0..=4 => self.sweep::<D, 4>(dot),
            5..=8 => self.sweep::<D, 8>(dot),
            _ => self.sweep::<D, ROWS>(dot),
        }
    }

    #[inline(always)]
    fn sweep<D: PairDot, const R: usize>(&self, dot: D) {
        let Panels { data, row_stride, step } = self.left;
        // Checked once: the last element that the loop below reads.
        let left = &data[..(R - 1) * row_stride + (self.pairs.max(1) - 1) * step + 2];
        for first in (0..self.cols).step_by(COLS) {
            let right = &self.right[first / COLS * 2 * self.pairs..][..2 * self.pairs];
            let mut sums = [[dot.zero(); 2]; R];
            for (p, pair) in right.as_chunks::<2>().0.iter().enumerate() {
                for (r, sums) in sums.iter_mut().enumerate() {
                    // SAFETY: `left` ends after the last row's last pair.
                    let x = unsafe {
                        left.as_ptr().add(p * step + r * row_stride).cast::<u32>().read_unaligned()
                    };
                    sums[0] = dot.add(sums[0], x, &pair[0]);
                    sums[1] = dot.add(sums[1], x, &pair[1]);
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                if r < self.rows {
                    self.finish(dot, *sums, r, first);
                }
            }
        }
    }

    /// Writes row `r` of the tile whose first column is `first`.
    #[inline(always)]
    fn finish<D: PairDot>(&self, dot: D, mut sums: [D::Sums; 2], r: usize, first: usize) {
        let cols = COLS.min(self.cols - first);
        let before = match self.begin {
            Begin::Zero => None,
            Begin::Bias(bias) => Some(bias[first..][..cols].as_ptr()),
            Begin::Sums(rows) => Some(rows[r].wrapping_add(first).cast_const()),
        };
        // Columns of both halves of the tile.
        let counts = [cols.min(LANES), cols.saturating_sub(LANES)];
        for (half, (sum, count)) in sums.iter_mut().zip(counts).enumerate() {
            if let Some(before) = before {
                // SAFETY: `new` checked the length of a bias; its caller promised that sums can be
                // read.
                *sum = dot.plus(*sum, unsafe { dot.read(before.wrapping_add(half * LANES), count) });
            }
            let column = first + half * LANES;
            // SAFETY, of both: the promise to `new`; these columns are among `self.cols`.
            match self.out {
                Rows::Exact(out) => unsafe { dot.write(*sum, out[r].wrapping_add(column), count) },
                Rows::Rounded(out) => unsafe { dot.round(*sum, out[r].wrapping_add(column), count) },
            }
        }
    }
}
