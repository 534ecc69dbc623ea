//! Products of matrices, by cuBLAS.

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::cuda_backend::{WrapErr, gemm_reduced_precision_f32};
use candle_core::{DType, Tensor};

use super::device;
use super::memory::{address, empty, unsupported};
use crate::Result;

/// A matrix in the memory of a GPU, row by row.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    pub(super) at: u64,
    pub(super) dtype: DType,
    /// Numbers from one row to the next.
    pub(super) stride: usize,
    pub(super) transposed: bool,
}

impl Matrix {
    /// A contiguous tensor as rows of `stride` numbers.
    pub(super) fn of(op: &'static str, t: &Tensor, stride: usize) -> Result<Self> {
        Ok(Self { at: address(op, t)?, dtype: t.dtype(), stride, transposed: false })
    }

    /// Its transpose.
    pub(super) fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Without its first rows.
    pub(super) fn skip_rows(self, rows: usize) -> Self {
        Self { at: self.at + (rows * self.stride * self.dtype.size_in_bytes()) as u64, ..self }
    }

    fn operation(&self) -> sys::cublasOperation_t {
        use sys::cublasOperation_t::{CUBLAS_OP_N, CUBLAS_OP_T};
        if self.transposed { CUBLAS_OP_T } else { CUBLAS_OP_N }
    }
}

fn kind(op: &'static str, dtype: DType) -> Result<sys::cudaDataType> {
    use sys::cudaDataType_t::{CUDA_R_16BF, CUDA_R_16F, CUDA_R_32F};
    match dtype {
        DType::F32 => Ok(CUDA_R_32F),
        DType::BF16 => Ok(CUDA_R_16BF),
        DType::F16 => Ok(CUDA_R_16F),
        other => Err(unsupported(op, other)),
    }
}

/// `to = left right`, or `to += left right`, of shapes `[m, k]` and `[k, n]`; sums are in `f32`.
/// `like` is any tensor of the GPU.
///
/// Single precision is rounded to TF32 first where candle's `set_gemm_reduced_precision_f32` says
/// so.
#[allow(unsafe_code)]
pub(super) fn product(
    op: &'static str,
    like: &Tensor,
    [m, n, k]: [usize; 3],
    left: Matrix,
    right: Matrix,
    to: Matrix,
    add: bool,
) -> Result<()> {
    use sys::cublasComputeType_t::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
    let gpu = device::of(op, like)?;
    gpu.cuda_stream().context().bind_to_thread().w()?;
    let blas = gpu.cublas_handle();
    // There is nothing to round in half precision, and cuBLAS refuses to.
    let single = [left, right, to].iter().all(|m| m.dtype == DType::F32);
    let compute = if single && gemm_reduced_precision_f32() {
        CUBLAS_COMPUTE_32F_FAST_TF32
    } else {
        CUBLAS_COMPUTE_32F
    };
    let (alpha, beta) = (1f32, if add { 1f32 } else { 0f32 });
    // SAFETY: the addresses are of tensors that hold matrices of these shapes and strides. cuBLAS
    // takes columns where these are rows, which makes it the product of the transposes in the other
    // order.
    unsafe {
        result::gemm_ex(
            *blas.handle(),
            right.operation(),
            left.operation(),
            n as i32,
            m as i32,
            k as i32,
            (&raw const alpha).cast(),
            right.at as *const c_void,
            kind(op, right.dtype)?,
            right.stride as i32,
            left.at as *const c_void,
            kind(op, left.dtype)?,
            left.stride as i32,
            (&raw const beta).cast(),
            to.at as *mut c_void,
            kind(op, to.dtype)?,
            to.stride as i32,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
        .w()?;
    }
    Ok(())
}

/// The product as a new tensor of `dtype` and `shape`.
pub(super) fn product_to(
    op: &'static str,
    like: &Tensor,
    sizes: [usize; 3],
    (left, right): (Matrix, Matrix),
    shape: &[usize],
    dtype: DType,
) -> Result<Tensor> {
    let y = empty(like, shape, dtype)?;
    product(op, like, sizes, left, right, Matrix::of(op, &y, sizes[1])?, false)?;
    Ok(y)
}
