//! Losses.

use candle_core::{DType, Tensor};

use super::converted;
use super::elementwise::only_single;
use super::launch::{Grid, Kernel};
use super::memory::{contiguous, empty, wide};
use crate::Result;
use crate::ops::Traced;

/// `share` times the sum of all numbers, a scalar.
fn total(op: &'static str, x: &Tensor, share: f64) -> Result<Tensor> {
    let sum = empty(x, (), DType::F32)?;
    let kernel = Kernel::new(op, "total", x, DType::F32)?.tensor(&sum)?.tensor(x)?.float(share);
    kernel.int(x.elem_count()).run(Grid { blocks: [1, 1, 1], threads: 256, shared: 0 })?;
    Ok(sum)
}

/// Cross entropy with soft targets; shapes are right.
pub(in crate::ops) fn soft_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Traced> {
    const OP: &str = "soft_cross_entropy";
    let (n, classes) = logits.dims2()?;
    let dtype = logits.dtype();
    let (logits, targets) = (wide(logits)?, wide(targets)?);
    let losses = empty(&logits, n, DType::F32)?;
    let kernel =
        Kernel::new(OP, "cross_entropy_rows", &logits, DType::F32)?.tensor(&losses)?.tensor(&logits)?;
    kernel.tensor(&targets)?.int(classes).run(Grid::rows(n, classes))?;
    let share = 1.0 / n as f64;
    Ok(Traced::new(total(OP, &losses, share)?, move |dy, _| {
        let dx = empty(&logits, (n, classes), DType::F32)?;
        let kernel =
            Kernel::new(OP, "cross_entropy_backward", &logits, DType::F32)?.tensor(&dx)?.tensor(&logits)?;
        let kernel = kernel.tensor(&targets)?.tensor(&wide(dy)?)?.float(share).int(classes);
        kernel.run(Grid::rows(n, classes))?;
        Ok(vec![Some(converted(&dx, dtype)?), None])
    }))
}

/// Each class against all others; shapes are right.
pub(in crate::ops) fn binary_cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Traced> {
    const OP: &str = "binary_cross_entropy";
    let (n, classes) = logits.dims2()?;
    let dtype = logits.dtype();
    let (logits, targets) = (wide(logits)?, wide(targets)?);
    let losses = empty(&logits, n, DType::F32)?;
    let kernel = Kernel::new(OP, "binary_cross_entropy_rows", &logits, DType::F32)?
        .tensor(&losses)?
        .tensor(&logits)?;
    kernel.tensor(&targets)?.int(classes).run(Grid::rows(n, classes))?;
    let share = 1.0 / (n * classes) as f64;
    Ok(Traced::new(total(OP, &losses, share)?, move |dy, _| {
        let dx = empty(&logits, (n, classes), DType::F32)?;
        let kernel = Kernel::new(OP, "binary_cross_entropy_backward", &logits, DType::F32)?.tensor(&dx)?;
        let kernel = kernel.tensor(&logits)?.tensor(&targets)?.tensor(&wide(dy)?)?.float(share);
        kernel.each(n * classes)?;
        Ok(vec![Some(converted(&dx, dtype)?), None])
    }))
}

/// 1 if a number is above a threshold, else 0.
pub(in crate::ops) fn above(x: &Tensor, threshold: f64) -> Result<Tensor> {
    const OP: &str = "above";
    let x = contiguous(x)?;
    let flags = empty(&x, x.dims(), only_single(OP, &x)?)?;
    let kernel = Kernel::new(OP, "above", &x, DType::F32)?.tensor(&flags)?.tensor(&x)?.float(threshold);
    kernel.each(x.elem_count())?;
    Ok(flags)
}

/// Squared error of the flagged tokens `[B, L, D]`, `count` of them; shapes are right.
pub(in crate::ops) fn masked_squared_error(
    x: &Tensor,
    target: &Tensor,
    flags: &[bool],
    count: usize,
) -> Result<Traced> {
    const OP: &str = "masked_squared_error";
    let (b, l, d) = x.dims3()?;
    let dtype = x.dtype();
    let (x, target) = (wide(x)?, wide(target)?);
    let flags = Tensor::from_iter(flags.iter().map(|&flag| u8::from(flag)), x.device())?;
    let losses = empty(&x, b * l, DType::F32)?;
    let kernel = Kernel::new(OP, "squared_error_rows", &x, DType::F32)?.tensor(&losses)?.tensor(&x)?;
    kernel.tensor(&target)?.tensor(&flags)?.int(d).run(Grid::rows(b * l, d))?;
    let share = 1.0 / (count * d) as f64;
    Ok(Traced::new(total(OP, &losses, share)?, move |dy, _| {
        let dx = empty(&x, (b, l, d), DType::F32)?;
        let kernel = Kernel::new(OP, "squared_error_backward", &x, DType::F32)?.tensor(&dx)?.tensor(&x)?;
        let kernel = kernel.tensor(&target)?.tensor(&flags)?.tensor(&wide(dy)?)?.float(share).int(d);
        kernel.each(dx.elem_count())?;
        Ok(vec![Some(converted(&dx, dtype)?), None])
    }))
}
