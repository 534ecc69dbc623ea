//! Histograms of oriented gradients (Dalal and Triggs, 2005) in the form that MaskFeat predicts
//! (Wei et al., 2022).
//!
//! Taken from the paper and its authors' code: gradients of each channel on its own by the 3x3
//! Sobel filters over an image whose border is reflected; orientations without sign in 9 bins over
//! half a turn, each pixel counted wholly in the bin it falls in, by the length of its gradient;
//! cells of 8x8 pixels; a Gaussian of 16x16 pixels (standard deviation 8) that weighs the pixels of
//! each 16x16 patch, its middle the most; the histogram of each cell and channel divided by its
//! Euclidean length. The authors normalize single cells, not the overlapping blocks of 2x2 cells
//! that Dalal and Triggs use: the 2x2 cells of a patch of 16x16 pixels are concatenated to that
//! patch's 3 * 9 * 4 = 108 numbers.
//!
//! Arithmetic is in double precision and in the same order on the CPU and on a GPU, so that a pixel
//! falls in the same bin on both.

use candle_core::{DType, Device, Tensor};
use rayon::prelude::*;

#[cfg(feature = "cuda")]
use crate::ops::cuda;
use crate::ops::{contiguous, on_gpu};
use crate::{Error, Result};

/// Smallest length that histograms are divided by, so that a flat cell stays zero (as in PyTorch's
/// `normalize`).
const EPS: f64 = 1e-12;

/// Settings of a histogram of oriented gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hog {
    /// Orientations over half a turn.
    pub bins: usize,
    /// Edge of a cell, in pixels.
    pub cell: usize,
    /// Edge of the Gaussian window that weighs pixels, in pixels; 0 weighs all alike.
    pub window: usize,
}

impl Default for Hog {
    /// MaskFeat's: 9 bins, cells of 8x8, a window of 16x16.
    fn default() -> Self {
        Self { bins: 9, cell: 8, window: 16 }
    }
}

impl Hog {
    /// Normalized histograms of every cell of channels-last images.
    ///
    /// # Shapes
    /// `images`: `[N, H, W, C]`; value: `[N, H / cell, W / cell, C * bins]`, the bins of a channel
    /// together, in the type of `images`, or `f32` on a GPU.
    ///
    /// # Errors
    /// When a number is 0, or cells or the window do not tile the images.
    pub fn cells(&self, images: &Tensor) -> Result<Tensor> {
        let &[n, h, w, c] = images.dims() else {
            return Err(Error::shape("hog", "images [N, H, W, C]", images.dims()));
        };
        self.check(images.dims())?;
        on_gpu!(images, cuda::hog_cells(images, self, &self.weights(), &self.limits()));
        let values = images.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
        let (weights, limits) = (self.weights(), self.limits());
        let mut out = vec![0.0; n * (h / self.cell) * (w / self.cell) * c * self.bins];
        let per_image = out.len() / n.max(1);
        out.par_chunks_mut(per_image.max(1))
            .zip(values.par_chunks((h * w * c).max(1)))
            .for_each(|(out, image)| self.image(image, [h, w, c], (&weights, &limits), out));
        let shape = [n, h / self.cell, w / self.cell, c * self.bins];
        Ok(Tensor::from_vec(out, &shape, &Device::Cpu)?.to_dtype(images.dtype())?)
    }

    /// The histograms of every patch, as a target: for each patch channel after channel, bin after
    /// bin, cell after cell in rows (MaskFeat's order).
    ///
    /// # Shapes
    /// `images`: `[N, H, W, C]`; value: `[N, L, C * bins * (patch / cell)^2]`.
    ///
    /// # Errors
    /// Those of [`Self::cells`]; when the cells do not tile a patch, or the patches do not tile the
    /// images.
    pub fn patches(&self, images: &Tensor, patch: usize) -> Result<Tensor> {
        let width = self.width(patch, images.dims().last().copied().unwrap_or(0));
        let cells = self.cells(images)?;
        let [n, rows, cols, features] = [0, 1, 2, 3].map(|i| cells.dims()[i]);
        let side = patch / self.cell;
        if side == 0 || !patch.is_multiple_of(self.cell) || rows % side + cols % side != 0 {
            let expected =
                format!("patches of {patch} that tile the image and hold whole cells of {}", self.cell);
            return Err(Error::shape("hog", expected, images.dims()));
        }
        let tiled = cells.reshape(vec![n, rows / side, side, cols / side, side, features])?;
        let patches = contiguous(&tiled.permute(vec![0, 1, 3, 5, 2, 4])?)?;
        Ok(patches.reshape((n, rows / side * (cols / side), width))?)
    }

    /// Numbers for one patch of an image with so many channels.
    pub fn width(&self, patch: usize, channels: usize) -> usize {
        channels * self.bins * (patch / self.cell.max(1)).pow(2)
    }

    fn check(&self, dims: &[usize]) -> Result<()> {
        let (h, w) = (dims[1], dims[2]);
        if self.bins == 0 || self.cell == 0 {
            return Err(Error::shape("hog", "at least one bin and cells of at least one pixel", dims));
        }
        let window = self.window.max(1);
        if h % self.cell + w % self.cell + h % window + w % window != 0 || h < 2 || w < 2 {
            let expected = format!("edges of 2 and more that are multiples of {} and {window}", self.cell);
            return Err(Error::shape("hog", expected, dims));
        }
        Ok(())
    }

    /// Weight of each pixel of the window; they sum to 1.
    fn weights(&self) -> Vec<f64> {
        if self.window == 0 {
            return vec![1.0];
        }
        let (middle, deviation) = ((self.window - 1) as f64 / 2.0, (self.window / 2).max(1) as f64);
        let line = (0..self.window).map(|i| (-0.5 * ((i as f64 - middle) / deviation).powi(2)).exp());
        let line: Vec<f64> = line.collect();
        let square = line.iter().flat_map(|a| line.iter().map(move |b| a * b));
        let sum: f64 = square.clone().sum();
        square.map(|weight| weight / sum).collect()
    }

    fn image(
        &self,
        image: &[f64],
        [h, w, c]: [usize; 3],
        (weights, limits): (&[f64], &[[f64; 2]]),
        out: &mut [f64],
    ) {
        let window = self.window.max(1);
        let at = |y: usize, x: usize, channel: usize| image[(y * w + x) * c + channel];
        for y in 0..h {
            let (above, below) = neighbours(y, h);
            for x in 0..w {
                let (left, right) = neighbours(x, w);
                let weight = weights[y % window * window + x % window];
                let cell = (y / self.cell * (w / self.cell) + x / self.cell) * c;
                for channel in 0..c {
                    let row = |y: usize| at(y, left, channel) - at(y, right, channel);
                    let column = |x: usize| at(above, x, channel) - at(below, x, channel);
                    let (gx, gy) = (
                        row(above) + 2.0 * row(y) + row(below),
                        column(left) + 2.0 * column(x) + column(right),
                    );
                    let length = (gx * gx + gy * gy).sqrt();
                    out[(cell + channel) * self.bins + bin(gx, gy, limits)] += weight * length;
                }
            }
        }
        for histogram in out.chunks_exact_mut(self.bins) {
            let length = histogram.iter().map(|v| v * v).sum::<f64>().sqrt().max(EPS);
            histogram.iter_mut().for_each(|v| *v /= length);
        }
    }

    /// Sine and cosine of the angles at which one bin ends and the next begins, but for the first
    /// bin's own.
    fn limits(&self) -> Vec<[f64; 2]> {
        let angle = |k: usize| k as f64 * std::f64::consts::PI / self.bins as f64;
        (1..self.bins).map(|k| angle(k).sin_cos().into()).collect()
    }
}

/// Returns the bin of a gradient by its angle from the vertical, modulo half a turn: the number of
/// limits at or before it. Comparisons replace an arc tangent.
fn bin(gx: f64, gy: f64, limits: &[[f64; 2]]) -> usize {
    let (gx, gy) = if gx < 0.0 { (-gx, -gy) } else { (gx, gy) };
    // On the vertical itself the angle is nothing, or half a turn, which is the same.
    let turned = gx > 0.0;
    limits.iter().filter(|[sin, cos]| turned && gx * cos >= gy * sin).count()
}

/// The pixels before and after one along an edge, reflected at the border.
fn neighbours(at: usize, length: usize) -> (usize, usize) {
    (at.checked_sub(1).unwrap_or(1), if at + 1 < length { at + 1 } else { length - 2 })
}
