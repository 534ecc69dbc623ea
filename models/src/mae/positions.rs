//! Positions as sines and cosines.

use candle_core::{Device, Tensor};

use crate::{Error, Result};

/// The embedding of every place of a grid of `rows` and `cols`, row by row: the first half of the
/// channels for the column, the second for the row, each half sines and then cosines with
/// frequencies `10000^(-k / (width / 4))`.
///
/// A grid that is finer or coarser than `base` shares its extent: places are measured in those of
/// `base`, middle to middle, so that the same spot of an image has the same embedding at every
/// size. At `base` itself places are 0, 1, 2, ...
///
/// # Shapes
/// value: `[rows * cols, width]`, `f64`.
///
/// # Errors
/// When `width` is not a multiple of 4.
pub fn sincos_positions([rows, cols]: [usize; 2], base: [usize; 2], width: usize) -> Result<Tensor> {
    if width == 0 || !width.is_multiple_of(4) {
        return Err(Error::shape("sincos_positions", "a width that is a multiple of 4", &[width]));
    }
    let quarter = width / 4;
    let place = |at: usize, count: usize, base: usize| (at as f64 + 0.5) * base as f64 / count as f64 - 0.5;
    let mut values = Vec::with_capacity(rows * cols * width);
    let mut axis = |place: f64| {
        let angle = |k: usize| place / 10_000f64.powf(k as f64 / quarter as f64);
        values.extend((0..quarter).map(|k| angle(k).sin()));
        values.extend((0..quarter).map(|k| angle(k).cos()));
    };
    for row in 0..rows {
        for col in 0..cols {
            axis(place(col, cols, base[1]));
            axis(place(row, rows, base[0]));
        }
    }
    Ok(Tensor::from_vec(values, (rows * cols, width), &Device::Cpu)?)
}
