//! Swin transformer (Liu et al., 2021): attention in square windows, shifted in every second block.
//!
//! | variant | width | depths | heads | parameters (1000 classes) | MACs at 224 |
//! | --- | --- | --- | --- | --- | --- |
//! | `swin_tiny` | 96 | 2-2-6-2 | 3-6-12-24 | 28.3 M | 4.5 G |
//! | `swin_small` | 96 | 2-2-18-2 | 3-6-12-24 | 49.6 M | 8.7 G |
//! | `swin_base` | 128 | 2-2-18-2 | 4-8-16-32 | 87.8 M | 15.4 G |
//!
//! Takes images, square or not, whose edges are multiples of 32. The window is a 32nd of the image
//! (7 at 224, 3 at 96), so every stage has whole windows; with it change the tables of relative
//! position bias, one per block. Names and order of parameters are those of the authors.
//!
//! ```
//! use efficienttrain_models::{ModelOptions, create_model};
//!
//! let model = create_model("swin_tiny", &ModelOptions { input_size: [96, 96], ..ModelOptions::default() })?;
//! let (_, tables) = model.at_size([224, 224])?;
//! assert_eq!(tables.len(), 2 + 2 + 6 + 2);
//! assert_eq!((tables[0].from, tables[0].to), ([5, 5], [13, 13]));
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{ModelOptions, grid};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Variable};
use crate::layers::{
    BlockIndex, Conv2d, ConvShape, LayerNorm, Linear, PreNormBlock, WindowAttention, global_avg_pool,
    merge_patches,
};
use crate::ops::Windows;
use crate::params::{Init, ParamBuilder};
use crate::resample::Resample;
use crate::{Family, Result};

const EPS: f64 = LayerNorm::DEFAULT_EPS;
const INIT: Init = Init::TRANSFORMER;

/// Width, depths and heads of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwinConfig {
    /// Channels of the first stage; each following one has twice as many.
    pub width: usize,
    /// Blocks of each stage.
    pub depths: [usize; 4],
    /// Heads of the first stage; each following one has twice as many.
    pub heads: usize,
}

/// A Swin transformer with a linear head.
#[derive(Clone, Debug)]
pub struct Swin {
    info: ModelInfo,
    window: [usize; 2],
    patch_embed: Conv2d,
    patch_norm: LayerNorm,
    stages: Vec<Stage>,
    norm: LayerNorm,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Stage {
    blocks: Vec<Block>,
    downsample: Option<Merge>,
}

impl Swin {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is no multiple of 32.
    pub fn new(name: &str, config: SwinConfig, options: &ModelOptions) -> Result<Self> {
        let SwinConfig { width, depths, heads } = config;
        let window = window(name, options.input_size)?;
        let depth: usize = depths.iter().sum();
        let mut b = ParamBuilder::default();
        let (patch_embed, patch_norm) = b.within("patch_embed", |b| {
            let shape = ConvShape::patches(options.in_channels, width, 4);
            let proj = b.within("proj", |b| Conv2d::plain(b, shape));
            (proj, b.within("norm", |b| LayerNorm::new(b, width, EPS)))
        });
        let mut stages = Vec::new();
        let mut first = 0;
        for (i, &count) in depths.iter().enumerate() {
            let width = width << i;
            stages.push(b.within("layers", |b| {
                b.within(i, |b| Stage {
                    blocks: b.within("blocks", |b| {
                        let block = |j| {
                            b.layer(first + j + 1);
                            b.within(j, |b| {
                                Block::new(
                                    b,
                                    width,
                                    heads << i,
                                    window,
                                    BlockIndex { index: first + j, depth },
                                )
                            })
                        };
                        (0..count).map(block).collect()
                    }),
                    downsample: (i < 3).then(|| b.within("downsample", |b| Merge::new(b, width))),
                })
            }));
            first += count;
        }
        b.layer(depth + 1);
        let norm = b.within("norm", |b| LayerNorm::new(b, 8 * width, EPS));
        let zeros = Some(Init::Zeros);
        let head = b.within("head", |b| Linear::new(b, 8 * width, options.num_classes, INIT, zeros));
        let info = FeatureInfo::stages([0, 1, 2, 3].map(|i| width << i));
        let info = options.info(name, Family::Swin, b, &["head"], info);
        Ok(Self { info, window, patch_embed, patch_norm, stages, norm, head })
    }
}

/// The window is a 32nd of the image.
fn window(name: &str, size: [usize; 2]) -> Result<[usize; 2]> {
    grid(name, size, 32, "so that windows of a 32nd of the image tile every stage")
}

impl Model for Swin {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        let [from, to] = [self.window, window(self.name(), size)?].map(|w| w.map(|w| 2 * w - 1));
        let tables = self.stages.iter().flat_map(|s| &s.blocks).map(|block| block.attn.table());
        Ok(tables.filter_map(|id| Resample::between(id, 0, from, to)).collect())
    }
}

impl Backbone for Swin {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let changes = self.resampling(size)?;
        let window = window(self.name(), size)?;
        let info = self.info.at_size(size, &changes);
        Ok((Box::new(Self { info, window, ..self.clone() }), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        check_images(self, images)?;
        let x = self.patch_embed.forward(cx, images)?;
        let mut x = self.patch_norm.forward(cx, &x)?;
        let mut maps = Vec::new();
        for stage in &self.stages {
            for (i, block) in stage.blocks.iter().enumerate() {
                let windows = windows(&x, self.window, i % 2 == 1);
                x = cx.block(block, &x, move |block, cx, x| block.forward(cx, x, windows))?;
            }
            maps.push(x.clone());
            if let Some(downsample) = &stage.downsample {
                x = downsample.forward(cx, &x)?;
            }
        }
        Ok(maps)
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

/// Windows on a map; shifted ones by half a window, but not along an edge that one window covers.
fn windows(x: &Variable, size: [usize; 2], shifted: bool) -> Windows {
    let shift = [0, 1].map(|i| if shifted && x.dims()[1 + i] > size[i] { size[i] / 2 } else { 0 });
    Windows { size, shift }
}

/// Window attention and perceptron.
#[derive(Clone, Debug)]
struct Block {
    inner: PreNormBlock,
    attn: WindowAttention,
}

impl Block {
    fn new(b: &mut ParamBuilder, width: usize, heads: usize, window: [usize; 2], at: BlockIndex) -> Self {
        let attn = |b: &mut ParamBuilder| WindowAttention::new(b, width, heads, window, INIT);
        let (inner, attn) = PreNormBlock::around(b, [width, 4 * width], EPS, INIT, at, attn);
        Self { inner, attn }
    }

    fn forward(&self, cx: &mut Context, x: &Variable, windows: Windows) -> Result<Variable> {
        self.inner.forward(cx, x, |cx, y| self.attn.forward(cx, y, windows))
    }
}

/// Four neighbors side by side, norm, half of the channels.
#[derive(Clone, Debug)]
struct Merge {
    reduction: Linear,
    norm: LayerNorm,
}

impl Merge {
    fn new(b: &mut ParamBuilder, width: usize) -> Self {
        let reduction = b.within("reduction", |b| Linear::new(b, 4 * width, 2 * width, INIT, None));
        Self { reduction, norm: b.within("norm", |b| LayerNorm::new(b, 4 * width, EPS)) }
    }

    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let x = merge_patches(cx, x)?;
        let x = self.norm.forward(cx, &x)?;
        self.reduction.forward(cx, &x)
    }
}
