//! ConvNeXt (Liu et al., 2022): a convolutional net shaped like a transformer, with depthwise 7x7
//! convolutions.
//!
//! | variant | widths | depths | parameters (1000 classes) | MACs at 224 |
//! | --- | --- | --- | --- | --- |
//! | `convnext_atto` | 40-80-160-320 | 2-2-6-2 | 3.7 M | 0.55 G |
//! | `convnext_femto` | 48-96-192-384 | 2-2-6-2 | 5.2 M | 0.78 G |
//! | `convnext_pico` | 64-128-256-512 | 2-2-6-2 | 9.0 M | 1.4 G |
//! | `convnext_nano` | 80-160-320-640 | 2-2-8-2 | 15.6 M | 2.4 G |
//! | `convnext_tiny` | 96-192-384-768 | 3-3-9-3 | 28.6 M | 4.5 G |
//! | `convnext_small` | 96-192-384-768 | 3-3-27-3 | 50.2 M | 8.7 G |
//! | `convnext_base` | 128-256-512-1024 | 3-3-27-3 | 88.6 M | 15.4 G |
//! | `convnext_large` | 192-384-768-1536 | 3-3-27-3 | 197.8 M | 34.4 G |
//!
//! The four smallest are timm's, with the widths and depths of ConvNeXt V2 (Woo et al., 2023).
//! Takes images of any size from 32 pixels on; nothing changes with it. Names and order of
//! parameters are those of the authors.
//!
//! ```
//! use efficienttrain_models::{ModelOptions, cost, create_model};
//!
//! let model = create_model("convnext_tiny", &ModelOptions::default())?;
//! assert_eq!(cost(&*model)?.params, 28_589_128);
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{ModelOptions, at_least};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Variable};
use crate::layers::{
    BlockIndex, Conv2d, ConvShape, DepthwiseConv2d, Downsample, Layer, LayerNorm, Linear, Mlp, Residual,
    global_avg_pool, run_stages,
};
use crate::params::{Init, ParamBuilder};
use crate::resample::Resample;
use crate::{Family, Result};

const EPS: f64 = 1e-6;
const INIT: Init = Init::TRANSFORMER;
const ZEROS: Option<Init> = Some(Init::Zeros);
/// First value of layer scale.
const LAYER_SCALE: f64 = 1e-6;

/// Width and depths of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvNextConfig {
    /// Channels of the first stage; each following one has twice as many.
    pub width: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
}

/// A ConvNeXt with a linear head.
#[derive(Clone, Debug)]
pub struct ConvNext {
    info: ModelInfo,
    downsample: Vec<Downsample>,
    stages: Vec<Vec<Block>>,
    norm: LayerNorm,
    head: Linear,
}

impl ConvNext {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is too small.
    pub fn new(name: &str, config: ConvNextConfig, options: &ModelOptions) -> Result<Self> {
        check_size(name, options.input_size)?;
        let ConvNextConfig { width, depths } = config;
        let mut b = ParamBuilder::default();
        let downsample = b.within("downsample_layers", |b| {
            let layer = |i: usize| {
                b.layer(if i == 0 { 0 } else { layer_of(i, 0) });
                b.within(i, |b| downsample(b, options.in_channels, width, i))
            };
            (0..4).map(layer).collect()
        });
        let (mut index, depth) = (0, depths.iter().sum());
        let mut stages = Vec::new();
        for (i, &count) in depths.iter().enumerate() {
            let mut blocks = Vec::new();
            for j in 0..count {
                b.layer(layer_of(i, j));
                let block = |b: &mut ParamBuilder| Block::new(b, width << i, BlockIndex { index, depth });
                blocks.push(b.within("stages", |b| b.within(i, |b| b.within(j, block))));
                index += 1;
            }
            stages.push(blocks);
        }
        b.layer(HEAD_LAYER);
        let norm = b.within("norm", |b| LayerNorm::new(b, 8 * width, EPS));
        let head = b.within("head", |b| Linear::new(b, 8 * width, options.num_classes, INIT, ZEROS));
        let info = FeatureInfo::stages([0, 1, 2, 3].map(|i| width << i));
        let info = options.info(name, Family::ConvNext, b, &["head"], info);
        Ok(Self { info, downsample, stages, norm, head })
    }
}

fn check_size(name: &str, size: [usize; 2]) -> Result<()> {
    at_least(name, size, 32, "the stride of the last stage")
}

const HEAD_LAYER: usize = 13;

/// Layer of block `j` of stage `i` for layer-wise decay, as the authors count: three blocks of the
/// long stage are one layer, and there are twelve whatever the depth.
fn layer_of(i: usize, j: usize) -> usize {
    match i {
        0 | 1 => i + 1,
        2 => 3 + j / 3,
        _ => 12,
    }
}

impl Model for ConvNext {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        check_size(self.name(), size)?;
        Ok(Vec::new())
    }
}

impl Backbone for ConvNext {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let changes = self.resampling(size)?;
        let info = self.info.at_size(size, &changes);
        Ok((Box::new(Self { info, ..self.clone() }), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        check_images(self, images)?;
        run_stages(cx, images, &self.downsample, &self.stages)
    }

    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let x = last(self.feature_maps(cx, images)?)?;
        let x = global_avg_pool(cx, &x)?;
        self.norm.forward(cx, &x)
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        self.head.forward(cx, features)
    }
}

/// Patches and norm at the start, norm and patches between stages.
fn downsample(b: &mut ParamBuilder, in_channels: usize, width: usize, stage: usize) -> Downsample {
    let stem = stage == 0;
    let (inputs, outputs) = if stem { (in_channels, width) } else { (width << (stage - 1), width << stage) };
    let shape = ConvShape::patches(inputs, outputs, if stem { 4 } else { 2 });
    Downsample {
        before: (!stem).then(|| b.within(0, |b| LayerNorm::new(b, inputs, EPS))),
        conv: b.within(usize::from(!stem), |b| Conv2d::new(b, shape, INIT, ZEROS)),
        after: stem.then(|| b.within(1, |b| LayerNorm::new(b, outputs, EPS))),
    }
}

/// Depthwise convolution, norm, perceptron, layer scale, on one residual branch.
#[derive(Clone, Debug)]
struct Block {
    residual: Residual,
    dwconv: DepthwiseConv2d,
    norm: LayerNorm,
    mlp: Mlp,
    at: BlockIndex,
}

impl Block {
    fn new(b: &mut ParamBuilder, width: usize, at: BlockIndex) -> Self {
        Self {
            residual: Residual::layer_scale(b, "gamma", width, LAYER_SCALE),
            dwconv: b.within("dwconv", |b| DepthwiseConv2d::new(b, width, 7, INIT, true)),
            norm: b.within("norm", |b| LayerNorm::new(b, width, EPS)),
            mlp: Mlp::named(b, ["pwconv1", "pwconv2"], width, 4 * width, INIT),
            at,
        }
    }
}

impl Layer for Block {
    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let y = self.dwconv.forward(cx, x)?;
        let y = self.norm.forward(cx, &y)?;
        let y = self.mlp.forward(cx, &y)?;
        self.residual.forward(cx, x, &y, self.at, "")
    }
}
