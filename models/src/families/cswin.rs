//! CSWin transformer (Dong et al., 2022): attention in vertical stripes for half of the heads and
//! horizontal ones for the others, and a depthwise convolution of the values as position encoding.
//!
//! | variant | width | depths | heads | parameters (1000 classes) | MACs at 224 |
//! | --- | --- | --- | --- | --- | --- |
//! | `cswin_tiny` | 64 | 1-2-21-1 | 2-4-8-16 | 22.3 M | 4.3 G |
//! | `cswin_small` | 64 | 2-4-32-2 | 2-4-8-16 | 34.6 M | 6.8 G |
//! | `cswin_base` | 96 | 2-4-32-2 | 4-8-16-32 | 77.4 M | 15.0 G |
//! | `cswin_large` | 144 | 2-4-32-2 | 6-12-24-24 | 173.3 M | 33.1 G |
//!
//! Takes images, square or not, whose edges are multiples of 32. Stripes are 1, 2 and a 32nd of the
//! image wide; no parameter changes with the size. Names and order of parameters are those of the
//! authors.
//!
//! ```
//! use efficienttrain_models::{ModelOptions, create_model};
//!
//! let model = create_model("CSWin_64_12211_tiny_224", &ModelOptions::default())?;
//! assert_eq!(model.name(), "cswin_tiny");
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{ModelOptions, grid};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Variable};
use crate::layers::{
    BlockIndex, Conv2d, ConvShape, Downsample, Layer, LayerNorm, Linear, Mlp, PreNormBlock, Residual,
    StripeAttention, global_avg_pool, run_stages,
};
use crate::ops::Windows;
use crate::params::{Init, ParamBuilder};
use crate::resample::Resample;
use crate::{Family, Result};

const EPS: f64 = LayerNorm::DEFAULT_EPS;
const INIT: Init = Init::TRANSFORMER;
const ZEROS: Option<Init> = Some(Init::Zeros);

/// Width, depths and heads of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CsWinConfig {
    /// Channels of the first stage; each following one has twice as many.
    pub width: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Heads of each stage.
    pub heads: [usize; 4],
}

/// A CSWin transformer with a linear head.
#[derive(Clone, Debug)]
pub struct CsWin {
    info: ModelInfo,
    embeds: Vec<Downsample>,
    stages: Vec<Vec<Block>>,
    norm: LayerNorm,
    head: Linear,
}

impl CsWin {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is no multiple of 32.
    pub fn new(name: &str, config: CsWinConfig, options: &ModelOptions) -> Result<Self> {
        cells(name, options.input_size)?;
        let CsWinConfig { width, depths, heads } = config;
        let (mut index, depth) = (0, depths.iter().sum());
        let mut b = ParamBuilder::default();
        let (mut embeds, mut stages) = (Vec::new(), Vec::new());
        for i in 0..4 {
            b.layer(if i == 0 { 0 } else { layer_of(i, 0) });
            embeds.push(match i {
                0 => b.within("stage1_conv_embed", |b| stem(b, options.in_channels, width)),
                _ => b.within(format!("merge{i}"), |b| merge(b, width << i)),
            });
            let mut blocks = Vec::new();
            for j in 0..depths[i] {
                b.layer(layer_of(i, j));
                let block = |b: &mut ParamBuilder| {
                    Block::new(b, width << i, heads[i], i, BlockIndex { index, depth })
                };
                blocks.push(b.within(format!("stage{}", i + 1), |b| b.within(j, block)));
                index += 1;
            }
            stages.push(blocks);
        }
        b.layer(HEAD_LAYER);
        let norm = b.within("norm", |b| LayerNorm::new(b, 8 * width, EPS));
        let head = b.within("head", |b| Linear::new(b, 8 * width, options.num_classes, INIT, ZEROS));
        let info = FeatureInfo::stages([0, 1, 2, 3].map(|i| width << i));
        let info = options.info(name, Family::CsWin, b, &["head"], info);
        Ok(Self { info, embeds, stages, norm, head })
    }
}

const HEAD_LAYER: usize = 21;

/// Layer of block `j` of stage `i` for layer-wise decay, as the authors count: two blocks are one
/// layer, and there are twenty whatever the depth.
fn layer_of(i: usize, j: usize) -> usize {
    match i {
        0 => 1,
        1 => 2 + j / 2,
        2 => 4 + j / 2,
        _ => 20,
    }
}

fn cells(name: &str, size: [usize; 2]) -> Result<[usize; 2]> {
    grid(name, size, 32, "so that stripes of a 32nd of the image tile the third stage")
}

impl Model for CsWin {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        cells(self.name(), size)?;
        Ok(Vec::new())
    }
}

impl Backbone for CsWin {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let changes = self.resampling(size)?;
        let info = self.info.at_size(size, &changes);
        Ok((Box::new(Self { info, ..self.clone() }), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        check_images(self, images)?;
        run_stages(cx, images, &self.embeds, &self.stages)
    }

    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let x = last(self.feature_maps(cx, images)?)?;
        let x = self.norm.forward(cx, &x)?;
        global_avg_pool(cx, &x)
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        self.head.forward(cx, features)
    }
}

/// Overlapping patches of images, and a norm.
fn stem(b: &mut ParamBuilder, inputs: usize, outputs: usize) -> Downsample {
    let shape = ConvShape { inputs, outputs, kernel: 7, stride: 4, padding: 2 };
    let conv = b.within(0, |b| Conv2d::plain(b, shape));
    // The authors' sequence has a rearrangement without parameters between the two.
    Downsample { before: None, conv, after: Some(b.within(2, |b| LayerNorm::new(b, outputs, EPS))) }
}

/// Overlapping patches of a map, twice as many channels, and a norm.
fn merge(b: &mut ParamBuilder, outputs: usize) -> Downsample {
    let shape = ConvShape { inputs: outputs / 2, outputs, kernel: 3, stride: 2, padding: 1 };
    let conv = b.within("conv", |b| Conv2d::plain(b, shape));
    Downsample { before: None, conv, after: Some(b.within("norm", |b| LayerNorm::new(b, outputs, EPS))) }
}

/// Stripe attention and perceptron.
#[derive(Clone, Debug)]
struct Block {
    inner: PreNormBlock,
    qkv: Linear,
    attns: StripeAttention,
    proj: Linear,
    stage: usize,
}

impl Block {
    fn new(b: &mut ParamBuilder, width: usize, heads: usize, stage: usize, at: BlockIndex) -> Self {
        // In the order of the authors.
        let qkv = b.within("qkv", |b| Linear::new(b, width, 3 * width, INIT, ZEROS));
        let norm1 = b.within("norm1", |b| LayerNorm::new(b, width, EPS));
        let proj = b.within("proj", |b| Linear::new(b, width, width, INIT, ZEROS));
        let attns = StripeAttention::new(b, width, heads, if stage == 3 { 1 } else { 2 });
        let mlp = b.within("mlp", |b| Mlp::new(b, width, 4 * width, INIT));
        let norm2 = b.within("norm2", |b| LayerNorm::new(b, width, EPS));
        let (residual1, residual2) = (Residual::default(), Residual::default());
        let inner = PreNormBlock { norm1, residual1, norm2, mlp, residual2, at };
        Self { inner, qkv, attns, proj, stage }
    }

    /// Vertical and horizontal stripes on a map of this stage; the whole map in the last.
    fn windows(&self, [h, w]: [usize; 2]) -> Vec<Windows> {
        // The third stage has twice as many tokens along an edge as there are cells of 32 pixels.
        let size = match self.stage {
            0 => vec![[h, 1], [1, w]],
            1 => vec![[h, 2], [2, w]],
            2 => vec![[h, w / 2], [h / 2, w]],
            _ => vec![[h, w]],
        };
        size.into_iter().map(|size| Windows { size, shift: [0, 0] }).collect()
    }
}

impl Layer for Block {
    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let windows = self.windows([x.dims()[1], x.dims()[2]]);
        self.inner.forward(cx, x, |cx, y| {
            let qkv = self.qkv.forward(cx, y)?;
            let y = self.attns.forward(cx, &qkv, &windows)?;
            self.proj.forward(cx, &y)
        })
    }
}
