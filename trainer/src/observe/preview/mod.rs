//! Tools to try single steps of the input pipeline and to view their results.

pub(crate) mod crop;
pub(crate) mod grid;
pub(crate) mod pixel_image;

pub use crop::{CropTool, crop_image};
pub use grid::{Preview, seen};
pub use pixel_image::{Floats, PixelImage};
