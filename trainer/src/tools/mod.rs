//! Single steps of the input pipeline, to try and to look at.

mod crop;
mod picture;
mod preview;

pub use crop::{CropTool, crop_picture};
pub use picture::{Floats, Picture};
pub use preview::{Preview, seen};
