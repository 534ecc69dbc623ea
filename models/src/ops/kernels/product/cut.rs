//! How a product is cut into tasks.

use std::ops::Range;

use super::Shape;
use super::tile::TileShape;

/// Most columns of a task.
pub(super) const BLOCK_COLS: usize = 384;
/// Tasks for each thread where a product is large enough: those that begin late then do not hold up the end.
const TASKS_PER_THREAD: usize = 4;
/// Least multiply-accumulates of a task.
pub(super) const TASK_WORK: usize = 1 << 20;

/// How many tasks a product is worth.
pub(super) fn tasks((m, n, k): Shape) -> usize {
    (m * n * k / TASK_WORK).clamp(1, TASKS_PER_THREAD * rayon::current_num_threads())
}

/// How a result is cut into tasks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    rows: usize,
    cols: usize,
}

impl Cut {
    /// About so many tasks, each of at most `most_rows`.
    pub(super) fn into((m, n): (usize, usize), tasks: usize, tile: TileShape, most_rows: usize) -> Self {
        let even = |size: usize, most: usize, unit: usize| {
            let parts = size.div_ceil(most).max(1);
            size.div_ceil(parts).next_multiple_of(unit)
        };
        let area = m * n / tasks;
        let narrow = |cols: usize| even(n, cols.clamp(4 * tile.cols, BLOCK_COLS), tile.cols);
        // Packing an element of the right factor costs several times one of the left: each serves so many rows more.
        let cols = narrow((area / 4).isqrt());
        let rows = even(m, (area / cols).clamp(4 * tile.rows, most_rows), tile.rows);
        Self { rows, cols: if rows < m { cols } else { narrow(area / m.max(1)) } }
    }

    pub(super) fn tasks(&self, (m, n): (usize, usize)) -> usize {
        m.div_ceil(self.rows) * n.div_ceil(self.cols)
    }

    /// Rows and columns of task `i`.
    pub(super) fn task(&self, (m, n): (usize, usize), i: usize) -> (Range<usize>, Range<usize>) {
        let blocks = n.div_ceil(self.cols);
        let (row, col) = (i / blocks * self.rows, i % blocks * self.cols);
        (row..m.min(row + self.rows), col..n.min(col + self.cols))
    }
}
