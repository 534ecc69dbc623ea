//! Tensors as the memory that kernels read and write.

use candle_core::cuda_backend::CudaStorageSlice as Slice;
use candle_core::cuda_backend::cudarc::driver::DevicePtr;
use candle_core::{DType, Shape, Storage, Tensor};

use super::launch::Kernel;
use crate::{Error, Result};

/// Dimensions that a strided tensor may have.
const MOST_DIMS: usize = 6;

/// A tensor for a kernel to write to, every element of it; on the device of `like`.
#[allow(unsafe_code)]
pub(super) fn empty(like: &Tensor, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
    // SAFETY: callers hand it to a kernel that writes all of it before anything reads it.
    Ok(unsafe { Tensor::empty(shape, dtype, like.device())? })
}

/// Returns the address of the first element of a contiguous tensor, in the memory of its GPU.
pub(super) fn address(op: &'static str, t: &Tensor) -> Result<u64> {
    if t.is_contiguous() { first_of(op, t) } else { Err(Error::shape(op, "a contiguous tensor", t.dims())) }
}

/// Returns the address of the first element of a tensor.
fn first_of(op: &'static str, t: &Tensor) -> Result<u64> {
    let (guard, layout) = t.storage_and_layout();
    let Storage::Cuda(storage) = &*guard else {
        let (what, supported) =
            ("a tensor on the CPU among those of a GPU".into(), "one GPU for all tensors");
        return Err(Error::Unsupported { op, what, supported });
    };
    let stream = storage.device.cuda_stream();
    let (start, _guard) = match &storage.slice {
        Slice::U8(s) => s.device_ptr(&stream),
        Slice::U32(s) => s.device_ptr(&stream),
        Slice::I64(s) => s.device_ptr(&stream),
        Slice::BF16(s) => s.device_ptr(&stream),
        Slice::F16(s) => s.device_ptr(&stream),
        Slice::F32(s) => s.device_ptr(&stream),
        _ => return Err(unsupported(op, t.dtype())),
    };
    Ok(start + (layout.start_offset() * t.dtype().size_in_bytes()) as u64)
}

/// Returns the error for a type that no kernel takes.
pub(super) fn unsupported(op: &'static str, dtype: DType) -> Error {
    let what = format!("element type {dtype:?} on a GPU");
    Error::Unsupported { op, what, supported: "f32, bf16 or f16" }
}

/// Returns the tensor in contiguous memory.
pub(in crate::ops) fn contiguous(t: &Tensor) -> Result<Tensor> {
    const OP: &str = "contiguous";
    if t.is_contiguous() {
        return Ok(t.clone());
    }
    if t.rank() > MOST_DIMS || !matches!(t.dtype().size_in_bytes(), 2 | 4) {
        return Ok(t.contiguous()?);
    }
    let missing = MOST_DIMS - t.rank();
    let mut layout = [vec![1; missing], t.dims().to_vec(), vec![0; missing], t.stride().to_vec()].concat();
    // A dimension of length 1 may have any stride.
    layout[..MOST_DIMS].iter_mut().for_each(|length| *length = (*length).max(1));
    let y = empty(t, t.dims(), t.dtype())?;
    let kernel = Kernel::new(OP, "copy_strided", t, kernels_for(t.dtype()))?.tensor(&y)?.at(first_of(OP, t)?);
    kernel.ints(&layout).each(t.elem_count())?;
    Ok(y)
}

/// The kernels that copy elements of this size.
fn kernels_for(dtype: DType) -> DType {
    if dtype.size_in_bytes() == 4 { DType::F32 } else { dtype }
}

/// A contiguous tensor of `f32`: what parameters are read as.
pub(super) fn wide(t: &Tensor) -> Result<Tensor> {
    super::converted(t, DType::F32)
}
