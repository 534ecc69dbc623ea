//! The vocabulary of blocks that every family is written in.
//!
//! A layer holds the positions of its parameters and how they are used; values come with the
//! [`Context`](crate::Context) of each pass.

mod attention;
mod conv;
mod linear;
mod norm;
mod residual;

pub use attention::Attention;
pub use conv::Conv2d;
pub use linear::{Linear, Mlp};
pub use norm::{BatchNorm, LayerNorm};
pub use residual::add_branch;
