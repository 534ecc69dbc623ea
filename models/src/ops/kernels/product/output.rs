//! Memory that the tasks of a product write their blocks to.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::ops::kernels::Storage;

/// Rows of the result's memory that the rows of a product are written to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum OutputRows {
    /// All rows in order.
    Dense,
    /// Pixels of images `[n, h, w, c]`: `count` rows and columns of each image, from `first` on,
    /// `step` pixels apart.
    Grid { size: [usize; 2], count: [usize; 2], first: [usize; 2], step: usize },
}

impl OutputRows {
    /// Index of the row in memory that row `row` of the product is written to.
    fn index(&self, row: usize) -> usize {
        match *self {
            Self::Dense => row,
            Self::Grid { size: [h, w], count: [rows, cols], first, step } => {
                let (image, pixel) = (row / (rows * cols), row % (rows * cols));
                (image * h + first[0] + pixel / cols * step) * w + first[1] + pixel % cols * step
            }
        }
    }

    /// Asserts that the rows of the result do not overlap; returns how many rows the memory must
    /// hold for a product of `m` rows.
    pub(super) fn required_rows(&self, m: usize) -> usize {
        if let Self::Grid { size, count, first, step } = *self {
            for axis in 0..2 {
                let last = first[axis] + (count[axis] - 1) * step;
                assert!(step > 0 && last < size[axis], "rows of a result overlap");
            }
        }
        if m == 0 { 0 } else { self.index(m - 1) + 1 }
    }
}

/// Memory that tasks write disjoint parts of.
#[derive(Clone, Copy)]
pub(super) struct Output<O> {
    start: *mut O,
    pub(super) len: usize,
    /// Distance of two rows of the memory, in elements.
    row_stride: usize,
    pub(super) rows: OutputRows,
    /// Row and column of the product that the memory begins with.
    first: [usize; 2],
}

// SAFETY: tasks on other threads only write elements through `task::run`, each of them by one task
// alone.
unsafe impl<O: Send> Sync for Output<O> {}

impl<O> Output<O> {
    pub(super) fn new(start: *mut O, len: usize, row_stride: usize, rows: OutputRows) -> Self {
        Self { start, len, row_stride, rows, first: [0; 2] }
    }

    /// Memory for one block of the product, whose first row and column are `first`.
    pub(super) fn for_block(start: *mut O, len: usize, row_stride: usize, first: [usize; 2]) -> Self {
        Self { first, ..Self::new(start, len, row_stride, OutputRows::Dense) }
    }

    /// The same memory, if the element type is known by another name.
    pub(super) fn cast<P: Storage>(&self) -> Output<P> {
        assert!(size_of::<P>() == size_of::<O>(), "a result changes its type");
        Output {
            start: self.start.cast(),
            len: self.len,
            row_stride: self.row_stride,
            rows: self.rows,
            first: self.first,
        }
    }

    /// The memory from element `from` on.
    pub(super) fn rest(&self, from: usize) -> Self {
        assert!(from <= self.len, "part of a result is outside its memory");
        Self { start: self.start.wrapping_add(from), len: self.len - from, ..*self }
    }

    /// Pointer to the first of columns `cols` of row `row` of the product.
    pub(super) fn row(&self, row: usize, cols: &Range<usize>) -> *mut O {
        let at = self.rows.index(row - self.first[0]) * self.row_stride + cols.start - self.first[1];
        assert!(at + cols.len() <= self.len, "matrix product writes out of bounds");
        self.start.wrapping_add(at)
    }
}
