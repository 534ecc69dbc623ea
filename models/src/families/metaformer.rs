//! CAFormer and ConvFormer (Yu et al., 2022, "MetaFormer Baselines for Vision"): separable
//! convolutions or attention as token mixers of one and the same block.
//!
//! | variant | widths | depths | parameters of CAFormer (1000 classes) | MACs at 224 |
//! | --- | --- | --- | --- | --- |
//! | `caformer_s18`, `convformer_s18` | 64-128-320-512 | 3-3-9-3 | 26.3 M | 4.1 G |
//! | `caformer_s36`, `convformer_s36` | 64-128-320-512 | 3-12-18-3 | 39.3 M | 8.0 G |
//! | `caformer_m36`, `convformer_m36` | 96-192-384-576 | 3-12-18-3 | 56.2 M | 13.2 G |
//! | `caformer_b36`, `convformer_b36` | 128-256-512-768 | 3-12-18-3 | 98.8 M | 23.2 G |
//!
//! CAFormer mixes by convolution in the first two stages and by attention in the last two,
//! ConvFormer by convolution throughout. Takes images of any size from 4 pixels on; nothing changes
//! with it. Names and order of parameters are those of the authors.
//!
//! ```
//! use efficienttrain_models::{FeatureInfo, ModelOptions, create_model};
//!
//! let model = create_model("caformer_s18", &ModelOptions { num_classes: 10, ..ModelOptions::default() })?;
//! assert_eq!(model.feature_info()[3], FeatureInfo { channels: 512, stride: 32 });
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{ModelOptions, at_least};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Variable};
use crate::layers::{
    Activation, Attention, BlockIndex, Conv2d, ConvShape, DepthwiseConv2d, Downsample, Layer, LayerNorm,
    Linear, Mlp, PreNormBlock, Residual, global_avg_pool, run_stages,
};
use crate::params::{Init, ParamBuilder};
use crate::resample::Resample;
use crate::{Family, Result};

const EPS: f64 = 1e-6;
const INIT: Init = Init::TRANSFORMER;
const ZEROS: Option<Init> = Some(Init::Zeros);
/// Channels of an attention head.
const HEAD_WIDTH: usize = 32;

/// Token mixer of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Linear, StarReLU, depthwise 7x7 convolution, linear.
    SeparableConv,
    /// Softmax attention over the whole map.
    Attention,
}

/// Widths, depths and mixers of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaFormerConfig {
    /// Channels of each stage.
    pub widths: [usize; 4],
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Token mixer of each stage.
    pub mixers: [Mixer; 4],
}

/// A MetaFormer with a two-layer head.
#[derive(Clone, Debug)]
pub struct MetaFormer {
    info: ModelInfo,
    downsample: Vec<Downsample>,
    stages: Vec<Vec<Block>>,
    norm: LayerNorm,
    head: MlpHead,
}

impl MetaFormer {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is too small.
    pub fn new(name: &str, config: MetaFormerConfig, options: &ModelOptions) -> Result<Self> {
        check_size(name, options.input_size)?;
        let MetaFormerConfig { widths, depths, mixers } = config;
        let first_of = |stage: usize| depths[..stage].iter().sum::<usize>();
        let depth = first_of(4);
        let mut b = ParamBuilder::default();
        let downsample = b.within("downsample_layers", |b| {
            let layer = |i: usize| {
                b.layer(if i == 0 { 0 } else { first_of(i) + 1 });
                let inputs = if i == 0 { options.in_channels } else { widths[i - 1] };
                b.within(i, |b| downsample(b, inputs, widths[i], i == 0))
            };
            (0..4).map(layer).collect()
        });
        let mut stages = Vec::new();
        for i in 0..4 {
            let mut blocks = Vec::new();
            for j in 0..depths[i] {
                let at = BlockIndex { index: first_of(i) + j, depth };
                b.layer(at.index + 1);
                let block = |b: &mut ParamBuilder| Block::new(b, widths[i], mixers[i], i >= 2, at);
                blocks.push(b.within("stages", |b| b.within(i, |b| b.within(j, block))));
            }
            stages.push(blocks);
        }
        b.layer(depth + 1);
        let norm = b.within("norm", |b| LayerNorm::new(b, widths[3], EPS));
        let head = b.within("head", |b| MlpHead::new(b, widths[3], options.num_classes));
        let info = FeatureInfo::stages(widths);
        let info = options.info(name, Family::MetaFormer, b, &["head.fc2"], info);
        Ok(Self { info, downsample, stages, norm, head })
    }
}

fn check_size(name: &str, size: [usize; 2]) -> Result<()> {
    at_least(name, size, 4, "the stride of the first stage")
}

impl Model for MetaFormer {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        check_size(self.name(), size)?;
        Ok(Vec::new())
    }
}

impl Backbone for MetaFormer {
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

/// Overlapping patches: convolution and norm at the start, norm and convolution between stages.
fn downsample(b: &mut ParamBuilder, inputs: usize, outputs: usize, stem: bool) -> Downsample {
    let (kernel, stride, padding) = if stem { (7, 4, 2) } else { (3, 2, 1) };
    let shape = ConvShape { inputs, outputs, kernel, stride, padding };
    Downsample {
        before: (!stem).then(|| b.within("pre_norm", |b| LayerNorm::unbiased(b, inputs, EPS))),
        conv: b.within("conv", |b| Conv2d::new(b, shape, INIT, ZEROS)),
        after: stem.then(|| b.within("post_norm", |b| LayerNorm::unbiased(b, outputs, EPS))),
    }
}

/// Token mixer and perceptron; late stages scale the skip path.
#[derive(Clone, Debug)]
struct Block {
    inner: PreNormBlock,
    token_mixer: TokenMixer,
}

impl Block {
    fn new(b: &mut ParamBuilder, width: usize, mixer: Mixer, scaled: bool, at: BlockIndex) -> Self {
        let residual = |b: &mut ParamBuilder, name: &str| match scaled {
            true => b.within(name, |b| Residual::scaled_skip(b, "scale", width)),
            false => Residual::default(),
        };
        // In the order of the authors.
        let norm1 = b.within("norm1", |b| LayerNorm::unbiased(b, width, EPS));
        let token_mixer = b.within("token_mixer", |b| TokenMixer::new(b, width, mixer));
        let residual1 = residual(b, "res_scale1");
        let norm2 = b.within("norm2", |b| LayerNorm::unbiased(b, width, EPS));
        let mlp = b.within("mlp", |b| Mlp::star_relu(b, width, 4 * width, INIT));
        let residual2 = residual(b, "res_scale2");
        Self { inner: PreNormBlock { norm1, residual1, norm2, mlp, residual2, at }, token_mixer }
    }
}

impl Layer for Block {
    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        self.inner.forward(cx, x, |cx, y| self.token_mixer.forward(cx, y))
    }
}

#[derive(Clone, Debug)]
enum TokenMixer {
    SeparableConv { pwconv1: Linear, act1: Activation, dwconv: DepthwiseConv2d, pwconv2: Linear },
    Attention(Attention),
}

impl TokenMixer {
    fn new(b: &mut ParamBuilder, width: usize, mixer: Mixer) -> Self {
        match mixer {
            Mixer::SeparableConv => Self::SeparableConv {
                pwconv1: b.within("pwconv1", |b| Linear::new(b, width, 2 * width, INIT, None)),
                act1: b.within("act1", Activation::star_relu),
                dwconv: b.within("dwconv", |b| DepthwiseConv2d::new(b, 2 * width, 7, INIT, false)),
                pwconv2: b.within("pwconv2", |b| Linear::new(b, 2 * width, width, INIT, None)),
            },
            Mixer::Attention => Self::Attention(Attention::new(b, width, width / HEAD_WIDTH, INIT, false)),
        }
    }

    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        match self {
            Self::SeparableConv { pwconv1, act1, dwconv, pwconv2 } => {
                let x = pwconv1.forward(cx, x)?;
                let x = act1.forward(cx, &x)?;
                let x = dwconv.forward(cx, &x)?;
                pwconv2.forward(cx, &x)
            }
            Self::Attention(attention) => attention.forward(cx, x),
        }
    }
}

/// Linear, squared rectifier, norm, linear.
#[derive(Clone, Debug)]
struct MlpHead {
    fc1: Linear,
    norm: LayerNorm,
    fc2: Linear,
}

impl MlpHead {
    fn new(b: &mut ParamBuilder, width: usize, classes: usize) -> Self {
        Self {
            fc1: b.within("fc1", |b| Linear::new(b, width, 4 * width, INIT, ZEROS)),
            norm: b.within("norm", |b| LayerNorm::new(b, 4 * width, LayerNorm::DEFAULT_EPS)),
            fc2: b.within("fc2", |b| Linear::new(b, 4 * width, classes, INIT, ZEROS)),
        }
    }

    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let x = self.fc1.forward(cx, x)?;
        let x = Activation::SquaredRelu.forward(cx, &x)?;
        let x = self.norm.forward(cx, &x)?;
        self.fc2.forward(cx, &x)
    }
}
