//! The families of backbones, a file each, and the registry of their models.

pub mod convnext;
pub mod cswin;
mod family;
pub mod metaformer;
pub mod pvt;
pub(crate) mod registry;
pub mod resnet;
pub mod swin;
pub mod vit;

pub use family::Family;
pub use registry::{ModelOptions, create_model, model_names};
