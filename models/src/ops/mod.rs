//! Trainable ops: each gives its value and the function that pulls a gradient back through it.
//!
//! Candle's own engine loses or falsifies some gradients in silence and is slow in training; these ops are what the
//! backbones of this crate are made of instead. Pictures are channels-last (`[N, H, W, C]`), tokens `[N, L, C]`.
//! Every op takes tensors of `f32` or `f64` with any strides.
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
mod channels;
mod conv2d;
mod depthwise;
mod elementwise;
mod kernels;
mod linear;
mod loss;
mod norm;
mod optim;
mod pool;
mod residual;
mod tokens;
mod view;

pub use activation::{gelu, relu, squared_relu, star_relu};
pub use attention::{Windows, attention, cross_attention, relative_position_index, window_attention};
pub use candle_bridge::in_candle;
pub use channels::{concat_channels, merge_patches, slice_channels};
pub use conv2d::{Conv2dConfig, conv2d};
pub use depthwise::depthwise_conv2d;
pub use elementwise::{accumulate, add, scale_by, scale_elements};
pub use linear::linear;
pub use loss::soft_cross_entropy;
pub use norm::{BatchStatistics, batch_norm, layer_norm};
pub use optim::{AdamW, Lamb, Sgd, adamw_step, blend, increment, lamb_step, sgd_step, squared_norm};
pub use pool::{global_avg_pool, max_pool2d};
pub use residual::{Scales, residual};
pub use tokens::{join_tokens, select_tokens};

use candle_core::Tensor;

use crate::{Error, Result};

/// Pulls a gradient of an op's value back to its inputs.
///
/// Called with the gradient and one flag an input; inputs whose flag is false may be skipped (`None`), all others get
/// a gradient of their own shape. The gradient of a parameter must be a tensor of its own, because it is scaled and
/// added to in place later. May be called more than once.
pub type Pullback = Box<dyn Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync>;

/// The value of an op and its [`Pullback`].
pub struct Traced {
    /// The op's result.
    pub value: Tensor,
    /// From the gradient of `value` to the gradients of the op's inputs, in the order of its arguments.
    pub pullback: Pullback,
}

impl Traced {
    fn new(
        value: Tensor,
        pullback: impl Fn(&Tensor, &[bool]) -> Result<Vec<Option<Tensor>>> + Send + Sync + 'static,
    ) -> Self {
        Self { value, pullback: Box::new(pullback) }
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

fn unsupported_dtype(op: &'static str, dtype: candle_core::DType) -> Error {
    Error::Unsupported { op, what: format!("element type {dtype:?}"), supported: "f32 or f64" }
}

fn dims<const N: usize>(op: &'static str, expected: &'static str, t: &Tensor) -> Result<[usize; N]> {
    t.dims().try_into().map_err(|_| Error::shape(op, expected, t.dims()))
}

fn expect_shape(op: &'static str, what: &str, t: &Tensor, shape: &[usize]) -> Result<()> {
    if t.dims() == shape { Ok(()) } else { Err(Error::shape(op, format!("{what} of {shape:?}"), t.dims())) }
}
