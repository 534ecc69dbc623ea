//! Sums over rows, for each column.

use candle_core::{DType, Tensor};

use super::launch::{Grid, Kernel};
use super::memory::empty;
use crate::Result;

/// Columns that a block takes: `STRIP` of the kernels.
const STRIP: usize = 64;
/// Rows that a part has at least, so that adding up parts takes little of the time.
const LEAST_ROWS: usize = 256;
/// Blocks that there should be at most: enough of them that a GPU of this time has several rounds,
/// and the last one matters little.
const BLOCKS: usize = 2048;
/// Columns of a block that adds up parts.
const PART_COLUMNS: usize = 32;
/// Threads of a block.
const THREADS: u32 = 256;

/// Division of rows into parts.
pub(super) struct Parts {
    pub(super) count: usize,
    pub(super) grid: Grid,
}

/// Divides the rows of a `rows` x `c` matrix.
pub(super) fn parts(rows: usize, c: usize) -> Parts {
    divide(rows, c.div_ceil(STRIP), LEAST_ROWS)
}

/// Divides rows between blocks of so many strips, in parts of at least `least` rows.
pub(super) fn divide(rows: usize, strips: usize, least: usize) -> Parts {
    let count = (BLOCKS / strips).clamp(1, rows.div_ceil(least).max(1));
    Parts { count, grid: Grid { blocks: [strips, count, 1], threads: THREADS, shared: 0 } }
}

/// Blocks that add up the parts of `c` columns.
pub(super) fn joining(c: usize) -> Grid {
    Grid { blocks: [c.div_ceil(PART_COLUMNS), 1, 1], threads: THREADS, shared: 0 }
}

/// Adds up `count` parts of `c` numbers.
pub(super) fn sum_parts(op: &'static str, parts: &Tensor, count: usize, c: usize) -> Result<Tensor> {
    let sums = empty(parts, c, DType::F32)?;
    let kernel = Kernel::new(op, "sum_parts", parts, DType::F32)?.tensor(&sums)?.tensor(parts)?;
    kernel.int(count).int(c).run(joining(c))?;
    Ok(sums)
}

/// Adds up the parts of two times `c` numbers, `count` of each.
pub(super) fn sum_two_parts(
    op: &'static str,
    [first, second]: [&Tensor; 2],
    count: usize,
    c: usize,
) -> Result<[Tensor; 2]> {
    let sums = [empty(first, c, DType::F32)?, empty(first, c, DType::F32)?];
    let kernel = Kernel::new(op, "sum_two_parts", first, DType::F32)?.tensor(&sums[0])?.tensor(&sums[1])?;
    let mut grid = joining(c);
    grid.blocks[1] = 2;
    kernel.tensor(first)?.tensor(second)?.int(count).int(c).run(grid)?;
    Ok(sums)
}

/// Sums of the columns of `x`, seen as rows of `c`, in `f32`.
pub(super) fn column_sums(op: &'static str, x: &Tensor, c: usize) -> Result<Tensor> {
    let rows = x.elem_count() / c;
    let cut = parts(rows, c);
    let sums = empty(x, (cut.count, c), DType::F32)?;
    let kernel = Kernel::new(op, "column_sums", x, x.dtype())?.tensor(&sums)?.tensor(x)?;
    kernel.int(rows).int(c).run(cut.grid)?;
    sum_parts(op, &sums, cut.count, c)
}
