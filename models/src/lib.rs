//! Trainable vision backbones on [candle](candle_core).
//!
//! In training, candle silently loses some gradients, computes others wrongly, and is slow. This
//! crate brings its own small set of trainable [`ops`], an engine for backward passes
//! ([`Context`]), and backbones made of them, with the names, shapes and numbers of timm.
//!
//! - [`create_model`] makes a [`Backbone`] by name: structure only. [`ParamStore`] holds the values
//!   of its parameters, in order and initialized from a seed.
//! - [`Context`] is one pass: training with a backward pass into [`Gradients`], evaluation, or
//!   counting of the [`cost`].
//! - [`weights`] reads and writes files of timm, torchvision and the authors; [`mae`] pre-trains
//!   without labels; [`onnx`] writes models for other runtimes; [`layers`] and [`ops`] are the
//!   parts of your own models.
//! - [`Backbone::at_size`] returns the model for another input size.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use efficienttrain_models::{Variable, Context, Gradients, Mode, ModelOptions, ParamStore, create_model, ops};
//!
//! let options = ModelOptions { num_classes: 10, input_size: [64, 64], ..ModelOptions::default() };
//! let model = create_model("resnet18", &options)?;
//! let params = ParamStore::init(model.specs(), 42, DType::F32, &Device::Cpu)?;
//!
//! // One training pass: images are channels-last, targets have one row of class
//! // probabilities per image.
//! let images = Variable::constant(Tensor::rand(0f32, 1., (4, 64, 64, 3), &Device::Cpu)?);
//! let targets = Tensor::full(0.1f32, (4, 10), &Device::Cpu)?;
//! let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.0 });
//! let logits = model.forward(&mut cx, &images)?;
//! let loss = cx.record(&[&logits], ops::soft_cross_entropy(logits.tensor(), &targets)?);
//! let mut gradients = Gradients::new(params.len());
//! cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)?;
//! gradients.check_complete(model.name(), model.specs())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Everything is a function of its inputs: the same seed leads to bitwise the same initial weights,
//! stochastic depth and gradients, on any number of threads.

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod backbone;
mod cost;
mod error;
mod families;
mod family;
mod graph;
pub mod hog;
pub mod layers;
pub mod mae;
pub mod onnx;
pub mod ops;
mod params;
mod resample;
pub mod weights;

pub use backbone::{Backbone, FeatureInfo, Model, ModelInfo, ParamGroup, predict};
pub use cost::{Cost, cost, fewest_batch_norm_values};
pub use error::{Error, Result};
pub use families::{
    MAX_INPUT_SIZE, ModelOptions, convnext, create_model, cswin, metaformer, model_names, pvt, resnet,
    size_multiple, swin, vit,
};
pub use family::Family;
pub use graph::{
    BlockIndex, Context, Draws, Gradients, Macs, Mode, ObservedStatistics, Op, SavedForBackward,
    StatisticsLog, Variable, drop_path_rates,
};
pub use params::{Init, ParamBuilder, ParamId, ParamKind, ParamSpec, ParamStore};
pub use resample::Resample;
