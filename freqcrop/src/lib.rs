//! placeholder
mod axis;
mod batch;
mod error;
mod fft;
mod fold;
mod image;
mod kernel;
mod matrix;
mod operators;
mod plan;
mod real;
mod rgb8;
mod scratch;
mod separable;
mod unfold;

pub use error::{Error, Result};
pub use image::Layout;
pub use operators::{FrequencyCrop, LowPass};
pub use plan::{Backend, Plan};
pub use real::Real;
pub use scratch::Scratch;
