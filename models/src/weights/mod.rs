//! Weights in and out: files of this crate, of timm, of torchvision and of the models' authors.
//!
//! [`read`] takes safetensors files and PyTorch's `.pth` files, of all versions. A pickle inside is
//! read as data: nothing it names is ever run, and every size in it is checked against the file
//! before memory is asked for. [`load_into`] recognizes the spelling of the names, brings the
//! tensors to the model's parameters and reports what it did with every key. [`save`] writes what
//! timm loads with `strict=True`.
//!
//! ```
//! use candle_core::{DType, Device};
//! use efficienttrain_models::{ModelOptions, ParamStore, create_model, weights};
//!
//! let thousand = create_model("resnet10", &ModelOptions { num_classes: 1000, ..ModelOptions::default() })?;
//! let params = ParamStore::init(thousand.specs(), 1, DType::F32, &Device::Cpu)?;
//! let path = std::env::temp_dir().join("efficienttrain-doc.safetensors");
//! weights::save(&path, &*thousand, &params)?;
//!
//! // Fine-tuning on ten classes: everything but the head comes from the file.
//! let ten = create_model("resnet10", &ModelOptions { num_classes: 10, ..ModelOptions::default() })?;
//! let mut params = ParamStore::init(ten.specs(), 2, DType::F32, &Device::Cpu)?;
//! let file = weights::read(&path, &weights::ReadOptions::default())?;
//! let options = weights::LoadOptions { adapt_head: true, ..Default::default() };
//! let report = weights::load_into(&*ten, &mut params, &file.tensors, &options)?;
//! assert_eq!(report.reinitialized, ["fc.weight", "fc.bias"]);
//! # std::fs::remove_file(&path)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | family | spellings read | spelling written |
//! | --- | --- | --- |
//! | ResNet | timm, torchvision (the same) | timm |
//! | DeiT | timm, the authors' (the same), torchvision's ViT | timm |
//! | Swin, ConvNeXt | timm, the authors', torchvision | timm |
//! | MetaFormer | timm, the authors' | timm |
//! | CSWin, PVT | the authors' | the authors' (timm has no such model) |

mod adapt;
mod archive;
mod candidate;
mod export;
mod legacy;
mod load;
mod names;
mod pickle;
mod read;
mod report;
mod template;
mod tensors;
mod unwrap;

pub use export::{export, save};
pub use load::{LoadOptions, in_channels, load_into, load_into_classes, num_classes};
pub use names::to_timm;
pub use read::{Format, ReadOptions, WeightFile, read, read_bytes, read_from};
pub use report::Report;
pub use tensors::Tensors;

/// Result whose error describes the problem with a file; public functions prepend its path.
type Fallible<T> = std::result::Result<T, String>;
