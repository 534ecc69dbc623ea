//! Pooling.

use candle_core::Tensor;

use super::kernels::pool::{self, Window};
use super::view::{View, tensor};
use super::{Traced, by_storage, dims, on_gpu};
use crate::{Error, Result};

/// Max-pool of channels-last images; padding never wins. Ties go to the first pixel in reading
/// order, as in PyTorch.
///
/// # Shapes
/// - `x`: `[N, H, W, C]`
/// - value: `[N, HO, WO, C]` with `HO = (H + 2 padding - kernel) / stride + 1`
///
/// # Errors
/// When the kernel does not fit the image, is larger than 15, or the padding exceeds half the
/// kernel.
pub fn max_pool2d(x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Traced> {
    const OP: &str = "max_pool2d";
    let [n, h, w, c] = dims(OP, "an image [N, H, W, C]", x)?;
    let fits = |size: usize| size + 2 * padding >= kernel && size > 0;
    if kernel == 0 || kernel > 15 || stride == 0 || 2 * padding > kernel || !fits(h) || !fits(w) {
        let expected = format!(
            "an image that a {kernel}x{kernel} window (1 to 15) with stride {stride} and padding {padding} fits"
        );
        return Err(Error::shape(OP, expected, x.dims()));
    }
    let places = |size: usize| (size + 2 * padding - kernel) / stride + 1;
    let g = Window { h, w, c, kernel, stride, pad: padding, ho: places(h), wo: places(w) };
    on_gpu!(x, super::cuda::max_pool2d(x, &g));
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        let (y, taps) = pool::max_forward::<S>(View::new(OP, &x)?.slice()?, &g);
        let value = tensor(y, &[n, g.ho, g.wo, c])?;
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let dx = pool::max_backward::<S>(View::new(OP, &dy)?.slice()?, &taps, &g);
            Ok(vec![Some(tensor(dx, &[n, h, w, c])?)])
        }))
    })
}

/// Mean over all pixels.
///
/// # Shapes
/// - `x`: `[N, H, W, C]` or `[N, L, C]`
/// - value: `[N, C]`
///
/// # Errors
/// When `x` has no pixels, or is not `f32`, `f64` or `bf16` on the CPU.
pub fn global_avg_pool(x: &Tensor) -> Result<Traced> {
    const OP: &str = "global_avg_pool";
    let shape = x.dims().to_vec();
    let (Some(&n), Some(&c)) = (shape.first(), shape.last()) else {
        return Err(Error::shape(OP, "[N, ..., C]", &shape));
    };
    if shape.len() < 3 || x.elem_count() == 0 {
        return Err(Error::shape(OP, "[N, ..., C] with at least one pixel", &shape));
    }
    let pixels = x.elem_count() / n / c;
    on_gpu!(x, super::cuda::global_avg_pool(x, pixels, c));
    let x = x.contiguous()?;
    by_storage!(OP, x, S => {
        let value = tensor(pool::mean_forward::<S>(View::new(OP, &x)?.slice()?, pixels, c), &[n, c])?;
        Ok(Traced::new(value, move |dy, _| {
            let dy = dy.contiguous()?;
            let dx = pool::mean_backward::<S>(View::new(OP, &dy)?.slice()?, pixels, c);
            Ok(vec![Some(tensor(dx, &shape)?)])
        }))
    })
}
