//! Inference: evaluation, prediction, features.

pub mod class_map;
pub mod evaluate;
pub mod features;
pub mod onnx;
pub mod predict;
