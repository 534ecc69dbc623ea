//! Pooling, and its opposite.

use candle_core::{DType, Tensor};

use super::launch::Kernel;
use super::memory::{contiguous, empty};
use crate::Result;
use crate::ops::Traced;
use crate::ops::kernels::pool::Window;

/// Max-pool; shapes are right.
pub(in crate::ops) fn max_pool2d(x: &Tensor, g: &Window) -> Result<Traced> {
    const OP: &str = "max_pool2d";
    let x = contiguous(x)?;
    let words = [g.h, g.w, g.c, g.kernel, g.stride, g.pad, g.ho, g.wo];
    let shape = [x.dim(0)?, g.ho, g.wo, g.c];
    let value = empty(&x, &shape, x.dtype())?;
    let taps = empty(&x, &shape, DType::U8)?;
    let kernel =
        Kernel::new(OP, "max_pool_forward", &x, x.dtype())?.tensor(&value)?.tensor(&taps)?.tensor(&x)?;
    kernel.ints(&words).each(value.elem_count())?;
    let before = x.dims().to_vec();
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = empty(&dy, before.as_slice(), dy.dtype())?;
        let kernel = Kernel::new(OP, "max_pool_backward", &dy, dy.dtype())?.tensor(&dx)?.tensor(&dy)?;
        kernel.tensor(&taps)?.ints(&words).each(dx.elem_count())?;
        Ok(vec![Some(dx)])
    }))
}

/// Mean over `pixels` pixels of `c` channels.
pub(in crate::ops) fn global_avg_pool(x: &Tensor, pixels: usize, c: usize) -> Result<Traced> {
    const OP: &str = "global_avg_pool";
    let x = contiguous(x)?;
    let value = empty(&x, (x.dim(0)?, c), x.dtype())?;
    let kernel = Kernel::new(OP, "avg_pool_forward", &x, x.dtype())?.tensor(&value)?.tensor(&x)?;
    kernel.int(pixels).int(c).each(value.elem_count())?;
    let before = x.dims().to_vec();
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = empty(&dy, before.as_slice(), dy.dtype())?;
        let kernel = Kernel::new(OP, "avg_pool_backward", &dy, dy.dtype())?.tensor(&dx)?.tensor(&dy)?;
        kernel.int(pixels).int(c).each(dx.elem_count())?;
        Ok(vec![Some(dx)])
    }))
}

/// Each pixel as a square of `factor` by `factor`; shapes are right.
pub(in crate::ops) fn upsample_nearest(x: &Tensor, factor: usize) -> Result<Traced> {
    const OP: &str = "upsample_nearest";
    let x = contiguous(x)?;
    let (n, h, w, c) = x.dims4()?;
    let run = move |name, x: &Tensor, y: &Tensor| -> Result<()> {
        let kernel = Kernel::new(OP, name, x, x.dtype())?.tensor(y)?.tensor(x)?;
        kernel.int(h).int(w).int(c).int(factor).each(y.elem_count())
    };
    let value = empty(&x, (n, h * factor, w * factor, c), x.dtype())?;
    run("upsample_forward", &x, &value)?;
    Ok(Traced::new(value, move |dy, _| {
        let dy = contiguous(dy)?;
        let dx = empty(&dy, (n, h, w, c), dy.dtype())?;
        run("upsample_backward", &dy, &dx)?;
        Ok(vec![Some(dx)])
    }))
}
