//! The families of backbones, one file each, and the registry of their models.

pub mod convnext;
pub mod cswin;
pub mod metaformer;
pub(crate) mod options;
pub mod pvt;
mod registry;
pub mod resnet;
pub mod swin;
pub mod vit;

pub use options::{MAX_INPUT_SIZE, ModelOptions};
pub use registry::{create_model, model_names, size_multiple};
