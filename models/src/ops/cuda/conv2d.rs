//! Convolution: by cuDNN if there is one that can, else a product over the unfolded windows of
//! some images at a time.

use candle_core::{DType, Tensor};

use super::converted;
use super::gemm::{Matrix, product};
use super::launch::Kernel;
use super::linear::begin;
use super::memory::{address, contiguous, empty, wide};
use super::rows::column_sums;
use crate::Result;
use crate::ops::Traced;
use crate::ops::kernels::conv::Geometry;

const OP: &str = "conv2d";
/// Memory that unfolded windows take at most, beyond those of one image.
const MOST_BYTES: usize = 256 << 20;

/// Convolution of one group; shapes are right.
pub(in crate::ops) fn conv2d(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, g: &Geometry) -> Result<Traced> {
    let (own, bias_type) = (w.dtype(), bias.map(Tensor::dtype));
    let x = contiguous(x)?;
    let conv = Conv { g: *g, packed: pack(w, x.dtype(), g)?, x };
    let value = conv.forward(bias)?;
    Ok(Traced::new(value, move |dy, needs| {
        let dy = contiguous(dy)?;
        let mut grads = vec![None, None];
        if needs[0] {
            grads[0] = Some(conv.backward_data(&dy)?);
        }
        if needs[1] {
            grads[1] = Some(converted(&conv.backward_weight(&dy)?, own)?);
        }
        if let Some(dtype) = bias_type {
            grads.push(Some(converted(&column_sums(OP, &dy, conv.g.o)?, dtype)?));
        }
        Ok(grads)
    }))
}

/// `[O, C, KH, KW]` to `[O, KH, KW, C]` in the type of the activations.
fn pack(w: &Tensor, dtype: DType, g: &Geometry) -> Result<Tensor> {
    let w = wide(w)?;
    let packed = empty(&w, (g.o, g.kh * g.kw * g.c), dtype)?;
    let kernel = Kernel::new(OP, "pack_weight", &w, dtype)?.tensor(&packed)?.tensor(&w)?;
    kernel.int(g.c).int(g.kh * g.kw).each(w.elem_count())?;
    Ok(packed)
}

/// A convolution and what its backward pass needs.
struct Conv {
    g: Geometry,
    packed: Tensor,
    x: Tensor,
}

impl Conv {
    /// Numbers of a window.
    fn depth(&self) -> usize {
        self.g.kh * self.g.kw * self.g.c
    }

    /// Windows of an image.
    fn places(&self) -> usize {
        self.g.ho * self.g.wo
    }

    /// Tells if each window is a single pixel.
    fn is_plain(&self) -> bool {
        let g = &self.g;
        g.kh * g.kw == 1 && g.stride == 1 && g.pad == 0
    }

    /// Tells if cuDNN should compute it, if it can.
    #[cfg(feature = "cudnn")]
    fn by_cudnn(&self) -> bool {
        !self.is_plain() && super::cudnn::enabled()
    }

    fn geometry(&self) -> [usize; 10] {
        let g = &self.g;
        [g.h, g.w, g.c, g.kh, g.kw, g.stride, g.pad, g.dilation, g.ho, g.wo]
    }

    /// Runs of images whose unfolded windows fit the memory for them: first image and number.
    fn chunks(&self, bytes: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let n = self.g.n;
        let each = (MOST_BYTES / (self.places() * self.depth() * bytes).max(1)).clamp(1, n.max(1));
        (0..n).step_by(each).map(move |first| (first, each.min(n - first)))
    }

    /// The windows of some images, a row each.
    fn windows(&self, (first, count): (usize, usize)) -> Result<Tensor> {
        let g = &self.g;
        let rows = count * self.places();
        let unfolded = empty(&self.x, (rows, self.depth()), self.x.dtype())?;
        let from = address(OP, &self.x)? + (first * g.h * g.w * g.c * self.x.dtype().size_in_bytes()) as u64;
        let kernel = Kernel::new(OP, "im2col", &self.x, self.x.dtype())?.tensor(&unfolded)?.at(from);
        kernel.ints(&self.geometry()).each(unfolded.elem_count())?;
        Ok(unfolded)
    }

    /// Calls `work` with the windows of all images, some at a time: their first row, how many, and
    /// the rows.
    fn for_windows(&self, mut work: impl FnMut(usize, usize, Matrix) -> Result<()>) -> Result<()> {
        let depth = self.depth();
        if self.is_plain() {
            return work(0, self.g.n * self.places(), Matrix::of(OP, &self.x, depth)?);
        }
        for chunk in self.chunks(self.x.dtype().size_in_bytes()) {
            let windows = self.windows(chunk)?;
            work(chunk.0 * self.places(), chunk.1 * self.places(), Matrix::of(OP, &windows, depth)?)?;
        }
        Ok(())
    }

    fn forward(&self, bias: Option<&Tensor>) -> Result<Tensor> {
        let g = &self.g;
        let (y, begun) = begin(OP, &self.x, &[g.n, g.ho, g.wo, g.o], bias)?;
        #[cfg(feature = "cudnn")]
        if self.by_cudnn() && super::cudnn::forward(g, &self.x, &self.packed, &y, begun)? {
            return Ok(y);
        }
        let (to, weight) = (Matrix::of(OP, &y, g.o)?, Matrix::of(OP, &self.packed, self.depth())?.t());
        self.for_windows(|first, rows, windows| {
            product(OP, &self.x, [rows, g.o, self.depth()], windows, weight, to.skip_rows(first), begun)
        })?;
        Ok(y)
    }

    fn backward_data(&self, dy: &Tensor) -> Result<Tensor> {
        let g = &self.g;
        let dx = empty(&self.x, self.x.dims(), self.x.dtype())?;
        #[cfg(feature = "cudnn")]
        if self.by_cudnn() && super::cudnn::backward_data(g, &self.packed, dy, &dx)? {
            return Ok(dx);
        }
        let (dys, weight) = (Matrix::of(OP, dy, g.o)?, Matrix::of(OP, &self.packed, self.depth())?);
        let sizes = |rows: usize| [rows, self.depth(), g.o];
        if self.is_plain() {
            let to = Matrix::of(OP, &dx, self.depth())?;
            product(OP, &self.x, sizes(g.n * self.places()), dys, weight, to, false)?;
            return Ok(dx);
        }
        for (first, count) in self.chunks(DType::F32.size_in_bytes()) {
            let rows = count * self.places();
            // In single precision: a pixel is a sum over many of these.
            let windows = empty(&self.x, (rows, self.depth()), DType::F32)?;
            let to = Matrix::of(OP, &windows, self.depth())?;
            product(OP, &self.x, sizes(rows), dys.skip_rows(first * self.places()), weight, to, false)?;
            let pixels = g.h * g.w * g.c;
            let at = address(OP, &dx)? + (first * pixels * dx.dtype().size_in_bytes()) as u64;
            let kernel = Kernel::new(OP, "col2im", &self.x, dx.dtype())?.at(at).tensor(&windows)?;
            kernel.ints(&self.geometry()).each(count * pixels)?;
        }
        Ok(dx)
    }

    /// In `f32`, `[O, C, KH, KW]`.
    fn backward_weight(&self, dy: &Tensor) -> Result<Tensor> {
        let g = &self.g;
        #[cfg(feature = "cudnn")]
        if self.by_cudnn() {
            // In the type of the images, as PyTorch's autocast has it.
            let packed = empty(&self.x, (g.o, self.depth()), self.x.dtype())?;
            if super::cudnn::backward_weight(g, &self.x, dy, &packed)? {
                return self.unpack(&wide(&packed)?);
            }
        }
        let packed = empty(&self.x, (g.o, self.depth()), DType::F32)?;
        let (dys, to) = (Matrix::of(OP, dy, g.o)?, Matrix::of(OP, &packed, self.depth())?);
        self.for_windows(|first, rows, windows| {
            product(OP, &self.x, [g.o, self.depth(), rows], dys.skip_rows(first).t(), windows, to, first > 0)
        })?;
        self.unpack(&packed)
    }

    /// `[O, KH, KW, C]` to `[O, C, KH, KW]`, in `f32`.
    fn unpack(&self, packed: &Tensor) -> Result<Tensor> {
        let g = &self.g;
        let dw = empty(&self.x, &[g.o, g.c, g.kh, g.kw], DType::F32)?;
        let kernel = Kernel::new(OP, "unpack_weight", &self.x, DType::F32)?.tensor(&dw)?.tensor(packed)?;
        kernel.int(g.c).int(g.kh * g.kw).each(dw.elem_count())?;
        Ok(dw)
    }
}
