//! What every backbone can do.

use std::fmt::Debug;

use candle_core::Tensor;

use crate::graph::{Act, Context, Mode};
use crate::params::{ParamSpec, ParamStore};
use crate::resample::Resample;
use crate::{Error, Family, Result};

/// What every backbone is described by.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// Name in the registry, e.g. `resnet18`.
    pub name: String,
    /// The family it belongs to.
    pub family: Family,
    /// Parameters and buffers at the present input size.
    pub specs: Vec<ParamSpec>,
    /// Height and width of the pictures, in pixels.
    pub input_size: [usize; 2],
    /// Classes of the head.
    pub num_classes: usize,
    /// Name of the linear layer that gives the logits.
    pub classifier: &'static str,
}

/// A vision backbone with a classification head: structure only, values come from a [`ParamStore`].
pub trait Backbone: Debug + Send + Sync {
    /// Name, parameters and sizes.
    fn blueprint(&self) -> &Blueprint;

    /// Name in the registry, e.g. `resnet18`.
    fn name(&self) -> &str {
        &self.blueprint().name
    }

    /// Parameters and buffers at the current input size, in the order of a timm state dict.
    fn specs(&self) -> &[ParamSpec] {
        &self.blueprint().specs
    }

    /// Height and width that the shapes of [`Self::specs`] belong to, in pixels.
    fn input_size(&self) -> [usize; 2] {
        self.blueprint().input_size
    }

    /// Number of classes of the head.
    fn num_classes(&self) -> usize {
        self.blueprint().num_classes
    }

    /// Name of the linear layer that gives the logits, as in timm: its `weight` has a row a class.
    fn classifier(&self) -> &str {
        self.blueprint().classifier
    }

    /// Changes the input size; gives the parameters whose shape changes with it.
    ///
    /// Apply each [`Resample`] to the weights, and to whatever else has their shape (moments, moving averages).
    ///
    /// # Errors
    /// When the model cannot take images of this size.
    fn set_input_size(&mut self, size: [usize; 2]) -> Result<Vec<Resample>>;

    /// Pooled features `[N, features]` of channels-last pictures `[N, H, W, 3]`.
    ///
    /// # Errors
    /// When the pictures do not have the input size.
    fn features(&self, cx: &mut Context, pictures: &Act) -> Result<Act>;

    /// Class logits `[N, classes]` of pooled features.
    ///
    /// # Errors
    /// When the shape does not fit.
    fn head(&self, cx: &mut Context, features: &Act) -> Result<Act>;

    /// Class logits `[N, classes]` of channels-last pictures `[N, H, W, 3]`.
    ///
    /// # Errors
    /// As [`Self::features`].
    fn forward(&self, cx: &mut Context, pictures: &Act) -> Result<Act> {
        let features = self.features(cx, pictures)?;
        self.head(cx, &features)
    }
}

/// Logits `[N, classes]` in evaluation mode, of pictures `[N, 3, H, W]` as files and PyTorch have them.
///
/// # Errors
/// When the pictures do not fit the model.
pub fn predict(model: &dyn Backbone, params: &ParamStore, pictures: &Tensor) -> Result<Tensor> {
    let mut cx = Context::new(params, Mode::Eval);
    let pictures = Act::constant(pictures.permute((0, 2, 3, 1))?.contiguous()?);
    Ok(model.forward(&mut cx, &pictures)?.tensor().clone())
}

pub(crate) fn check_pictures(model: &dyn Backbone, pictures: &Act) -> Result<()> {
    match (pictures.dims(), model.input_size()) {
        (&[_, h, w, 3], [mh, mw]) if h == mh && w == mw => Ok(()),
        (got, [h, w]) => Err(Error::shape("backbone", format!("pictures [N, {h}, {w}, 3]"), got)),
    }
}
