//! Division of the result of a product into tasks.

use std::ops::Range;

use super::Shape;
use super::tile::TileShape;

/// Most columns of a task.
pub(super) const BLOCK_COLS: usize = 384;
/// Tasks per thread of a product that is large enough: tasks that start late then do not delay the
/// end.
const TASKS_PER_THREAD: usize = 4;
/// Least multiply-accumulates of a task.
pub(super) const TASK_WORK: usize = 1 << 20;

/// Rows and columns of a result, and the inner indices that are summed up for them.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) rows: Range<usize>,
    pub(super) cols: Range<usize>,
    pub(super) ks: Range<usize>,
}

/// Number of tasks that pays off for a product.
pub(super) fn task_count((m, n, k): Shape) -> usize {
    (m * n * k / TASK_WORK).clamp(1, TASKS_PER_THREAD * rayon::current_num_threads())
}

/// Division of an `m` x `n` result into blocks of equal size, one for each task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partition {
    m: usize,
    n: usize,
    /// Rows and columns of a block.
    rows: usize,
    cols: usize,
}

impl Partition {
    /// About `tasks` blocks of at most `max_rows` rows.
    pub(super) fn new((m, n): (usize, usize), tasks: usize, tile: TileShape, max_rows: usize) -> Self {
        let even = |size: usize, most: usize, unit: usize| {
            let parts = size.div_ceil(most).max(1);
            size.div_ceil(parts).next_multiple_of(unit)
        };
        let area = m * n / tasks;
        let narrow = |cols: usize| even(n, cols.clamp(4 * tile.cols, BLOCK_COLS), tile.cols);
        // Packing an element of the right factor costs several times as much as one of the left
        // factor, so blocks are taller than wide: each packed element of the right factor then
        // serves more rows.
        let cols = narrow((area / 4).isqrt());
        let rows = even(m, (area / cols).clamp(4 * tile.rows, max_rows), tile.rows);
        Self { m, n, rows, cols: if rows < m { cols } else { narrow(area / m.max(1)) } }
    }

    /// Number of blocks.
    pub(super) fn len(&self) -> usize {
        self.m.div_ceil(self.rows) * self.n.div_ceil(self.cols)
    }

    /// Block `i`, summed over the inner indices `ks`.
    pub(super) fn block(&self, i: usize, ks: Range<usize>) -> Block {
        let across = self.n.div_ceil(self.cols);
        let (row, col) = (i / across * self.rows, i % across * self.cols);
        Block { rows: row..self.m.min(row + self.rows), cols: col..self.n.min(col + self.cols), ks }
    }
}
