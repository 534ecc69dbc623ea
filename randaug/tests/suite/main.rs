//! Tests of the public API, as one program: each further program would be compiled and linked on
//! its own.

mod bad_input;
mod color;
mod common;
mod crop_modes;
mod distributions;
mod golden_geometry;
mod golden_mix;
mod golden_ops;
mod mix_each;
mod nearest;
mod oracle;
mod pixel_formats;
mod policies;
mod policy_draws;
mod randomness;
