//! Masked autoencoders (He et al., 2022): an encoder sees a quarter of an image's patches, a light
//! decoder predicts the rest.
//!
//! The encoder is the vision transformer of [`vit`](crate::vit) with fixed positions, so that what
//! it has learned can be fine-tuned as `deit_tiny`, `deit_small` or `deit_base`. Any image whose
//! edges are multiples of 16 will do, and the size may change from step to step: no parameter hangs
//! on it. The paper of EfficientTrain++ trains it on low-frequency crops with histograms of
//! gradients as target.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use efficienttrain_models::mae::{Mae, MaeOptions, Masking};
//! use efficienttrain_models::{Variable, Context, Gradients, Mode, Model, ModelOptions, ParamStore, create_model, weights};
//!
//! let model = Mae::new("mae_small", &MaeOptions { input_size: [32, 32], ..MaeOptions::default() })?;
//! let params = ParamStore::init(model.specs(), 42, DType::F32, &Device::Cpu)?;
//!
//! // One training pass. Each image's mask follows from its own seed.
//! let images = Variable::constant(Tensor::rand(-1f32, 1., (2, 32, 32, 3), &Device::Cpu)?);
//! let masking = Masking::draw(&[1, 2], model.patches(), model.mask_ratio())?;
//! let mut cx = Context::new(&params, Mode::Train { seed: 0, drop_path: 0.0 });
//! let loss = model.loss(&mut cx, &images, &masking)?;
//! let mut gradients = Gradients::new(params.len());
//! cx.backward(&loss, Tensor::new(1f32, &Device::Cpu)?, &mut gradients)?;
//! gradients.check_complete(model.name(), model.specs())?;
//!
//! // Fine-tuning: the encoder's weights under timm's names.
//! let deit = create_model("deit_small", &ModelOptions { num_classes: 10, input_size: [32, 32], ..ModelOptions::default() })?;
//! let mut tuned = ParamStore::init(deit.specs(), 1, DType::F32, &Device::Cpu)?;
//! let options = weights::LoadOptions { adapt_head: true, ..Default::default() };
//! weights::load_into(&*deit, &mut tuned, &model.encoder_weights(&params)?, &options)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | variant | encoder | parameters |
//! | --- | --- | --- |
//! | `mae_tiny` | `deit_tiny` | 6.3 M, 0.8 M of them the decoder's |
//! | `mae_small` | `deit_small` | 25 M, 3 M of them the decoder's |
//! | `mae_base` | `deit_base` | 111 M, 26 M of them the decoder's |
//!
//! First values are those of the MAE authors' code: Xavier's for all matrices, normal with 0.02 for
//! both tokens.

mod mask;
mod model;
mod options;
mod positions;
mod target;

pub use mask::Masking;
pub use model::Mae;
pub use options::{MaeOptions, TransformerShape};
pub use positions::sincos_positions;
pub use target::{Target, patchify};
