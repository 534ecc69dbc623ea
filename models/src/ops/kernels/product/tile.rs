//! The innermost loop of a matrix product: a tile of the result that stays in vector registers.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::ops::kernels::Compute;

/// Longest run of inner indices that a panel holds; also the distance of its rows.
pub(super) const DEPTH: usize = 384;

/// Inner indices of one turn of the innermost loop. Where another program shares the core, the number
/// of instructions limits a product, so that none are wasted on counting and addresses.
const UNROLLED: usize = 4;

/// Rows and columns of a full tile on this machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileShape {
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl TileShape {
    pub(super) fn native<T: Compute>() -> Self {
        struct Ask<T>(std::marker::PhantomData<T>);
        impl<T: Compute> WithSimd for Ask<T> {
            type Output = TileShape;

            #[inline(always)]
            fn with_simd<S: Simd>(self, _: S) -> TileShape {
                TileShape { rows: if has_32_registers::<S>() { 12 } else { 6 }, cols: 2 * lanes::<T, S>() }
            }
        }
        pulp::Arch::new().dispatch(Ask::<T>(std::marker::PhantomData))
    }
}

/// Tells if there are registers for 24 sums rather than 12.
const fn has_32_registers<S: Simd>() -> bool {
    S::REGISTER_COUNT >= 32
}

const fn lanes<T: Compute, S: Simd>() -> usize {
    size_of::<T::Vector<S>>() / size_of::<T>()
}

/// Treatment of a finished sum.
#[derive(Clone, Copy)]
pub(super) enum Epilogue<'a, T> {
    /// Stores it, with the bias of its column added.
    Store(Option<&'a [T]>),
    /// Stores it with the element of another matrix added, of which these are the rows; all are
    /// valid for reading as many elements as the strip has columns.
    StoreWith(&'a [*const T]),
    /// Adds it to the element that is already stored.
    Accumulate,
}

/// One panel of the left matrix times a block of the right one.
pub(super) struct Strip<'a, T> {
    /// Inner indices, at most [`DEPTH`].
    pub(super) depth: usize,
    /// The left panel: rows `row_stride` apart, or inner index by inner index, a full tile's rows
    /// apart.
    pub(super) left: &'a [T],
    pub(super) by_rows: bool,
    /// Distance of two rows of a left panel that is stored by rows.
    pub(super) row_stride: usize,
    /// The right block: panels of a full tile's columns, each inner index by inner index.
    pub(super) right: &'a [T],
    /// Columns of the block.
    pub(super) cols: usize,
    /// Pointer to the start of each row of the strip; all are valid for writing `cols` elements,
    /// and for reading with [`Epilogue::Accumulate`].
    pub(super) out: &'a [*mut T],
    pub(super) epilogue: Epilogue<'a, T>,
}

impl<T: Compute> Strip<'_, T> {
    /// Writes the strip of the result.
    ///
    /// # Safety
    /// `out` and `epilogue` are as their documentation says, and nothing else touches those elements
    /// meanwhile.
    pub(super) unsafe fn run(self) {
        let tile = TileShape::native::<T>();
        let rows = self.out.len();
        assert!(rows > 0 && rows <= tile.rows && self.depth <= DEPTH, "a strip is one tile high");
        let held = if self.by_rows {
            (tile.rows - 1) * self.row_stride + self.depth
        } else {
            self.depth * tile.rows
        };
        assert!(self.left.len() >= held, "left panel is too short");
        assert!(
            self.right.len() >= self.cols.next_multiple_of(tile.cols) * self.depth,
            "right block is short"
        );
        match self.epilogue {
            Epilogue::Store(Some(bias)) => assert!(bias.len() >= self.cols, "bias is too short"),
            Epilogue::StoreWith(terms) => assert!(terms.len() >= rows, "a sum has too few terms"),
            Epilogue::Store(None) | Epilogue::Accumulate => {}
        }
        pulp::Arch::new().dispatch(self);
    }

    #[inline(always)]
    fn tiles<S: Simd, const R: usize>(&self, simd: S) {
        if self.by_rows { self.sweep::<S, R, true>(simd) } else { self.sweep::<S, R, false>(simd) }
    }

    #[inline(always)]
    fn sweep<S: Simd, const R: usize, const BY_ROWS: bool>(&self, simd: S) {
        let lanes = lanes::<T, S>();
        let width = 2 * lanes;
        for first in (0..self.cols).step_by(width) {
            let right = self.right[first * self.depth..].as_ptr();
            let cols = width.min(self.cols - first);
            // SAFETY: `run` checked that both panels hold `depth` inner indices for every full
            // tile.
            unsafe {
                if cols > lanes {
                    let sums = self.sums::<S, R, 2, BY_ROWS>(simd, right);
                    self.write(simd, sums, first, cols);
                } else {
                    let sums = self.sums::<S, R, 1, BY_ROWS>(simd, right);
                    self.write(simd, sums, first, cols);
                }
            }
        }
    }

    /// # Safety
    /// `left` holds `depth` inner indices of `R` rows, and `right` those of a full tile's columns.
    #[inline(always)]
    unsafe fn sums<S: Simd, const R: usize, const V: usize, const BY_ROWS: bool>(
        &self,
        simd: S,
        right: *const T,
    ) -> [[T::Vector<S>; V]; R] {
        let lanes = lanes::<T, S>();
        let (step, row_stride) =
            if BY_ROWS { (1, self.row_stride) } else { (if has_32_registers::<S>() { 12 } else { 6 }, 1) };
        let mut sums = [[T::ZERO.splat(simd); V]; R];
        let (mut a, mut b) = (self.left.as_ptr(), right);
        for _ in 0..self.depth / UNROLLED {
            for i in 0..UNROLLED {
                let (a, b) = (a.wrapping_add(i * step), b.wrapping_add(i * 2 * lanes));
                // SAFETY: the caller's promise.
                unsafe { add(simd, a, row_stride, b, &mut sums) };
            }
            a = a.wrapping_add(UNROLLED * step);
            b = b.wrapping_add(UNROLLED * 2 * lanes);
        }
        for _ in 0..self.depth % UNROLLED {
            // SAFETY: the caller's promise.
            unsafe { add(simd, a, row_stride, b, &mut sums) };
            a = a.wrapping_add(step);
            b = b.wrapping_add(2 * lanes);
        }
        sums
    }

    /// # Safety
    /// Those of [`Strip::run`]; `cols` columns from `first` on are in the strip and in the tile.
    #[inline(always)]
    unsafe fn write<S: Simd, const R: usize, const V: usize>(
        &self,
        simd: S,
        sums: [[T::Vector<S>; V]; R],
        first: usize,
        cols: usize,
    ) {
        let lanes = lanes::<T, S>();
        let whole = cols == V * lanes;
        for (r, sums) in sums.iter().enumerate() {
            if r >= self.out.len() {
                continue;
            }
            // SAFETY: the row is valid for `self.cols` elements; a whole tile's columns are among
            // them, and of others only `cols` are touched. The bias has an element for each column.
            unsafe {
                let out = self.out[r].add(first);
                if whole {
                    for (v, &sum) in sums.iter().enumerate() {
                        let at = out.add(v * lanes).cast::<T::Vector<S>>();
                        let sum = match self.epilogue {
                            Epilogue::Store(None) => sum,
                            Epilogue::Store(Some(bias)) => {
                                let bias = bias.as_ptr().add(first + v * lanes).cast::<T::Vector<S>>();
                                T::add_lanes(simd, sum, bias.read_unaligned())
                            }
                            Epilogue::StoreWith(terms) => {
                                let term = terms[r].add(first + v * lanes).cast::<T::Vector<S>>();
                                T::add_lanes(simd, sum, term.read_unaligned())
                            }
                            Epilogue::Accumulate => T::add_lanes(simd, sum, at.read_unaligned()),
                        };
                        at.write_unaligned(sum);
                    }
                } else {
                    // A copy, so that the sums themselves need no address and stay in registers.
                    let held = *sums;
                    let sums = std::slice::from_raw_parts(held.as_ptr().cast::<T>(), cols);
                    for (c, &sum) in sums.iter().enumerate() {
                        *out.add(c) = match self.epilogue {
                            Epilogue::Store(None) => sum,
                            Epilogue::Store(Some(bias)) => sum + bias[first + c],
                            Epilogue::StoreWith(terms) => sum + *terms[r].add(first + c),
                            Epilogue::Accumulate => *out.add(c) + sum,
                        };
                    }
                }
            }
        }
    }
}

impl<T: Compute> WithSimd for Strip<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // The smallest tile that holds all rows, so that few sums are thrown away.
        match (has_32_registers::<S>(), self.out.len()) {
            (true, ..=4) => self.tiles::<S, 4>(simd),
            (true, ..=8) => self.tiles::<S, 8>(simd),
            (true, _) => self.tiles::<S, 12>(simd),
            (false, ..=2) => self.tiles::<S, 2>(simd),
            (false, ..=4) => self.tiles::<S, 4>(simd),
            (false, _) => self.tiles::<S, 6>(simd),
        }
    }
}

/// Adds the products of one inner index to the sums of a tile.
///
/// # Safety
/// `a` is valid for reading `R` elements `row_stride` apart, and `b` for `V` vectors.
#[inline(always)]
unsafe fn add<T: Compute, S: Simd, const R: usize, const V: usize>(
    simd: S,
    a: *const T,
    row_stride: usize,
    b: *const T,
    sums: &mut [[T::Vector<S>; V]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut row = [T::ZERO.splat(simd); V];
        for (v, x) in row.iter_mut().enumerate() {
            *x = b.add(v * lanes::<T, S>()).cast::<T::Vector<S>>().read_unaligned();
        }
        for (r, sums) in sums.iter_mut().enumerate() {
            let x = (*a.add(r * row_stride)).splat(simd);
            for (sum, &y) in sums.iter_mut().zip(&row) {
                *sum = T::multiply_add(simd, x, y, *sum);
            }
        }
    }
}
