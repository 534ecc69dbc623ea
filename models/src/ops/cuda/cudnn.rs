//! Convolutions by cuDNN, of channels-last pictures and kernels.
//!
//! Which of its algorithms fits a shape is asked once; of those that it names, the first one whose sums have a fixed order is
//! taken. Set `EFFICIENTTRAIN_CUDNN=0` to do without cuDNN in a build that has it.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::rc::Rc;
use std::sync::LazyLock;

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr, gemm_reduced_precision_f32};
use candle_core::{DType, Tensor};

use super::device;
use super::memory::{address, empty, unsupported};
use crate::Result;
use crate::ops::kernels::conv::Geometry;

const OP: &str = "conv2d";
/// Memory that an algorithm may take beside its operands.
const MOST_WORKSPACE: usize = 1 << 30;
/// Algorithms that are asked for.
const ASKED: usize = 10;

/// Whether convolutions go through cuDNN.
pub(super) fn wanted() -> bool {
    static WANTED: LazyLock<bool> =
        LazyLock::new(|| std::env::var("EFFICIENTTRAIN_CUDNN").as_deref() != Ok("0"));
    *WANTED
}

fn failed(e: CudnnError) -> crate::Error {
    candle_core::Error::wrap(e).into()
}

/// What cuDNN made, and how it is given back.
macro_rules! owned {
    ($name:ident, $raw:ty, $destroy:path) => {
        struct $name($raw);

        impl Drop for $name {
            fn drop(&mut self) {
                // SAFETY: made by cuDNN, and given back once. Nothing is to be done about an error here.
                let _ = unsafe { $destroy(self.0) };
            }
        }
    };
}
owned!(Handle, sys::cudnnHandle_t, result::destroy_handle);
owned!(Pictures, sys::cudnnTensorDescriptor_t, result::destroy_tensor_descriptor);
owned!(Kernel, sys::cudnnFilterDescriptor_t, result::destroy_filter_descriptor);
owned!(Rule, sys::cudnnConvolutionDescriptor_t, result::destroy_convolution_descriptor);

/// A convolution of certain shapes, with the algorithm and the memory for each of its passes.
struct Plan {
    handle: Rc<Handle>,
    x: Pictures,
    w: Kernel,
    y: Pictures,
    rule: Rule,
    forward: (sys::cudnnConvolutionFwdAlgo_t, usize),
    data: (sys::cudnnConvolutionBwdDataAlgo_t, usize),
    weight: (sys::cudnnConvolutionBwdFilterAlgo_t, usize),
}

/// What a plan depends on: shapes, element type, and whether single precision may be rounded to TF32.
type Key = (DeviceId, Geometry, DType, bool);

thread_local! {
    // cuDNN's handles must not be used by two threads at a time.
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
    static PLANS: RefCell<HashMap<Key, Rc<Plan>>> = RefCell::default();
}

fn handle(gpu: &CudaDevice) -> Result<Rc<Handle>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some(handle) = handles.get(&gpu.id()) {
            return Ok(handle.clone());
        }
        let handle = Handle(result::create_handle().map_err(failed)?);
        // SAFETY: both belong to the context that was bound by the caller, and the stream lives as long as the device.
        unsafe { result::set_stream(handle.0, gpu.cuda_stream().cu_stream().cast()).map_err(failed)? };
        Ok(handles.entry(gpu.id()).or_insert(Rc::new(handle)).clone())
    })
}

/// The plan for a convolution of tensors like `x`.
fn plan(g: &Geometry, x: &Tensor) -> Result<Rc<Plan>> {
    let gpu = device::of(OP, x)?;
    gpu.cuda_stream().context().bind_to_thread().w()?;
    let rounded = gemm_reduced_precision_f32();
    let key = (gpu.id(), *g, x.dtype(), rounded);
    if let Some(plan) = PLANS.with_borrow(|plans| plans.get(&key).cloned()) {
        return Ok(plan);
    }
    let plan = Rc::new(Plan::new(handle(gpu)?, g, x.dtype(), rounded)?);
    PLANS.with_borrow_mut(|plans| plans.insert(key, plan.clone()));
    Ok(plan)
}

impl Plan {
    fn new(handle: Rc<Handle>, g: &Geometry, dtype: DType, rounded: bool) -> Result<Self> {
        use sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        use sys::cudnnDataType_t::{CUDNN_DATA_BFLOAT16, CUDNN_DATA_FLOAT, CUDNN_DATA_HALF};
        use sys::cudnnMathType_t::{CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let (stored, math) = match dtype {
            DType::F32 => (CUDNN_DATA_FLOAT, if rounded { CUDNN_DEFAULT_MATH } else { CUDNN_FMA_MATH }),
            DType::BF16 => (CUDNN_DATA_BFLOAT16, CUDNN_TENSOR_OP_MATH),
            DType::F16 => (CUDNN_DATA_HALF, CUDNN_TENSOR_OP_MATH),
            other => return Err(unsupported(OP, other)),
        };
        let dims = |dims: [usize; 4]| dims.map(|d| d as c_int);
        let pictures = |shape: [usize; 4]| -> std::result::Result<Pictures, CudnnError> {
            let made = Pictures(result::create_tensor_descriptor()?);
            // SAFETY: just made. Sizes come as count, channels, rows, columns, whatever their order in memory.
            unsafe { result::set_tensor4d_descriptor(made.0, CUDNN_TENSOR_NHWC, stored, dims(shape))? };
            Ok(made)
        };
        let built = || -> std::result::Result<Self, CudnnError> {
            let x = pictures([g.n, g.c, g.h, g.w])?;
            let y = pictures([g.n, g.o, g.ho, g.wo])?;
            let w = Kernel(result::create_filter_descriptor()?);
            let rule = Rule(result::create_convolution_descriptor()?);
            let [pad, stride, dilation] = [g.pad, g.stride, g.dilation].map(|v| v as c_int);
            // SAFETY: all were just made. Sums are in single precision.
            unsafe {
                let kernel = dims([g.o, g.c, g.kh, g.kw]);
                result::set_filter4d_descriptor(w.0, stored, CUDNN_TENSOR_NHWC, kernel)?;
                let mode = CUDNN_CROSS_CORRELATION;
                result::set_convolution2d_descriptor(
                    rule.0,
                    pad,
                    pad,
                    stride,
                    stride,
                    dilation,
                    dilation,
                    mode,
                    CUDNN_DATA_FLOAT,
                )?;
                result::set_convolution_math_type(rule.0, math)?;
            }
            let forward = choose_forward(&handle, (&x, &w, &rule, &y))?;
            let data = choose_data(&handle, (&x, &w, &rule, &y))?;
            let weight = choose_weight(&handle, (&x, &w, &rule, &y))?;
            Ok(Self { handle, x, w, y, rule, forward, data, weight })
        };
        built().map_err(failed)
    }
}

/// Memory that an algorithm works in, on the GPU of `like`, and where it begins.
fn workspace(like: &Tensor, bytes: usize) -> Result<(Tensor, *mut c_void)> {
    let memory = empty(like, bytes.max(1), DType::U8)?;
    let begin = write_to(&memory)?;
    Ok((memory, begin))
}

/// The descriptors of a convolution: pictures, kernel, rule, result.
type Parts<'a> = (&'a Pictures, &'a Kernel, &'a Rule, &'a Pictures);

/// Of what cuDNN proposes, best first, the first that works in little memory and in a fixed order; else the first that works.
macro_rules! choose {
    ($name:ident, $algorithm:ty, $perf:ty, |$handle:ident, $parts:ident, $count:ident, $found:ident| $ask:expr) => {
        fn $name($handle: &Handle, $parts: Parts) -> std::result::Result<($algorithm, usize), CudnnError> {
            // SAFETY: plain numbers, for which zeros will do until they are written.
            let mut $found: [$perf; ASKED] = unsafe { std::mem::zeroed() };
            let mut $count = 0;
            // SAFETY: handle and descriptors live, and there is room for as many as are asked for.
            unsafe { $ask? };
            let works = |p: &&$perf| {
                p.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS && p.memory <= MOST_WORKSPACE
            };
            let ordered = |p: &&$perf| p.determinism == sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC;
            let found = &$found[..($count as usize).min(ASKED)];
            let best = found.iter().filter(works).find(ordered).or_else(|| found.iter().find(works));
            let none = CudnnError(sys::cudnnStatus_t::CUDNN_STATUS_NOT_SUPPORTED);
            best.map(|p| (p.algo, p.memory)).ok_or(none)
        }
    };
}
choose!(
    choose_forward,
    sys::cudnnConvolutionFwdAlgo_t,
    sys::cudnnConvolutionFwdAlgoPerf_t,
    |handle, parts, count, found| {
        let (x, w, rule, y) = parts;
        let room = ASKED as c_int;
        result::get_convolution_forward_algorithm(
            handle.0,
            x.0,
            w.0,
            rule.0,
            y.0,
            room,
            &raw mut count,
            found.as_mut_ptr(),
        )
    }
);
choose!(
    choose_data,
    sys::cudnnConvolutionBwdDataAlgo_t,
    sys::cudnnConvolutionBwdDataAlgoPerf_t,
    |handle, parts, count, found| {
        let (x, w, rule, y) = parts;
        let room = ASKED as c_int;
        result::get_convolution_backward_data_algorithm(
            handle.0,
            w.0,
            y.0,
            rule.0,
            x.0,
            room,
            &raw mut count,
            found.as_mut_ptr(),
        )
    }
);
choose!(
    choose_weight,
    sys::cudnnConvolutionBwdFilterAlgo_t,
    sys::cudnnConvolutionBwdFilterAlgoPerf_t,
    |handle, parts, count, found| {
        let (x, w, rule, y) = parts;
        let room = ASKED as c_int;
        result::get_convolution_backward_filter_algorithm(
            handle.0,
            x.0,
            y.0,
            rule.0,
            w.0,
            room,
            &raw mut count,
            found.as_mut_ptr(),
        )
    }
);

fn read_from(t: &Tensor) -> Result<*const c_void> {
    Ok(address(OP, t)? as *const c_void)
}

fn write_to(t: &Tensor) -> Result<*mut c_void> {
    Ok(address(OP, t)? as *mut c_void)
}

/// Factors in single precision, which cuDNN takes by address.
fn factor(value: &f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

/// `y = conv(x, packed)`, or `y += ...`.
pub(super) fn forward(g: &Geometry, x: &Tensor, packed: &Tensor, y: &Tensor, add: bool) -> Result<()> {
    let plan = plan(g, x)?;
    let (algorithm, bytes) = plan.forward;
    let (_memory, work) = workspace(x, bytes)?;
    let (one, kept) = (1.0, if add { 1.0 } else { 0.0 });
    // SAFETY: the tensors have the shapes and the type of the descriptors and lie on the plan's device; they and the
    // workspace are given back in the order of the stream, behind this.
    unsafe {
        result::convolution_forward(
            plan.handle.0,
            factor(&one),
            plan.x.0,
            read_from(x)?,
            plan.w.0,
            read_from(packed)?,
            plan.rule.0,
            algorithm,
            work,
            bytes,
            factor(&kept),
            plan.y.0,
            write_to(y)?,
        )
    }
    .map_err(failed)
}

/// Gradient of the pictures.
pub(super) fn backward_data(g: &Geometry, packed: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<()> {
    let plan = plan(g, dx)?;
    let (algorithm, bytes) = plan.data;
    let (_memory, work) = workspace(dx, bytes)?;
    let (one, none) = (1.0, 0.0);
    // SAFETY: as for `forward`.
    unsafe {
        result::convolution_backward_data(
            plan.handle.0,
            factor(&one),
            plan.w.0,
            read_from(packed)?,
            plan.y.0,
            read_from(dy)?,
            plan.rule.0,
            algorithm,
            work,
            bytes,
            factor(&none),
            plan.x.0,
            write_to(dx)?,
        )
    }
    .map_err(failed)
}

/// Gradient of the packed weight, in the type of the pictures.
pub(super) fn backward_weight(g: &Geometry, x: &Tensor, dy: &Tensor, dw: &Tensor) -> Result<()> {
    let plan = plan(g, x)?;
    let (algorithm, bytes) = plan.weight;
    let (_memory, work) = workspace(x, bytes)?;
    let (one, none) = (1.0, 0.0);
    // SAFETY: as for `forward`.
    unsafe {
        result::convolution_backward_filter(
            plan.handle.0,
            factor(&one),
            plan.x.0,
            read_from(x)?,
            plan.y.0,
            read_from(dy)?,
            plan.rule.0,
            algorithm,
            work,
            bytes,
            factor(&none),
            plan.w.0,
            write_to(dw)?,
        )
    }
    .map_err(failed)
}
