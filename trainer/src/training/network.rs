//! Networks that a run trains.

use std::ops::Deref;

use efficienttrain_models::mae::Mae;
use efficienttrain_models::{Backbone, Error as ModelError, Model, Resample};

use crate::error::Result;

/// Network of a run, at one input size.
#[derive(Debug)]
pub enum Network {
    /// A backbone with a classification head.
    Classifier(Box<dyn Backbone>),
    /// Masked autoencoder, whose encoder is pre-trained.
    Autoencoder(Box<Mae>),
}

impl Network {
    /// Returns this network for another input size, and the parameters whose shape changes.
    ///
    /// # Errors
    /// Returns an error if the network does not support images of this size.
    pub fn at_size(&self, size: [usize; 2]) -> Result<(Self, Vec<Resample>)> {
        match self {
            Self::Classifier(model) => {
                let (model, changes) = model.at_size(size)?;
                Ok((Self::Classifier(model), changes))
            }
            Self::Autoencoder(mae) => Ok((Self::Autoencoder(Box::new(mae.at_size(size)?)), Vec::new())),
        }
    }

    /// Returns the backbone with its classification head.
    ///
    /// # Errors
    /// Returns an error if the network is an autoencoder.
    pub fn classifier(&self) -> Result<&dyn Backbone> {
        match self {
            Self::Classifier(model) => Ok(&**model),
            Self::Autoencoder(mae) => {
                let what = "an autoencoder has no classes; load its encoder into a model that has";
                Err(ModelError::Option { model: mae.name().into(), what: what.into() }.into())
            }
        }
    }

    /// Returns the masked autoencoder.
    ///
    /// # Errors
    /// Returns an error if the network is a classifier.
    pub fn autoencoder(&self) -> Result<&Mae> {
        match self {
            Self::Autoencoder(mae) => Ok(mae),
            Self::Classifier(model) => {
                let what = "a classifier has no decoder; make an autoencoder with its encoder";
                Err(ModelError::Option { model: model.name().into(), what: what.into() }.into())
            }
        }
    }
}

impl Deref for Network {
    type Target = dyn Model;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Classifier(model) => &**model,
            Self::Autoencoder(mae) => &**mae,
        }
    }
}

impl From<Box<dyn Backbone>> for Network {
    fn from(model: Box<dyn Backbone>) -> Self {
        Self::Classifier(model)
    }
}

impl From<Mae> for Network {
    fn from(mae: Mae) -> Self {
        Self::Autoencoder(Box::new(mae))
    }
}
