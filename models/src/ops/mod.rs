//! Trainable ops: each returns its value and the function that pulls a gradient back through it.
//!
//! Candle's own engine loses or falsifies some gradients silently and is slow in training; these
//! ops are what the backbones of this crate are made of instead. Images are channels-last (`[N, H,
//! W, C]`), tokens `[N, L, C]`. Every op takes tensors of `f32`, `f64` or `bf16` with any strides.
//! With `bf16` all arithmetic is in `f32`, and values and gradients are rounded once, when they are
//! stored; parameters may stay in `f32`, and so do then their gradients.
//!
//! Use them on their own through candle's engine with [`in_candle`]:
//!
//! ```
//! use candle_core::{DType, Device, Var};
//! use efficienttrain_models::ops;
//!
//! let x = Var::randn(0f32, 1., (2, 5, 8), &Device::Cpu)?;
//! let w = Var::ones((8,), DType::F32, &Device::Cpu)?;
//! let b = Var::zeros((8,), DType::F32, &Device::Cpu)?;
//! let y = ops::in_candle(&[&x, &w, &b], |t| ops::layer_norm(&t[0], &t[1], Some(&t[2]), 1e-6))?;
//! let grads = y.sqr()?.sum_all()?.backward()?;
//! assert!(grads.get(&w).is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod activation;
mod attention;
mod candle_bridge;
mod cast;
mod channels;
mod conv2d;
#[cfg(feature = "cuda")]
pub mod cuda;
mod depthwise;
mod elementwise;
mod images;
mod kernels;
mod linear;
mod loss;
mod masked;
mod norm;
mod optim;
mod pool;
mod residual;
mod tokens;
mod upsample;
mod view;

pub use activation::{gelu, relu, silu, squared_relu, star_relu};
pub(crate) use attention::masks_of_windows;
pub use attention::{Windows, attention, cross_attention, relative_position_index, window_attention};
pub use candle_bridge::in_candle;
pub use cast::cast;
pub use channels::{concat_channels, merge_patches, slice_channels};
pub use conv2d::{Conv2dConfig, conv2d};
pub use depthwise::depthwise_conv2d;
pub use elementwise::{accumulate, add, scale_by, scale_elements};
pub use images::{Blend, DevicePreprocess, ErasedBox, normalize_erase_mix, upload, upload_into};
pub use kernels::product::Bf16Products;
pub use kernels::vector_lanes;
pub use linear::linear;
pub use loss::{above, binary_cross_entropy, soft_cross_entropy};
pub use masked::{gather_tokens, masked_squared_error, restore_tokens};
pub use norm::{BatchStatistics, Processes, batch_norm, layer_norm, layer_norm_to};
pub use optim::{
    AdamW, Average, ClipFactor, ClipValues, Lamb, NormLimits, Sgd, Stepped, adamw_all, adamw_step, blend,
    blend_all, clip_factor, increment, lamb_all, lamb_step, sgd_all, sgd_step, squared_norm,
};
pub use pool::{global_avg_pool, max_pool2d};
pub use residual::{Scales, residual};
pub use tokens::{join_tokens, select_tokens};
pub use upsample::upsample_nearest;

use candle_core::Tensor;

use crate::{Error, Result};

/// Hands an op over to its CUDA side where `$tensor` is on a GPU.
macro_rules! on_gpu {
    ($tensor:expr, $call:expr) => {
        #[cfg(feature = "cuda")]
        if $tensor.device().is_cuda() {
            return $call;
        }
    };
}
pub(crate) use on_gpu;

/// Pulls a gradient of an op's value back to its inputs.
///
/// Called with the gradient and one flag per input; inputs whose flag is false may be skipped
/// (`None`), all others get a gradient of their own shape. The gradient of a parameter must be a
/// tensor of its own, because it is scaled and added to in place later. May be called more than
/// once.
pub type Pullback = Box<dyn Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// As [`Pullback`], for a first input whose gradient has other contributions: called with their sum
/// so far, it gives the sum with its own in place of the first gradient.
pub type PullbackOnto = Box<dyn Fn(&Tensor, &[bool], &Tensor) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// The value of an op and its [`Pullback`].
pub struct Traced {
    /// The op's result.
    pub value: Tensor,
    /// Computes the gradients of the op's inputs, in the order of its arguments, from the gradient
    /// of `value`.
    pub pullback: Pullback,
    /// The same with an addition, for ops that can save a pass over memory this way.
    pub pullback_onto: Option<PullbackOnto>,
}

impl Traced {
    /// An op with these gradients.
    pub fn new(
        value: Tensor,
        pullback: impl Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Self {
        Self { value, pullback: Box::new(pullback), pullback_onto: None }
    }

    /// An op whose gradients can be computed with an addition: `pullback` is called with the sum of
    /// the first input's other contributions, if there are any.
    fn adding(
        value: Tensor,
        pullback: impl Fn(&Tensor, &[bool], Option<&Tensor>) -> Result<Vec<Option<Tensor>>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        let pullback = std::sync::Arc::new(pullback);
        let plain = pullback.clone();
        Self {
            value,
            pullback: Box::new(move |dy, needs| plain(dy, needs, None)),
            pullback_onto: Some(Box::new(move |dy, needs, onto| pullback(dy, needs, Some(onto)))),
        }
    }
}

/// Runs `$body` with `$T` as the element type of `$tensor`.
macro_rules! by_dtype {
    ($op:literal, $tensor:expr, $T:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => Err($crate::ops::unsupported_dtype($op, other)),
        }
    };
}
pub(crate) use by_dtype;

/// Runs `$body` with `$S` as the way the elements of `$tensor` are stored: as [`by_dtype`], with
/// `bf16` besides.
macro_rules! by_storage {
    ($op:expr, $tensor:expr, $S:ident => $body:expr) => {
        match $tensor.dtype() {
            candle_core::DType::F32 => {
                type $S = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $S = f64;
                $body
            }
            candle_core::DType::BF16 => {
                type $S = half::bf16;
                $body
            }
            other => Err($crate::ops::unsupported_storage($op, other)),
        }
    };
}
pub(crate) use by_storage;

/// Does the same as [`by_storage`] for two storage types with the same compute type.
macro_rules! by_storages {
    ($op:expr, $first:expr, $second:expr, ($S:ident, $R:ident) => $body:expr) => {{
        use candle_core::DType::{BF16, F32, F64};
        macro_rules! with {
            ($first_type:ty, $second_type:ty) => {{
                type $S = $first_type;
                type $R = $second_type;
                $body
            }};
        }
        match ($first, $second) {
            (F32, F32) => with!(f32, f32),
            (F64, F64) => with!(f64, f64),
            (BF16, BF16) => with!(half::bf16, half::bf16),
            (F32, BF16) => with!(f32, half::bf16),
            (BF16, F32) => with!(half::bf16, f32),
            (F32 | BF16, other) | (other, _) => Err($crate::ops::unsupported_storage($op, other)),
        }
    }};
}
pub(crate) use by_storages;

fn unsupported_dtype(op: &'static str, dtype: candle_core::DType) -> Error {
    Error::Unsupported { op, what: format!("element type {dtype:?}"), supported: "f32 or f64" }
}

fn unsupported_storage(op: &'static str, dtype: candle_core::DType) -> Error {
    let supported = "f32, f64 or bf16 on the CPU, and only f32 and bf16 together";
    Error::Unsupported { op, what: format!("element type {dtype:?}"), supported }
}

/// Returns the tensor in contiguous memory.
pub(crate) fn contiguous(t: &Tensor) -> Result<Tensor> {
    on_gpu!(t, cuda::contiguous(t));
    Ok(t.contiguous()?)
}

/// Concatenates tensors along dimension `axis`.
fn cat(tensors: &[&Tensor], axis: usize) -> Result<Tensor> {
    on_gpu!(tensors[0], cuda::cat(tensors, axis));
    Ok(Tensor::cat(tensors, axis)?)
}

fn dims<const N: usize>(op: &'static str, expected: &'static str, t: &Tensor) -> Result<[usize; N]> {
    t.dims().try_into().map_err(|_| Error::shape(op, expected, t.dims()))
}

fn expect_shape(op: &'static str, what: &str, t: &Tensor, shape: &[usize]) -> Result<()> {
    if t.dims() == shape { Ok(()) } else { Err(Error::shape(op, format!("{what} of {shape:?}"), t.dims())) }
}
