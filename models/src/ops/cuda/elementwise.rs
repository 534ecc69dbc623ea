//! Sums, scales, conversions.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::{DType, Tensor};

use super::device;
use super::launch::Kernel;
use super::memory::{address, contiguous, empty, unsupported, wide};
use crate::ops::Traced;
use crate::{Error, Result};

/// A tensor in another type, without gaps; itself if it is so already.
pub(in crate::ops) fn converted(x: &Tensor, dtype: DType) -> Result<Tensor> {
    const OP: &str = "cast";
    let x = contiguous(x)?;
    let y = |x: &Tensor| empty(x, x.dims(), dtype);
    match (x.dtype(), dtype) {
        (from, to) if from == to => Ok(x),
        (DType::F32, DType::BF16 | DType::F16) => {
            let y = y(&x)?;
            Kernel::new(OP, "from_wide", &x, dtype)?.tensor(&y)?.tensor(&x)?.each(x.elem_count())?;
            Ok(y)
        }
        (from @ (DType::BF16 | DType::F16), DType::F32) => {
            let y = y(&x)?;
            Kernel::new(OP, "to_wide", &x, from)?.tensor(&y)?.tensor(&x)?.each(x.elem_count())?;
            Ok(y)
        }
        // Rare: what is read from files.
        _ => Ok(x.to_dtype(dtype)?),
    }
}

/// `x + y` in the type of `x`.
pub(in crate::ops) fn add(x: &Tensor, y: &Tensor) -> Result<Traced> {
    const OP: &str = "add";
    let (x, y) = (contiguous(x)?, contiguous(y)?);
    let (name, dtype) = match (x.dtype(), y.dtype()) {
        (a, b) if a == b => ("add", a),
        (DType::F32, b) => ("add_to_wide", b),
        (a, DType::F32) => ("add_to_narrow", a),
        (_, b) => return Err(unsupported(OP, b)),
    };
    let value = empty(&x, x.dims(), x.dtype())?;
    Kernel::new(OP, name, &x, dtype)?.tensor(&value)?.tensor(&x)?.tensor(&y)?.each(x.elem_count())?;
    let other = y.dtype();
    Ok(Traced::new(value, move |dy, _| Ok(vec![Some(dy.clone()), Some(converted(dy, other)?)])))
}

/// `x * factors`.
pub(in crate::ops) fn scale_elements(x: &Tensor, factors: &Tensor) -> Result<Traced> {
    let (x, factors) = (contiguous(x)?, wide(factors)?);
    let scaled = move |x: &Tensor| -> Result<Tensor> {
        const OP: &str = "scale_elements";
        let x = contiguous(x)?;
        let y = empty(&x, x.dims(), x.dtype())?;
        let kernel = Kernel::new(OP, "scale_elements", &x, x.dtype())?.tensor(&y)?.tensor(&x)?;
        kernel.tensor(&factors)?.each(x.elem_count())?;
        Ok(y)
    };
    Ok(Traced::new(scaled(&x)?, move |dy, _| Ok(vec![Some(scaled(dy)?)])))
}

/// `target += term`, in place.
pub(in crate::ops) fn accumulate(target: &Tensor, term: &Tensor) -> Result<()> {
    let kernel = Kernel::new("accumulate", "accumulate", target, only_single("accumulate", target)?)?;
    kernel.tensor(target)?.tensor(&wide(term)?)?.each(target.elem_count())
}

/// Writes `f32` values to the part of a flat tensor that begins at `offset`, in the type of the flat
/// tensor, `f32` or `bf16`.
///
/// # Errors
/// When there is no such part, or a tensor is of another type or not on a GPU.
#[allow(unsafe_code)]
pub fn write_part(flat: &Tensor, offset: usize, values: &Tensor) -> Result<()> {
    const OP: &str = "write_part";
    let values = contiguous(values)?;
    let (dtype, len) = (only_single(OP, &values)?, values.elem_count());
    let part = flat.narrow(0, offset, len)?;
    if part.rank() != 1 {
        return Err(Error::shape(OP, "a flat tensor", flat.dims()));
    }
    match flat.dtype() {
        DType::F32 => {
            let (to, from) = (address(OP, &part)?, address(OP, &values)?);
            let stream = device::of(OP, flat)?.cuda_stream();
            stream.context().bind_to_thread().w()?;
            let bytes = len * dtype.size_in_bytes();
            // SAFETY: both addresses are of so many bytes on this GPU, which do not overlap unless
            // they are the same, and are given back in the order of the stream.
            Ok(unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }.w()?)
        }
        DType::BF16 => {
            let kernel = Kernel::new(OP, "from_wide", &values, DType::BF16)?;
            kernel.tensor(&part)?.tensor(&values)?.each(len)
        }
        other => Err(unsupported(OP, other)),
    }
}

/// `target *= factor`, in place.
pub(in crate::ops) fn scale_by(target: &Tensor, factor: f64) -> Result<()> {
    let kernel = Kernel::new("scale_by", "scale_by", target, only_single("scale_by", target)?)?;
    kernel.tensor(target)?.float(factor).each(target.elem_count())
}

/// `target = decay * target + rest * value`, in place.
pub(in crate::ops) fn blend(target: &Tensor, value: &Tensor, decay: f64, rest: f64) -> Result<()> {
    let kernel = Kernel::new("blend", "blend", target, only_single("blend", target)?)?;
    kernel.tensor(target)?.tensor(&wide(value)?)?.float(decay).float(rest).each(target.elem_count())
}

/// Adds one to an `i64`, in place.
pub(in crate::ops) fn increment(counter: &Tensor) -> Result<()> {
    if counter.dtype() != DType::I64 {
        return Err(unsupported("increment", counter.dtype()));
    }
    let grid = super::launch::Grid { blocks: [1, 1, 1], threads: 1, shared: 0 };
    Kernel::new("increment", "increment", counter, DType::F32)?.tensor(counter)?.run(grid)
}

/// Sum of squares of all elements; waits for the GPU.
pub(in crate::ops) fn squared_norm(t: &Tensor) -> Result<f64> {
    const OP: &str = "squared_norm";
    /// Blocks, and so parts of the sum.
    const PARTS: usize = 256;
    let t = wide(t)?;
    let parts = empty(&t, PARTS, DType::F32)?;
    let kernel = Kernel::new(OP, "squares", &t, DType::F32)?.tensor(&parts)?.tensor(&t)?.int(t.elem_count());
    kernel.run(super::launch::Grid { blocks: [PARTS, 1, 1], threads: 256, shared: 0 })?;
    Ok(parts.to_vec1::<f32>()?.into_iter().map(f64::from).sum())
}

/// Checks that a tensor which changes in place is in single precision.
pub(super) fn only_single(op: &'static str, t: &Tensor) -> Result<DType> {
    if t.dtype() == DType::F32 { Ok(DType::F32) } else { Err(unsupported(op, t.dtype())) }
}
