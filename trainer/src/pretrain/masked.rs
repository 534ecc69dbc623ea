//! A masked autoencoder as a model and an objective of a run.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use crate::util::purposes::MASKED_PATCHES;
use candle_core::Tensor;
use efficienttrain_models::mae::{Mae, MaeOptions, Masking};
use efficienttrain_models::weights::{LoadOptions, Tensors};
use efficienttrain_models::{
    Backbone, Context, Cost, Error as ModelError, Family, ModelInfo, ModelOptions, ParamStore, Resample,
    Variable, create_model,
};
use rand::Rng;
use randaug::sample_rng;

use crate::checkpoint::read::Checkpoint;
use crate::config::train::TrainConfig;
use crate::data::batch::Batch;
use crate::error::{Error, Result};
use crate::pretrain::ENCODER;
use crate::training::objective::Objective;

/// Encoders, and the autoencoders they are trained in.
const ENCODERS: [(&str, &str); 3] =
    [("deit_tiny", "mae_tiny"), ("deit_small", "mae_small"), ("deit_base", "mae_base")];

/// Structure at one size, which model and objective of a run share: a step's size is set on the one and used by the other.
type Shared = Arc<RwLock<Mae>>;

fn read(shared: &Shared) -> RwLockReadGuard<'_, Mae> {
    // A panic elsewhere leaves the structure as it was: its size is set in one step.
    shared.read().unwrap_or_else(PoisonError::into_inner)
}

/// The autoencoder of a configuration for pictures of edge `size`: its structure and what it is trained for.
///
/// # Errors
/// When the model is no vision transformer, or an option does not fit it.
pub fn autoencoder(config: &TrainConfig, size: usize) -> Result<(MaskedModel, Reconstruction)> {
    let Some(target) = config.target else {
        return Err(Error::config("target", "pre-training wants one, such as `hog`"));
    };
    let encoder = create_model(&config.recipe()?.model, &ModelOptions::default())?.name().to_string();
    let Some((_, variant)) = ENCODERS.iter().find(|(name, _)| *name == encoder) else {
        let known = ENCODERS.map(|(name, _)| name).join(", ");
        let what = format!("masked autoencoders have one of {known} as encoder, not {encoder}");
        return Err(Error::config("model", what));
    };
    let options = MaeOptions {
        input_size: [size; 2],
        base_size: [config.base_size as usize; 2],
        in_channels: 3,
        mask_ratio: config.mask_ratio,
        target: target.target(),
        decoder: config.decoder.map(|shape| shape.0),
    };
    let mae = Mae::new(variant, &options).map_err(|error| match &error {
        ModelError::Option { what, .. } if what.contains("mask_ratio") => {
            let what =
                format!("{error}, at a stage of {size} pixels; change it, or raise option `base-size`");
            Error::config("mask-ratio", what)
        }
        _ => error.into(),
    })?;
    let info = ModelInfo {
        name: mae.name().into(),
        family: Family::Vit,
        specs: mae.specs().to_vec(),
        input_size: [size; 2],
        num_classes: 0,
        in_channels: 3,
        drop_rate: 0.0,
        classifiers: &[],
        feature_info: Vec::new(),
        layers: mae.specs().iter().map(|spec| spec.layer + 1).max().unwrap_or(0),
    };
    let shared = Arc::new(RwLock::new(mae));
    Ok((MaskedModel { info, shared: shared.clone() }, Reconstruction { shared }))
}

/// The encoder's weights of a checkpoint of pre-training, under timm's names, with positions for pictures of edge `size`.
///
/// # Errors
/// When the checkpoint does not fit its model, or `ema` is asked for and there is none.
pub(crate) fn encoder_of(
    saved: &Checkpoint,
    config: &TrainConfig,
    size: usize,
    ema: bool,
) -> Result<Tensors> {
    // Positions are a formula of the size.
    let (masked, _) = autoencoder(config, size)?;
    let (params, _) = saved.load_into(&masked, ema, &LoadOptions::default())?;
    Ok(masked.encoder_weights(&params)?.into_iter().collect())
}

/// A masked autoencoder's parameters and sizes, as a run wants to know them. It has no classes.
#[derive(Debug)]
pub struct MaskedModel {
    info: ModelInfo,
    shared: Shared,
}

impl MaskedModel {
    /// The encoder's weights under timm's names, with positions for the present size.
    ///
    /// # Errors
    /// When the store is not this model's.
    pub fn encoder_weights(&self, params: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        Ok(read(&self.shared).encoder_weights(params)?.into_iter().collect())
    }

    fn no_classes<T>(&self) -> efficienttrain_models::Result<T> {
        let what =
            "an autoencoder has neither classes nor maps; load its encoder into a model that has".into();
        Err(ModelError::Option { model: self.info.name.clone(), what })
    }
}

impl Backbone for MaskedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn set_input_size(&mut self, size: [usize; 2]) -> efficienttrain_models::Result<Vec<Resample>> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner).set_input_size(size)?;
        self.info.input_size = size;
        Ok(Vec::new())
    }

    fn feature_maps(&self, _: &mut Context, _: &Variable) -> efficienttrain_models::Result<Vec<Variable>> {
        self.no_classes()
    }

    fn features(&self, _: &mut Context, _: &Variable) -> efficienttrain_models::Result<Variable> {
        self.no_classes()
    }

    fn head(&self, _: &mut Context, _: &Variable) -> efficienttrain_models::Result<Variable> {
        self.no_classes()
    }
}

/// Predicting the patches that the encoder does not see.
#[derive(Debug)]
pub struct Reconstruction {
    shared: Shared,
}

impl Objective for Reconstruction {
    fn loss(&self, cx: &mut Context, _: &dyn Backbone, batch: &Batch, seed: u64) -> Result<Variable> {
        let mae = read(&self.shared);
        let of_picture = |index| sample_rng(seed, 0, index as u64, MASKED_PATCHES).next_u64();
        let seeds: Vec<u64> = (0..batch.labels.len()).map(of_picture).collect();
        let masking = Masking::draw(&seeds, mae.patches(), mae.mask_ratio())?;
        Ok(mae.loss(cx, &Variable::constant(batch.tensor(&cx.device())?), &masking)?)
    }

    fn has_accuracy(&self) -> bool {
        false
    }

    fn cost(&self, _: &dyn Backbone) -> Result<Cost> {
        Ok(read(&self.shared).cost()?)
    }

    fn export(&self, _: &dyn Backbone, params: &ParamStore) -> Result<Vec<(String, Tensor)>> {
        Ok(read(&self.shared).encoder_weights(params)?.into_iter().collect())
    }

    fn exported_name(&self) -> &'static str {
        ENCODER
    }
}
