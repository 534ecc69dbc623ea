//! Linear layers with a bias, by cuBLASLt, which adds the bias before sums leave the registers.
//! With cuBLAS, the result would be filled with the bias, read and overwritten: three passes over
//! memory instead of one.
//!
//! The GELU of cuBLASLt is not used: it is the `tanh` form, and the models here have the exact one.
//! `EFFICIENTTRAIN_CUBLASLT=0` disables cuBLASLt.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::mem::size_of_val;
use std::rc::Rc;
use std::sync::LazyLock;

use candle_core::cuda_backend::cudarc::cublas;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::{DeviceId, WrapErr, gemm_reduced_precision_f32};
use candle_core::{DType, Tensor};

use super::device;
use super::handle::handle;
use super::memory::{address, empty, unsupported};
use crate::Result;

/// Workspace of an algorithm, at most: NVIDIA's recommendation for Hopper.
const MOST_WORKSPACE: usize = 32 << 20;
/// Addresses are looked at up to this many bytes, which is what cuBLASLt asks for at most.
const MOST_ALIGNMENT: u64 = 256;

/// Attribute of a description that holds the address of the bias.
const BIAS: sys::cublasLtMatmulDescAttributes_t =
    sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;

fn enabled() -> bool {
    static ENABLED: LazyLock<bool> =
        LazyLock::new(|| std::env::var("EFFICIENTTRAIN_CUBLASLT").as_deref() != Ok("0"));
    *ENABLED
}

fn failed(e: CublasError) -> crate::Error {
    candle_core::Error::wrap(e).into()
}

handle!(Handle, sys::cublasLtHandle_t, result::destroy_handle);
handle!(Layout, sys::cublasLtMatrixLayout_t, result::destroy_matrix_layout);
handle!(Description, sys::cublasLtMatmulDesc_t, result::destroy_matmul_desc);
handle!(Preference, sys::cublasLtMatmulPreference_t, result::destroy_matmul_pref);

/// Properties that a plan depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    gpu: DeviceId,
    /// Rows, outputs, inputs.
    sizes: [usize; 3],
    dtype: DType,
    /// True if single precision may be rounded to TF32.
    rounded: bool,
    /// Alignment of weight, input and result.
    alignment: [u32; 3],
}

/// A layer of certain sizes with its algorithm.
struct Plan {
    handle: Rc<Handle>,
    description: Description,
    w: Layout,
    x: Layout,
    y: Layout,
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

thread_local! {
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
    /// None where cuBLASLt has no algorithm.
    static PLANS: RefCell<HashMap<Key, Option<Rc<Plan>>>> = RefCell::default();
}

/// Computes `y = x w^T + bias`, of shapes `[rows, inputs]` and `[outputs, inputs]`, all of one type
/// except the bias. Returns false, without doing anything, if cuBLASLt is disabled or has no
/// algorithm for it.
pub(super) fn linear(
    op: &'static str,
    [rows, outputs, inputs]: [usize; 3],
    x: &Tensor,
    w: &Tensor,
    bias: &Tensor,
    y: &Tensor,
) -> Result<bool> {
    if !enabled() {
        return Ok(false);
    }
    let gpu = device::of(op, x)?;
    let stream = gpu.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let bias = super::converted(bias, y.dtype())?;
    let [ws, xs, ys] = [address(op, w)?, address(op, x)?, address(op, y)?];
    let key = Key {
        gpu: gpu.id(),
        sizes: [rows, outputs, inputs],
        dtype: x.dtype(),
        rounded: gemm_reduced_precision_f32(),
        alignment: [ws, xs, ys].map(alignment),
    };
    let bias_at = address(op, &bias)?;
    let Some(plan) = plan(op, key, bias_at)? else { return Ok(false) };
    let memory = empty(x, plan.workspace.max(1), DType::U8)?;
    let (one, none) = (1f32, 0f32);
    // SAFETY: the addresses are of tensors with the sizes and the type of the plan, on its device;
    // they and the workspace are given back in the order of the stream, after this. The plan is
    // this thread's own.
    unsafe {
        plan.description.set(BIAS, &bias_at).map_err(failed)?;
        result::matmul(
            plan.handle.0,
            plan.description.0,
            (&raw const one).cast(),
            (&raw const none).cast(),
            ws as *const c_void,
            plan.w.0,
            xs as *const c_void,
            plan.x.0,
            ys as *const c_void,
            plan.y.0,
            ys as *mut c_void,
            plan.y.0,
            &raw const plan.algorithm,
            address(op, &memory)? as *mut c_void,
            plan.workspace,
            stream.cu_stream().cast(),
        )
        .map_err(failed)?;
    }
    Ok(true)
}

/// The largest power of two that an address is a multiple of.
fn alignment(at: u64) -> u32 {
    (1 << at.trailing_zeros().min(MOST_ALIGNMENT.trailing_zeros())) as u32
}

/// The plan for a layer, made with a bias that it may be called with: algorithms are not proposed
/// without any.
fn plan(op: &'static str, key: Key, bias: u64) -> Result<Option<Rc<Plan>>> {
    if let Some(known) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
        return Ok(known);
    }
    let stored = match key.dtype {
        DType::F32 => sys::cudaDataType_t::CUDA_R_32F,
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        DType::F16 => sys::cudaDataType_t::CUDA_R_16F,
        other => return Err(unsupported(op, other)),
    };
    let handle = HANDLES.with_borrow_mut(|handles| -> Result<Rc<Handle>> {
        if let Some(handle) = handles.get(&key.gpu) {
            return Ok(handle.clone());
        }
        let handle = Handle(result::create_handle().map_err(failed)?);
        Ok(handles.entry(key.gpu).or_insert(Rc::new(handle)).clone())
    })?;
    let plan = match Plan::new(handle, &key, stored, bias) {
        Ok(plan) => Some(Rc::new(plan)),
        Err(CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => None,
        Err(e) => return Err(failed(e)),
    };
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan.clone()));
    Ok(plan)
}

/// Attributes, which are given by address and size.
macro_rules! attributes {
    ($name:ident, $attribute:ty, $set:path) => {
        impl $name {
            /// # Safety
            /// The attribute's type must be that of the value.
            unsafe fn set<T>(
                &self,
                attribute: $attribute,
                value: &T,
            ) -> std::result::Result<(), CublasError> {
                // SAFETY: what it is set of lives, and the caller vouches for the type.
                unsafe { $set(self.0, attribute, std::ptr::from_ref(value).cast(), size_of_val(value)) }
            }
        }
    };
}
attributes!(Description, sys::cublasLtMatmulDescAttributes_t, result::set_matmul_desc_attribute);
attributes!(Preference, sys::cublasLtMatmulPreferenceAttributes_t, result::set_matmul_pref_attribute);

impl Plan {
    fn new(
        handle: Rc<Handle>,
        key: &Key,
        stored: sys::cudaDataType,
        bias: u64,
    ) -> std::result::Result<Self, CublasError> {
        use cublas::sys::cublasOperation_t::CUBLAS_OP_T;
        use sys::cublasComputeType_t::{CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
        use sys::cublasLtMatmulDescAttributes_t::{
            CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_TRANSA,
        };
        use sys::cublasLtMatmulPreferenceAttributes_t as Wish;
        let [rows, outputs, inputs] = key.sizes.map(|size| size as u64);
        // cuBLASLt is column-major and these are row-major: the weight is transposed, the others
        // are not.
        let layout = |rows: u64, cols: u64| -> std::result::Result<Layout, CublasError> {
            Ok(Layout(result::create_matrix_layout(stored, rows, cols, rows as i64)?))
        };
        let (w, x, y) = (layout(inputs, outputs)?, layout(inputs, rows)?, layout(outputs, rows)?);
        let sums = if key.rounded { CUBLAS_COMPUTE_32F_FAST_TF32 } else { CUBLAS_COMPUTE_32F };
        let factors = sys::cudaDataType_t::CUDA_R_32F;
        let description = Description(result::create_matmul_desc(sums, factors)?);
        let wishes = Preference(result::create_matmul_pref()?);
        // SAFETY: an address, and 32-bit numbers.
        unsafe {
            description.set(BIAS, &bias)?;
            description.set(CUBLASLT_MATMUL_DESC_TRANSA, &(CUBLAS_OP_T as i32))?;
            let adds = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            description.set(CUBLASLT_MATMUL_DESC_EPILOGUE, &adds)?;
        }
        let [of_w, of_x, of_y] = key.alignment;
        // SAFETY: the workspace size is a 64-bit number, alignments are 32-bit numbers.
        unsafe {
            wishes.set(Wish::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &(MOST_WORKSPACE as u64))?;
            wishes.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &of_w)?;
            wishes.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &of_x)?;
            wishes.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &of_y)?;
            wishes.set(Wish::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &of_y)?;
        }
        // SAFETY: handle, description, layouts and wishes live.
        let best = unsafe {
            result::get_matmul_algo_heuristic(handle.0, description.0, w.0, x.0, y.0, y.0, wishes.0)?
        };
        let (algorithm, workspace) = (best.algo, best.workspaceSize);
        Ok(Self { handle, description, w, x, y, algorithm, workspace })
    }
}
