//! EfficientTrain++: train visual backbones with a curriculum over image frequencies and augmentation.

pub mod data;
mod error;

pub use error::{DataError, Error, Result};
