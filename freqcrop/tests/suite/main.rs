//! Tests of the public API, as one program: each further program would be compiled and linked on
//! its own.

mod common;
mod entries;
mod golden;
mod lanczos;
mod properties;
mod resampled;
#[cfg(feature = "candle")]
mod tensor;
