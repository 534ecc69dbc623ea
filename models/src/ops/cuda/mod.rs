//! The ops on NVIDIA GPUs.
//!
//! Each op's CUDA side has the op's name and lies in the file of the same name. Products go through cuBLAS, those with a bias through cuBLASLt; everything else
//! is a kernel of `kernels/`. Activations are stored in `f32`, `bf16` or `f16`, parameters and their gradients in `f32`.
//!
//! All work of a device goes to one stream, in order: memory can be given back as soon as the last kernel that uses it
//! is on its way, and nothing waits for the GPU until a number is read.

mod activation;
mod attention;
mod capacity;
mod channels;
mod columns;
mod conv2d;
#[cfg(feature = "cudnn")]
mod cudnn;
mod depthwise;
mod device;
mod elementwise;
mod gemm;
mod launch;
mod linear;
mod loss;
mod lt;
mod memory;
mod norm;
mod optim;
mod owned;
mod pictures;
mod pool;
mod residual;
mod target;
mod tokens;
mod upload;

pub(super) use activation::{pointwise, star_relu};
pub(super) use attention::{Bias, cross_attention, window_attention};
pub(crate) use capacity::is_out_of_memory;
pub use capacity::{Memory, forget_most, memory, memory_in_use, wait};
pub(super) use channels::{cat, concat_channels, merge_patches, pad, slice};
pub(super) use conv2d::conv2d;
pub(super) use depthwise::depthwise_conv2d;
pub use device::device;
pub(super) use elementwise::{
    accumulate, add, blend, converted, increment, scale_by, scale_elements, squared_norm,
};
pub(super) use linear::linear;
pub(super) use loss::{above, binary_cross_entropy, masked_squared_error, soft_cross_entropy};
pub(super) use memory::contiguous;
pub(super) use norm::{After, batch_norm, channel_statistics, layer_norm};
pub(super) use optim::{adamw_all, blend_all, clip_factor, lamb_all, sgd_all};
pub(super) use pictures::finish_pictures;
pub(super) use pool::{global_avg_pool, max_pool2d, upsample_nearest};
pub(super) use residual::residual;
pub(crate) use target::{hog_cells, standardise_rows};
pub(super) use tokens::{Restore, gather_tokens, join_tokens, restore_tokens};
pub(super) use upload::upload;
