//! Transforms of training and evaluation: from a decoded image to a normalized one.

mod assemble;
pub(crate) mod eval;
pub(crate) mod resize_crop;
pub(crate) mod sample;
pub(crate) mod timer;
pub(crate) mod train;
pub(crate) mod workspace;
