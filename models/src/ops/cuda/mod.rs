//! The ops on NVIDIA GPUs.
//!
//! Each op's CUDA side has the op's name and is in the file of the same name. Products go through
//! cuBLAS, those with a bias through cuBLASLt; everything else is a kernel of `kernels/`.
//! Activations are stored in `f32`, `bf16` or `f16`, parameters and their gradients in `f32`.
//!
//! All work of a device goes to one stream, in order: memory can be given back as soon as the last
//! kernel that uses it is queued, and nothing waits for the GPU until a number is read. Only sums
//! over several GPUs have a stream of their own.

mod activation;
mod attention;
mod channels;
mod constants;
mod conv2d;
mod cublaslt;
#[cfg(feature = "cudnn")]
mod cudnn;
mod depthwise;
mod device;
mod elementwise;
mod gemm;
mod graph;
mod handle;
mod images;
mod launch;
mod linear;
mod loss;
mod memory;
mod memory_stats;
mod nccl;
mod norm;
mod optim;
mod pool;
mod residual;
mod rows;
mod target;
mod tokens;
mod upload;

pub(super) use activation::{pointwise, star_relu};
pub(super) use attention::{Bias, cross_attention, window_attention};
pub(super) use channels::{cat, concat_channels, merge_patches, pad, slice};
pub(super) use conv2d::conv2d;
pub(super) use depthwise::depthwise_conv2d;
pub use device::{device, uuid};
pub use elementwise::write_part;
pub(super) use elementwise::{
    accumulate, add, blend, converted, increment, scale_by, scale_elements, squared_norm,
};
pub use graph::Graph;
pub(super) use images::normalize_erase_mix;
pub(super) use linear::linear;
pub(super) use loss::{above, binary_cross_entropy, masked_squared_error, soft_cross_entropy};
pub(super) use memory::contiguous;
pub(crate) use memory_stats::is_out_of_memory;
pub use memory_stats::{MemoryStats, memory_in_use, memory_stats, reset_peak, synchronize};
pub use nccl::{Nccl, PendingReduction, exit_now};
pub(super) use norm::{After, batch_norm, channel_statistics, layer_norm};
pub(super) use optim::{adamw_all, blend_all, clip_factor, lamb_all, sgd_all};
pub(super) use pool::{global_avg_pool, max_pool2d, upsample_nearest};
pub(super) use residual::residual;
pub(crate) use target::{hog_cells, standardize_rows};
pub(super) use tokens::{Restore, gather_tokens, join_tokens, restore_tokens};
pub(super) use upload::{upload, upload_into};
