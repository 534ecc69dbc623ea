//! Pyramid vision transformer, version 1 (Wang et al., 2021): four stages, attention over a coarser
//! map.
//!
//! | variant | depths | parameters (1000 classes) | MACs at 224 |
//! | --- | --- | --- | --- |
//! | `pvt_tiny` | 2-2-2-2 | 13.2 M | 1.9 G |
//! | `pvt_small` | 3-4-6-3 | 24.5 M | 3.8 G |
//! | `pvt_medium` | 3-4-18-3 | 44.2 M | 6.7 G |
//! | `pvt_large` | 3-8-27-3 | 61.4 M | 9.8 G |
//!
//! Widths 64-128-320-512, heads 1-2-5-8. Takes images, square or not, whose edges are multiples of
//! 32; the four position embeddings follow the size. Names and order of parameters are those of the
//! authors.
//!
//! ```
//! use efficienttrain_models::{ModelOptions, create_model};
//!
//! let model = create_model("pvt_tiny", &ModelOptions::default())?;
//! assert_eq!(model.at_size([96, 96])?.1.len(), 4);
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{ModelOptions, grid};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Variable};
use crate::layers::{
    BlockIndex, Conv2d, ConvShape, LayerNorm, Linear, PreNormBlock, ReducedAttention, flatten,
    global_avg_pool, join_tokens, select_tokens, unflatten,
};
use crate::params::{Init, ParamBuilder, ParamId};
use crate::resample::Resample;
use crate::{Error, Family, Result};

/// Epsilon of the norms in blocks and before the head; those after convolutions have PyTorch's
/// default.
const EPS: f64 = 1e-6;
const INIT: Init = Init::TRANSFORMER;
const WIDTHS: [usize; 4] = [64, 128, 320, 512];
const HEADS: [usize; 4] = [1, 2, 5, 8];
const MLP_RATIOS: [usize; 4] = [8, 8, 4, 4];
const REDUCTIONS: [usize; 4] = [8, 4, 2, 1];

/// Depths of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PvtConfig {
    /// Blocks of each stage.
    pub depths: [usize; 4],
}

/// A pyramid vision transformer with a linear head on its class token.
#[derive(Clone, Debug)]
pub struct Pvt {
    info: ModelInfo,
    cls_token: ParamId,
    stages: Vec<Stage>,
    norm: LayerNorm,
    head: Linear,
}

#[derive(Clone, Debug)]
struct Stage {
    pos_embed: ParamId,
    proj: Conv2d,
    norm: LayerNorm,
    blocks: Vec<Block>,
}

impl Pvt {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is no multiple of 32.
    pub fn new(name: &str, config: PvtConfig, options: &ModelOptions) -> Result<Self> {
        let cells = cells(name, options.input_size)?;
        let first_of = |stage: usize| config.depths[..stage].iter().sum::<usize>();
        let layer_of = |stage: usize| if stage == 0 { 0 } else { first_of(stage) + 1 };
        let depth = first_of(4);
        let mut b = ParamBuilder::default();
        let pos_embeds = [0, 1, 2, 3].map(|i| {
            let [h, w] = map(cells, i);
            b.layer(layer_of(i));
            b.parameter(&format!("pos_embed{}", i + 1), &[1, classes_in(i) + h * w, WIDTHS[i]], INIT)
        });
        let cls_token = b.undecayed("cls_token", &[1, 1, WIDTHS[3]], INIT);
        let stages = [0, 1, 2, 3].map(|i| {
            b.layer(layer_of(i));
            let (proj, norm) = b.within(format!("patch_embed{}", i + 1), |b| Stage::embed(b, options, i));
            let block = |j| {
                let at = BlockIndex { index: first_of(i) + j, depth };
                b.layer(at.index + 1);
                b.within(format!("block{}", i + 1), |b| b.within(j, |b| Block::new(b, i, at)))
            };
            let blocks = (0..config.depths[i]).map(block).collect();
            Stage { pos_embed: pos_embeds[i], proj, norm, blocks }
        });
        b.layer(depth + 1);
        let norm = b.within("norm", |b| LayerNorm::new(b, WIDTHS[3], EPS));
        let zeros = Some(Init::Zeros);
        let head = b.within("head", |b| Linear::new(b, WIDTHS[3], options.num_classes, INIT, zeros));
        let info = options.info(name, Family::Pvt, b, &["head"], FeatureInfo::stages(WIDTHS));
        Ok(Self { info, cls_token, stages: stages.into(), norm, head })
    }

    /// Tokens of the last stage, class token first, and the maps of all stages.
    fn run(&self, cx: &mut Context, images: &Variable) -> Result<(Variable, Vec<Variable>)> {
        check_images(self, images)?;
        let mut maps: Vec<Variable> = Vec::new();
        let mut tokens = None;
        for (i, stage) in self.stages.iter().enumerate() {
            let x = stage.proj.forward(cx, maps.last().unwrap_or(images))?;
            let size = [x.dims()[1], x.dims()[2]];
            let x = flatten(cx, &x)?;
            let x = stage.norm.forward(cx, &x)?;
            let class: Vec<Variable> = (0..classes_in(i)).map(|_| cx.param(self.cls_token)).collect();
            let position = cx.param(stage.pos_embed);
            let mut x = join_tokens(cx, &x, &class, &position)?;
            for block in &stage.blocks {
                x = cx.block(block, &x, move |block, cx, x| block.forward(cx, x, size))?;
            }
            let patches = if class.is_empty() {
                x.clone()
            } else {
                select_tokens(cx, &x, class.len(), size[0] * size[1])?
            };
            maps.push(unflatten(cx, &patches, size)?);
            tokens = Some(x);
        }
        let tokens = tokens.ok_or_else(|| Error::shape("pvt", "at least one stage", &[]))?;
        Ok((tokens, maps))
    }
}

/// Cells of 32 pixels.
fn cells(name: &str, size: [usize; 2]) -> Result<[usize; 2]> {
    grid(name, size, 32, "the stride of the last stage")
}

/// Rows and columns of the map of a stage.
fn map(cells: [usize; 2], stage: usize) -> [usize; 2] {
    cells.map(|c| (8 * c) >> stage)
}

/// Class tokens of a stage: one in the last.
fn classes_in(stage: usize) -> usize {
    usize::from(stage == 3)
}

impl Model for Pvt {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        let (from, to) = (cells(self.name(), self.input_size())?, cells(self.name(), size)?);
        let table = |(i, stage): (usize, &Stage)| {
            Resample::between(stage.pos_embed, classes_in(i), map(from, i), map(to, i))
        };
        Ok(self.stages.iter().enumerate().filter_map(table).collect())
    }
}

impl Backbone for Pvt {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let changes = self.resampling(size)?;
        let info = self.info.at_size(size, &changes);
        Ok((Box::new(Self { info, ..self.clone() }), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        Ok(self.run(cx, images)?.1)
    }

    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let (tokens, _) = self.run(cx, images)?;
        let class = select_tokens(cx, &tokens, 0, 1)?;
        let class = cx.reshape(&class, &[images.dims()[0], WIDTHS[3]])?;
        self.norm.forward(cx, &class)
    }

    fn mean_features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let map = last(self.feature_maps(cx, images)?)?;
        let map = self.norm.forward(cx, &map)?;
        global_avg_pool(cx, &map)
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        self.head.forward(cx, features)
    }
}

impl Stage {
    fn embed(b: &mut ParamBuilder, options: &ModelOptions, i: usize) -> (Conv2d, LayerNorm) {
        let (inputs, patch) = if i == 0 { (options.in_channels, 4) } else { (WIDTHS[i - 1], 2) };
        let proj = b.within("proj", |b| Conv2d::plain(b, ConvShape::patches(inputs, WIDTHS[i], patch)));
        (proj, b.within("norm", |b| LayerNorm::new(b, WIDTHS[i], LayerNorm::DEFAULT_EPS)))
    }
}

/// Attention over a coarser map, and perceptron.
#[derive(Clone, Debug)]
struct Block {
    inner: PreNormBlock,
    attn: ReducedAttention,
}

impl Block {
    fn new(b: &mut ParamBuilder, i: usize, at: BlockIndex) -> Self {
        let width = WIDTHS[i];
        let attn = |b: &mut ParamBuilder| ReducedAttention::new(b, width, HEADS[i], REDUCTIONS[i], INIT);
        let (inner, attn) = PreNormBlock::around(b, [width, MLP_RATIOS[i] * width], EPS, INIT, at, attn);
        Self { inner, attn }
    }

    fn forward(&self, cx: &mut Context, x: &Variable, size: [usize; 2]) -> Result<Variable> {
        self.inner.forward(cx, x, |cx, y| self.attn.forward(cx, y, size))
    }
}
