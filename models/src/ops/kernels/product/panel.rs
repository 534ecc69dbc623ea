//! Products whose right factor is packed already, panel by panel.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use super::tile::{DEPTH, Epilogue, Strip, TileShape};
use crate::ops::kernels::Compute;

/// Most inner indices of a packed panel.
pub(crate) const PANEL_DEPTH: usize = DEPTH;

/// Columns of a packed panel.
pub(crate) fn panel_columns<T: Compute>() -> usize {
    TileShape::native::<T>().cols
}

/// Rows that are computed together: the memory of a left factor goes on to a multiple of them.
pub(crate) fn panel_rows<T: Compute>() -> usize {
    TileShape::native::<T>().rows
}

/// Writes `left * right`, or adds it to what is there, for rows of `left` and of the result at these
/// distances, on the calling thread. `shape` are rows, columns and inner indices; `right` is stored
/// inner index by inner index, [`panel_columns`] apart.
pub(crate) fn panel_product<T: Compute>(
    [rows, cols, depth]: [usize; 3],
    left: (&[T], usize),
    right: &[T],
    out: (&mut [T], usize),
    add: bool,
) {
    let tile = TileShape::native::<T>();
    if rows == 0 {
        return;
    }
    assert!(0 < cols && cols <= tile.cols && depth <= DEPTH, "a panel has another size");
    assert!(
        left.0.len() >= (rows.next_multiple_of(tile.rows) - 1) * left.1 + depth,
        "left factor is too short"
    );
    assert!(right.len() >= depth * tile.cols, "right panel is too short");
    assert!(cols <= out.1 && out.0.len() >= (rows - 1) * out.1 + cols, "matrix product writes out of bounds");
    let epilogue = if add { Epilogue::Accumulate } else { Epilogue::Store(None) };
    pulp::Arch::new().dispatch(Panel { rows, cols, depth, left, right, out, epilogue, tile });
}

/// The strips of one panel, whose sizes were checked.
struct Panel<'a, T> {
    rows: usize,
    cols: usize,
    depth: usize,
    left: (&'a [T], usize),
    right: &'a [T],
    out: (&'a mut [T], usize),
    epilogue: Epilogue<'a, T>,
    tile: TileShape,
}

impl<T: Compute> WithSimd for Panel<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (out, out_stride) = (self.out.0.as_mut_ptr(), self.out.1);
        let mut starts = [std::ptr::null_mut(); 12];
        for top in (0..self.rows).step_by(self.tile.rows) {
            let rows = self.tile.rows.min(self.rows - top);
            for (i, start) in starts.iter_mut().enumerate().take(rows) {
                *start = out.wrapping_add((top + i) * out_stride);
            }
            let strip = Strip {
                depth: self.depth,
                left: &self.left.0[top * self.left.1..],
                by_rows: true,
                row_stride: self.left.1,
                right: self.right,
                cols: self.cols,
                out: &starts[..rows],
                epilogue: self.epilogue,
            };
            // The factors hold what a strip reads, and `out` what it writes (`panel_product`).
            strip.with_simd(simd);
        }
    }
}
