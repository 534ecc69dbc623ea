//! Single steps of the input pipeline, to try and to look at.

pub(crate) mod augment;
pub(crate) mod crop;
pub(crate) mod preview;

pub use augment::{Floats, PixelImage};
pub use crop::{CropTool, crop_image};
pub use preview::{Preview, seen};
