//! Convolutions by cuDNN, of channels-last images and kernels.
//!
//! cuDNN is asked once per pass which of its algorithms fit a shape. The first of them that sums in a
//! fixed order and turns out to work is used, with the arithmetic that it was proposed with. If there
//! is none, the caller computes the convolution in another way. `EFFICIENTTRAIN_CUDNN=0` disables
//! cuDNN in a build that has it.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

use candle_core::cuda_backend::cudarc::cudnn::{CudnnError, result, sys};
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::cuda_backend::{CudaDevice, DeviceId, WrapErr, gemm_reduced_precision_f32};
use candle_core::{DType, Tensor};
use sys::cudnnMathType_t::{self as Math, CUDNN_DEFAULT_MATH, CUDNN_FMA_MATH, CUDNN_TENSOR_OP_MATH};

use super::device;
use super::handle::handle;
use super::memory::{address, empty, unsupported};
use crate::Result;
use crate::ops::kernels::conv::Geometry;

const OP: &str = "conv2d";
/// Workspace of an algorithm, at most.
const MOST_WORKSPACE: usize = 1 << 30;
/// Algorithms that are asked for.
const ASKED: usize = 10;
/// Alignment of addresses that tensor cores need.
const ALIGNED: u64 = 16;
/// Elements of a tensor, at most.
const MOST_ELEMENTS: usize = i32::MAX as usize;

/// Converts an error of cuDNN.
type Answer<T> = std::result::Result<T, CudnnError>;

/// Tells if convolutions use cuDNN.
pub(super) fn enabled() -> bool {
    static ENABLED: LazyLock<bool> =
        LazyLock::new(|| std::env::var("EFFICIENTTRAIN_CUDNN").as_deref() != Ok("0"));
    *ENABLED
}

fn failed(e: CudnnError) -> crate::Error {
    candle_core::Error::wrap(e).into()
}

/// None where cuDNN says that it cannot do what was asked for.
fn supported<T>(answer: Answer<T>) -> Result<Option<T>> {
    match answer {
        // Versions differ in how many such answers there are.
        Err(e) if format!("{:?}", e.0).starts_with("CUDNN_STATUS_NOT_SUPPORTED") => Ok(None),
        other => Ok(Some(other.map_err(failed)?)),
    }
}

handle!(Handle, sys::cudnnHandle_t, result::destroy_handle);
handle!(Images, sys::cudnnTensorDescriptor_t, result::destroy_tensor_descriptor);
handle!(Kernel, sys::cudnnFilterDescriptor_t, result::destroy_filter_descriptor);
handle!(Rule, sys::cudnnConvolutionDescriptor_t, result::destroy_convolution_descriptor);

/// An algorithm, with the kind of arithmetic and the memory that it was named for.
#[derive(Clone, Copy)]
struct Chosen<A> {
    algorithm: A,
    math: Math,
    memory: usize,
}

/// The algorithms for a pass that may be used, best first; none before they are asked for.
type Choices<A> = RefCell<Option<Vec<Chosen<A>>>>;

/// A convolution of certain shapes, and how each of its passes is computed.
struct Plan {
    handle: Rc<Handle>,
    x: Images,
    w: Kernel,
    y: Images,
    rule: Rule,
    math: Math,
    forward: Choices<sys::cudnnConvolutionFwdAlgo_t>,
    data: Choices<sys::cudnnConvolutionBwdDataAlgo_t>,
    weight: Choices<sys::cudnnConvolutionBwdFilterAlgo_t>,
}

/// Properties that a plan depends on: shapes, element type, and if single precision may be rounded
/// to TF32.
type Key = (DeviceId, Geometry, DType, bool);

/// A handle for each GPU, and the stream that it uses, which lives as long.
type Handles = HashMap<DeviceId, (Rc<Handle>, Arc<CudaStream>)>;

thread_local! {
    // cuDNN's handles must not be used by two threads at a time.
    static HANDLES: RefCell<Handles> = RefCell::default();
    static PLANS: RefCell<HashMap<Key, Rc<Plan>>> = RefCell::default();
}

fn handle(gpu: &CudaDevice) -> Result<Rc<Handle>> {
    HANDLES.with_borrow_mut(|handles| {
        if let Some((handle, _)) = handles.get(&gpu.id()) {
            return Ok(handle.clone());
        }
        let (handle, stream) = (Handle(result::create_handle().map_err(failed)?), gpu.cuda_stream());
        // SAFETY: both belong to the context that was bound by the caller.
        unsafe { result::set_stream(handle.0, stream.cu_stream().cast()).map_err(failed)? };
        Ok(handles.entry(gpu.id()).or_insert((Rc::new(handle), stream)).0.clone())
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
        use sys::cudnnTensorFormat_t::CUDNN_TENSOR_NHWC;
        let (stored, math) = match dtype {
            DType::F32 => (CUDNN_DATA_FLOAT, if rounded { CUDNN_DEFAULT_MATH } else { CUDNN_FMA_MATH }),
            DType::BF16 => (CUDNN_DATA_BFLOAT16, CUDNN_TENSOR_OP_MATH),
            DType::F16 => (CUDNN_DATA_HALF, CUDNN_TENSOR_OP_MATH),
            other => return Err(unsupported(OP, other)),
        };
        let dims = |dims: [usize; 4]| dims.map(|d| d as c_int);
        let images = |shape: [usize; 4]| -> Answer<Images> {
            let made = Images(result::create_tensor_descriptor()?);
            // SAFETY: just made. Sizes come as count, channels, rows, columns, whatever their order
            // in memory.
            unsafe { result::set_tensor4d_descriptor(made.0, CUDNN_TENSOR_NHWC, stored, dims(shape))? };
            Ok(made)
        };
        let built = || -> Answer<Self> {
            let x = images([g.n, g.c, g.h, g.w])?;
            let y = images([g.n, g.o, g.ho, g.wo])?;
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
            }
            let (forward, data, weight) = (RefCell::default(), RefCell::default(), RefCell::default());
            Ok(Self { handle, x, w, y, rule, math, forward, data, weight })
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

/// Returns the algorithms that cuDNN proposes for a pass and that need little memory, best first;
/// those with a fixed order of sums come before all others.
macro_rules! proposals {
    ($name:ident, $algorithm:ty, $perf:ty, $ask:path, $a:ident, $b:ident, $c:ident, $d:ident) => {
        fn $name(plan: &Plan) -> Answer<Vec<Chosen<$algorithm>>> {
            // SAFETY: plain numbers, for which zeros will do until they are written.
            let mut found: [$perf; ASKED] = unsafe { std::mem::zeroed() };
            let (room, mut count) = (ASKED as c_int, 0);
            // SAFETY: handle and descriptors live, and the array holds as many as are asked for.
            unsafe {
                result::set_convolution_math_type(plan.rule.0, plan.math)?;
                let Plan { handle, $a, $b, $c, $d, .. } = plan;
                $ask(handle.0, $a.0, $b.0, $c.0, $d.0, room, &raw mut count, found.as_mut_ptr())?;
            }
            let mut found = found[..(count as usize).min(ASKED)].to_vec();
            found.retain(|p| {
                p.status == sys::cudnnStatus_t::CUDNN_STATUS_SUCCESS && p.memory <= MOST_WORKSPACE
            });
            found.sort_by_key(|p| p.determinism != sys::cudnnDeterminism_t::CUDNN_DETERMINISTIC);
            // What must not be rounded must not be rounded by an algorithm either.
            let math = |p: &$perf| if plan.math == CUDNN_FMA_MATH { CUDNN_FMA_MATH } else { p.mathType };
            let chosen = |p: &$perf| Chosen { algorithm: p.algo, math: math(p), memory: p.memory };
            Ok(found.iter().map(chosen).collect())
        }
    };
}
proposals!(
    for_forward,
    sys::cudnnConvolutionFwdAlgo_t,
    sys::cudnnConvolutionFwdAlgoPerf_t,
    result::get_convolution_forward_algorithm,
    x,
    w,
    rule,
    y
);
proposals!(
    for_data,
    sys::cudnnConvolutionBwdDataAlgo_t,
    sys::cudnnConvolutionBwdDataAlgoPerf_t,
    result::get_convolution_backward_data_algorithm,
    w,
    y,
    rule,
    x
);
proposals!(
    for_weight,
    sys::cudnnConvolutionBwdFilterAlgo_t,
    sys::cudnnConvolutionBwdFilterAlgoPerf_t,
    result::get_convolution_backward_filter_algorithm,
    x,
    y,
    rule,
    w
);

/// Runs a pass by the first algorithm that can; those that turn out not to are forgotten. False
/// if there is none.
fn run<A: Copy>(
    plan: &Plan,
    choices: &Choices<A>,
    like: &Tensor,
    ask: fn(&Plan) -> Answer<Vec<Chosen<A>>>,
    pass: impl Fn(A, *mut c_void, usize) -> Answer<()>,
) -> Result<bool> {
    let mut known = choices.borrow_mut();
    if known.is_none() {
        *known = Some(supported(ask(plan))?.unwrap_or_default());
    }
    let Some(choices) = known.as_mut() else { return Ok(false) };
    while let Some(&Chosen { algorithm, math, memory }) = choices.first() {
        let (_room, begin) = workspace(like, memory)?;
        // SAFETY: the rule lives, and no other thread uses it.
        unsafe { result::set_convolution_math_type(plan.rule.0, math).map_err(failed)? };
        if supported(pass(algorithm, begin, memory))?.is_some() {
            return Ok(true);
        }
        choices.remove(0);
    }
    Ok(false)
}

/// Tells if cuDNN takes tensors of this size and alignment.
fn takes(g: &Geometry, tensors: [&Tensor; 3]) -> Result<bool> {
    let lies = |t: &Tensor| Ok::<_, crate::Error>(address(OP, t)?.is_multiple_of(ALIGNED));
    let largest = (g.n * g.h * g.w * g.c).max(g.n * g.ho * g.wo * g.o).max(g.o * g.kh * g.kw * g.c);
    Ok(largest <= MOST_ELEMENTS && lies(tensors[0])? && lies(tensors[1])? && lies(tensors[2])?)
}

fn read_from(t: &Tensor) -> Result<*const c_void> {
    Ok(address(OP, t)? as *const c_void)
}

fn write_to(t: &Tensor) -> Result<*mut c_void> {
    Ok(address(OP, t)? as *mut c_void)
}

/// A factor in single precision, which cuDNN takes by address.
fn factor(value: &f32) -> *const c_void {
    std::ptr::from_ref(value).cast()
}

/// `y = conv(x, packed)`, or `y += ...`; false where cuDNN cannot compute it.
pub(super) fn forward(g: &Geometry, x: &Tensor, packed: &Tensor, y: &Tensor, add: bool) -> Result<bool> {
    if !takes(g, [x, packed, y])? {
        return Ok(false);
    }
    let plan = plan(g, x)?;
    let (from, weight, to) = (read_from(x)?, read_from(packed)?, write_to(y)?);
    run(&plan, &plan.forward, x, for_forward, |algorithm, work, bytes| {
        let (handle, rule) = (plan.handle.0, plan.rule.0);
        let (one, kept) = (factor(&1.0), factor(if add { &1.0 } else { &0.0 }));
        // SAFETY: the tensors have the shapes and the type of the descriptors and are on the plan's
        // device; they and the workspace are given back in the order of the stream, after this.
        unsafe {
            result::convolution_forward(
                handle, one, plan.x.0, from, plan.w.0, weight, rule, algorithm, work, bytes, kept, plan.y.0,
                to,
            )
        }
    })
}

/// Gradient of the images; false where cuDNN cannot compute it.
pub(super) fn backward_data(g: &Geometry, packed: &Tensor, dy: &Tensor, dx: &Tensor) -> Result<bool> {
    if !takes(g, [dx, packed, dy])? {
        return Ok(false);
    }
    let plan = plan(g, dx)?;
    let (weight, from, to) = (read_from(packed)?, read_from(dy)?, write_to(dx)?);
    run(&plan, &plan.data, dx, for_data, |algorithm, work, bytes| {
        let (handle, rule) = (plan.handle.0, plan.rule.0);
        let (one, none) = (factor(&1.0), factor(&0.0));
        // SAFETY: as for `forward`.
        unsafe {
            result::convolution_backward_data(
                handle, one, plan.w.0, weight, plan.y.0, from, rule, algorithm, work, bytes, none, plan.x.0,
                to,
            )
        }
    })
}

/// Gradient of the packed weight, in the type of the images; false where cuDNN cannot compute it.
pub(super) fn backward_weight(g: &Geometry, x: &Tensor, dy: &Tensor, dw: &Tensor) -> Result<bool> {
    if !takes(g, [x, dw, dy])? {
        return Ok(false);
    }
    let plan = plan(g, x)?;
    let (from, gradient, to) = (read_from(x)?, read_from(dy)?, write_to(dw)?);
    run(&plan, &plan.weight, x, for_weight, |algorithm, work, bytes| {
        let (handle, rule) = (plan.handle.0, plan.rule.0);
        let (one, none) = (factor(&1.0), factor(&0.0));
        // SAFETY: as for `forward`.
        unsafe {
            result::convolution_backward_filter(
                handle, one, plan.x.0, from, plan.y.0, gradient, rule, algorithm, work, bytes, none,
                plan.w.0, to,
            )
        }
    })
}
