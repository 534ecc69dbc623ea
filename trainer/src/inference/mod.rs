//! Use of trained models: evaluation, prediction, features.

pub mod evaluate;
pub mod features;
pub mod predict;
