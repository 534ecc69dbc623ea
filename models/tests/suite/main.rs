//! Tests of the public API, as one program: each further program would be compiled and linked on
//! its own.
//! Those that also run on a GPU are programs of their own.

#[path = "../common/mod.rs"]
mod common;

mod candle_transformers_parity;
mod determinism;
mod frozen;
mod golden_parts;
mod hog;
mod mae;
mod mixed_precision;
mod models;
mod synchronized_batch_norm;
mod weight_files;
mod weights;
