//! Models and backbones: the traits that all architectures implement.

use std::fmt::Debug;

use candle_core::Tensor;

use crate::graph::{Context, Mode, Variable, in_thread_pool};
use crate::layers::dropout;
use crate::params::{ParamId, ParamKind, ParamSpec, ParamStore};
use crate::resample::Resample;
use crate::{Error, Family, Result};

/// Description of a model.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// Name in the registry, e.g. `resnet18`.
    pub name: String,
    /// The family it belongs to.
    pub family: Family,
    /// Parameters and buffers at the present input size.
    pub specs: Vec<ParamSpec>,
    /// Height and width of the images, in pixels.
    pub input_size: [usize; 2],
    /// Classes of the head.
    pub num_classes: usize,
    /// Channels of the images.
    pub in_channels: usize,
    /// Dropout of the pooled features in training, 0 to below 1.
    pub drop_rate: f64,
    /// Names of the linear layers that compute the logits.
    pub classifiers: &'static [&'static str],
    /// Channels and strides of [`Backbone::feature_maps`], finest first.
    pub feature_info: Vec<FeatureInfo>,
    /// Number of layers for layer-wise decay: [`ParamSpec::layer`] is below it.
    pub layers: usize,
}

/// One level of a feature pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureInfo {
    /// Channels of the map.
    pub channels: usize,
    /// Pixels of the image for one of the map, along an edge (timm's `reduction`).
    pub stride: usize,
}

impl ModelInfo {
    /// Returns the description at another input size, with the shapes of `changes`.
    #[must_use]
    pub fn at_size(&self, size: [usize; 2], changes: &[Resample]) -> Self {
        let mut info = Self { input_size: size, ..self.clone() };
        for change in changes {
            let shape = &mut info.specs[change.id.index()].shape;
            *shape = change.shape_after(shape);
        }
        info
    }
}

impl FeatureInfo {
    /// Four stages at strides 4, 8, 16 and 32.
    pub fn stages(channels: [usize; 4]) -> Vec<Self> {
        channels.iter().zip([4, 8, 16, 32]).map(|(&channels, stride)| Self { channels, stride }).collect()
    }
}

/// Parameters that share weight decay and learning rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamGroup {
    /// True if weight decay applies.
    pub decay: bool,
    /// Depth for layer-wise decay.
    pub layer: usize,
    /// The parameters, in the model's order.
    pub params: Vec<ParamId>,
}

/// A trainable model: structure only, values come from a [`ParamStore`].
///
/// A model is a value: it never changes, and a model for another input size is made from it.
pub trait Model: Debug + Send + Sync {
    /// Name, parameters and sizes.
    fn info(&self) -> &ModelInfo;

    /// Returns the parameters whose shape differs between this input size and `size`, and how their
    /// values follow.
    ///
    /// # Errors
    /// When the model cannot take images of this size.
    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>>;

    /// Name in the registry, e.g. `resnet18`.
    fn name(&self) -> &str {
        &self.info().name
    }

    /// Parameters and buffers, in the order of a timm state dict.
    fn specs(&self) -> &[ParamSpec] {
        &self.info().specs
    }

    /// Height and width of the images, in pixels.
    fn input_size(&self) -> [usize; 2] {
        self.info().input_size
    }

    /// Number of classes of the head; 0 without a head.
    fn num_classes(&self) -> usize {
        self.info().num_classes
    }

    /// Names of the linear layers that compute the logits (two with a distillation token); their
    /// `weight` has one row per class.
    fn classifiers(&self) -> &'static [&'static str] {
        self.info().classifiers
    }

    /// Channels of the images.
    fn in_channels(&self) -> usize {
        self.info().in_channels
    }

    /// Channels and strides of [`Backbone::feature_maps`].
    fn feature_info(&self) -> &[FeatureInfo] {
        &self.info().feature_info
    }

    /// The trained parameters, grouped by depth (stem first) and by weight decay.
    fn param_groups(&self) -> Vec<ParamGroup> {
        param_groups(self.specs())
    }

    /// Factor of the learning rate under layer-wise decay: `decay ^ (layers - 1 - layer)`, 1 for
    /// the head.
    fn lr_scale(&self, id: ParamId, decay: f64) -> f64 {
        let info = self.info();
        let below = info.layers.saturating_sub(1 + info.specs[id.index()].layer);
        decay.powi(i32::try_from(below).unwrap_or(i32::MAX))
    }
}

/// A vision backbone with a classification head.
pub trait Backbone: Model {
    /// Returns this model for another input size, with everything else as it is, and the parameters
    /// whose shape changes ([`Model::resampling`]).
    ///
    /// Apply each [`Resample`] to the weights, and to whatever else has their shape (moments,
    /// moving averages).
    ///
    /// # Errors
    /// When the model cannot take images of this size.
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)>;

    /// Feature maps `[N, H / stride, W / stride, C]` of channels-last images, as
    /// [`Model::feature_info`] says: what detection and segmentation build on.
    ///
    /// # Errors
    /// When the images do not have the input size.
    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>>;

    /// Pooled features `[N, features]` of channels-last images `[N, H, W, 3]`.
    ///
    /// # Errors
    /// When the images do not have the input size.
    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable>;

    /// Features averaged over the image, `[N, features]`: of models whose head reads a token, the
    /// mean of the patch tokens after the final norm (timm's `global_pool="avg"`); of all others,
    /// [`Self::features`].
    ///
    /// # Errors
    /// When the images do not have the input size.
    fn mean_features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        self.features(cx, images)
    }

    /// Class logits `[N, classes]` of pooled features.
    ///
    /// # Errors
    /// When the shape does not fit.
    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable>;

    /// Class logits `[N, classes]` of channels-last images `[N, H, W, 3]`.
    ///
    /// # Errors
    /// Those of [`Self::features`].
    fn forward(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        in_thread_pool(&cx.device(), || {
            let features = self.features(cx, images)?;
            let features = dropout(cx, &features, self.info().drop_rate, "head_drop")?;
            self.head(cx, &features)
        })
    }
}

/// Logits `[N, classes]` in evaluation mode, of images `[N, 3, H, W]` as files and PyTorch have
/// them.
///
/// # Errors
/// When the images do not fit the model.
pub fn predict(model: &dyn Backbone, params: &ParamStore, images: &Tensor) -> Result<Tensor> {
    let mut cx = Context::new(params, Mode::Eval);
    let images = Variable::constant(images.permute((0, 2, 3, 1))?.contiguous()?);
    Ok(model.forward(&mut cx, &images)?.tensor().clone())
}

pub(crate) fn check_images(model: &dyn Backbone, images: &Variable) -> Result<()> {
    let ([h, w], c) = (model.input_size(), model.in_channels());
    if matches!(images.dims(), &[_, ph, pw, pc] if (ph, pw, pc) == (h, w, c)) {
        return Ok(());
    }
    Err(Error::shape("backbone", format!("images [N, {h}, {w}, {c}]"), images.dims()))
}

/// The last map of a pyramid.
pub(crate) fn last(maps: Vec<Variable>) -> Result<Variable> {
    maps.into_iter()
        .next_back()
        .ok_or_else(|| Error::shape("backbone", "a model with at least one stage", &[]))
}

fn param_groups(specs: &[ParamSpec]) -> Vec<ParamGroup> {
    let mut groups = std::collections::BTreeMap::<(usize, bool), Vec<ParamId>>::new();
    for (index, spec) in specs.iter().enumerate().filter(|(_, spec)| spec.kind == ParamKind::Parameter) {
        groups.entry((spec.layer, spec.decay)).or_default().push(ParamId(index));
    }
    groups.into_iter().map(|((layer, decay), params)| ParamGroup { decay, layer, params }).collect()
}
