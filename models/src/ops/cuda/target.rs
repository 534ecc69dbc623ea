//! What masked autoencoders have to predict.

use candle_core::{DType, Tensor};

use super::launch::{Grid, Kernel};
use super::memory::{empty, wide};
use crate::hog::Hog;
use crate::{Error, Result};

/// Shared memory that every GPU gives a block, in bytes.
const MOST_SHARED: usize = 96 << 10;

/// Each row less its mean, over its deviation, as `f32`.
pub(crate) fn standardise_rows(x: &Tensor) -> Result<Tensor> {
    const OP: &str = "standardise_rows";
    let x = wide(x)?;
    let width = x.dims().last().copied().unwrap_or(1);
    let y = empty(&x, x.dims(), DType::F32)?;
    let kernel = Kernel::new(OP, "standardise_rows", &x, DType::F32)?.tensor(&y)?.tensor(&x)?.int(width);
    kernel.run(Grid::rows(x.elem_count() / width.max(1), width))?;
    Ok(y)
}

/// Histograms of all cells of pictures `[N, H, W, C]`, whose shape is right, as `f32`; with the weights of the window and sine and
/// cosine of the limits between bins.
pub(crate) fn hog_cells(
    pictures: &Tensor,
    hog: &Hog,
    weights: &[f64],
    limits: &[[f64; 2]],
) -> Result<Tensor> {
    const OP: &str = "hog";
    let (n, h, w, c) = pictures.dims4()?;
    let (rows, cols, area) = (h / hog.cell, w / hog.cell, hog.cell * hog.cell);
    // Of each pixel the length and the bin, and the histogram.
    let shared = area * (size_of::<f64>() + size_of::<i32>()) + hog.bins * size_of::<f64>();
    if shared > MOST_SHARED {
        let what = format!("a cell of {0}x{0} pixels with {1} bins on a GPU", hog.cell, hog.bins);
        return Err(Error::Unsupported { op: OP, what, supported: "smaller ones, or the CPU" });
    }
    let pictures = wide(pictures)?;
    // Double precision is passed as the bits that it lies in memory as.
    let table = weights.iter().chain(limits.as_flattened()).map(|x| x.to_bits() as i64);
    let table = Tensor::from_iter(table, pictures.device())?;
    let y = empty(&pictures, (n, rows, cols, c * hog.bins), DType::F32)?;
    let kernel = Kernel::new(OP, "hog_cells", &pictures, DType::F32)?.tensor(&y)?.tensor(&pictures)?;
    let kernel = kernel.tensor(&table)?.ints(&[h, w, c, hog.cell, hog.window.max(1), hog.bins]);
    let threads = area.div_ceil(32).clamp(1, 8) as u32 * 32;
    kernel.run(Grid { blocks: [n * rows * cols, c, 1], threads, shared })?;
    Ok(y)
}
