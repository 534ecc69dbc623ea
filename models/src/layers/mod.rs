//! The vocabulary of blocks that every family is written in.
//!
//! A layer holds the positions of its parameters and how they are used; values come with the
//! [`Context`](crate::Context) of each pass. Each tells the pass the shape it gives and what it
//! costs, so that a model can be counted without being run.

mod activation;
mod attention;
mod block;
mod conv;
mod linear;
mod masked;
mod norm;
mod residual;
mod shape;
mod upsample;

pub use crate::graph::BlockIndex;
pub use activation::Activation;
pub use attention::{Attention, ReducedAttention, StripeAttention, WindowAttention};
pub use block::{Downsample, Layer, PreNormBlock, run_stages};
pub use conv::{Conv2d, ConvShape, DepthwiseConv2d};
pub use linear::{Linear, Mlp, dropout};
pub use masked::{gather_tokens, restore_tokens};
pub use norm::{BatchNorm, LayerNorm};
pub use residual::{Residual, add};
pub use shape::{
    concat_channels, flatten, global_avg_pool, join_tokens, max_pool2d, merge_patches, select_tokens,
    slice_channels, unflatten,
};
pub use upsample::upsample_nearest;
