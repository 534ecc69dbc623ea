//! Masked autoencoder as model and objective of a run.

use candle_core::Tensor;
use efficienttrain_models::mae::{Mae, MaeOptions, Masking};
use efficienttrain_models::weights::{LoadOptions, Tensors};
use efficienttrain_models::{
    Context, Cost, Error as ModelError, ModelOptions, ParamStore, Variable, create_model,
};
use rand::Rng;
use randaug::sample_rng;

use crate::checkpoint::read::Checkpoint;
use crate::config::train::TrainConfig;
use crate::error::{Error, Result};
use crate::pretrain::ENCODER;
use crate::training::network::Network;
use crate::training::objective::{DeviceBatch, Objective};
use crate::util::purposes::MASKED_PATCHES;

/// Encoders and their autoencoders.
const ENCODERS: [(&str, &str); 3] =
    [("deit_tiny", "mae_tiny"), ("deit_small", "mae_small"), ("deit_base", "mae_base")];

/// Returns the autoencoder of a configuration for images of edge `size`.
///
/// # Errors
/// Returns an error if the model is not a vision transformer, or an option is incompatible with it.
pub fn autoencoder(config: &TrainConfig, size: usize) -> Result<Mae> {
    let Some(target) = config.target else {
        return Err(Error::config("target", "pre-training needs a target, such as `hog`"));
    };
    let encoder = create_model(&config.recipe()?.model, &ModelOptions::default())?.name().to_string();
    let Some((_, variant)) = ENCODERS.iter().find(|(name, _)| *name == encoder) else {
        let known = ENCODERS.map(|(name, _)| name).join(", ");
        let what = format!("masked autoencoders need one of {known} as encoder, got {encoder}");
        return Err(Error::config("model", what));
    };
    let options = MaeOptions {
        input_size: [size; 2],
        base_size: [config.base_size as usize; 2],
        in_channels: config.channels().count(),
        mask_ratio: config.mask_ratio,
        target: target.target(),
        decoder: config.decoder.map(|shape| shape.0),
    };
    Mae::new(variant, &options).map_err(|error| match &error {
        ModelError::Option { what, .. } if what.contains("mask_ratio") => {
            let what =
                format!("{error}, at a stage of {size} pixels; change it, or raise option `base-size`");
            Error::config("mask-ratio", what)
        }
        _ => error.into(),
    })
}

/// Returns the encoder's weights in a pre-training checkpoint, with timm's names and position
/// embeddings for images of edge `size`.
///
/// # Errors
/// Returns an error if the checkpoint does not match its model, or `ema` is given and there is no
/// average.
pub(crate) fn encoder_of(
    saved: &Checkpoint,
    config: &TrainConfig,
    size: usize,
    ema: bool,
) -> Result<Tensors> {
    // Positions are a formula of the size.
    let mae = autoencoder(config, size)?;
    let (params, _) = saved.load_into(&mae, ema, &LoadOptions::default())?;
    Ok(mae.encoder_weights(&params)?)
}

/// Reconstruction of masked patches.
#[derive(Clone, Copy, Debug)]
pub struct Reconstruction;

impl Objective for Reconstruction {
    fn loss(&self, cx: &mut Context, network: &Network, batch: &DeviceBatch, seed: u64) -> Result<Variable> {
        let mae = network.autoencoder()?;
        let seed_of_image = |index| sample_rng(seed, 0, index as u64, MASKED_PATCHES).next_u64();
        let seeds: Vec<u64> = (0..batch.images.dim(0)?).map(seed_of_image).collect();
        let masking = Masking::draw(&seeds, mae.patches(), mae.mask_ratio())?;
        Ok(mae.loss(cx, &Variable::constant(batch.images.clone()), &masking)?)
    }

    fn has_accuracy(&self) -> bool {
        false
    }

    fn cost(&self, network: &Network) -> Result<Cost> {
        Ok(network.autoencoder()?.cost()?)
    }

    fn export(&self, network: &Network, params: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        Ok(network.autoencoder()?.encoder_weights(params)?.into_iter().collect())
    }

    fn exported_name(&self) -> &'static str {
        ENCODER
    }
}
