//! Options of a model, and the checks of its input size.

use crate::backbone::{FeatureInfo, ModelInfo};
use crate::params::ParamBuilder;
use crate::{Error, Family, Result};

/// Options that a model is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelOptions {
    /// Classes of the head.
    pub num_classes: usize,
    /// Height and width of the images, in pixels, up to [`MAX_INPUT_SIZE`].
    pub input_size: [usize; 2],
    /// Channels of the images (timm's `in_chans`).
    pub in_channels: usize,
    /// Dropout of the pooled features in training, 0 to below 1 (timm's `drop_rate`).
    pub drop_rate: f64,
}

/// Longest edge of an image that models are made for, in pixels. No count of operations or values of
/// any model overflows up to it.
pub const MAX_INPUT_SIZE: usize = 1 << 14;

/// Most classes and channels of an image.
const MAX_COUNT: usize = 1 << 24;

impl Default for ModelOptions {
    /// ImageNet-1K at 224.
    fn default() -> Self {
        Self { num_classes: 1000, input_size: [224, 224], in_channels: 3, drop_rate: 0.0 }
    }
}

impl ModelOptions {
    /// The description of a model made for these options, with the parameters that `builder` has
    /// collected.
    pub(crate) fn info(
        &self,
        name: &str,
        family: Family,
        builder: ParamBuilder,
        classifiers: &'static [&'static str],
        feature_info: Vec<FeatureInfo>,
    ) -> ModelInfo {
        let specs = builder.finish();
        ModelInfo {
            name: name.into(),
            family,
            layers: specs.iter().map(|s| s.layer + 1).max().unwrap_or(0),
            specs,
            input_size: self.input_size,
            num_classes: self.num_classes,
            in_channels: self.in_channels,
            drop_rate: self.drop_rate,
            classifiers,
            feature_info,
        }
    }

    pub(super) fn check(&self, model: &str) -> Result<()> {
        check_edges(model, self.input_size)?;
        let fault = if !(1..=MAX_COUNT).contains(&self.num_classes) {
            format!("num_classes must be 1 to {MAX_COUNT}, got {}", self.num_classes)
        } else if !(1..=MAX_COUNT).contains(&self.in_channels) {
            format!("in_channels must be 1 to {MAX_COUNT}, got {}", self.in_channels)
        } else if !(0.0..1.0).contains(&self.drop_rate) {
            format!("drop_rate must be 0 to below 1, got {}", self.drop_rate)
        } else {
            return Ok(());
        };
        Err(Error::Option { model: model.into(), what: fault })
    }
}

/// Checks that both edges are in range.
pub(super) fn check_edges(model: &str, [height, width]: [usize; 2]) -> Result<()> {
    let reason = if height == 0 || width == 0 {
        "both edges must be above 0".to_string()
    } else if height.max(width) > MAX_INPUT_SIZE {
        format!("both edges must be at most {MAX_INPUT_SIZE}")
    } else {
        return Ok(());
    };
    Err(Error::InputSize { model: model.into(), height, width, reason })
}

/// Checks that both edges are at least `smallest` pixels; `what` says why.
pub(super) fn at_least(model: &str, [height, width]: [usize; 2], smallest: usize, what: &str) -> Result<()> {
    check_edges(model, [height, width])?;
    if height >= smallest && width >= smallest {
        return Ok(());
    }
    let reason = format!("both edges must be at least {smallest}, {what}");
    Err(Error::InputSize { model: model.into(), height, width, reason })
}

/// Returns rows and columns of the grid of `cell` x `cell` pixels that the input size is divided
/// into.
pub(crate) fn grid(model: &str, [height, width]: [usize; 2], cell: usize, what: &str) -> Result<[usize; 2]> {
    check_edges(model, [height, width])?;
    if !height.is_multiple_of(cell) || !width.is_multiple_of(cell) {
        let reason = format!("both edges must be multiples of {cell}, {what}");
        return Err(Error::InputSize { model: model.into(), height, width, reason });
    }
    Ok([height / cell, width / cell])
}
