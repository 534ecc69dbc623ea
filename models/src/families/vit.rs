//! DeiT (Touvron et al., 2021): the plain vision transformer, 16x16 patches, class token, learned
//! positions.
//!
//! | variant | width | heads | parameters (1000 classes) | MACs at 224 |
//! | --- | --- | --- | --- | --- |
//! | `deit_tiny` | 192 | 3 | 5.7 M | 1.3 G |
//! | `deit_small` | 384 | 6 | 22.1 M | 4.6 G |
//! | `deit_base` | 768 | 12 | 86.6 M | 17.6 G |
//!
//! Twelve blocks each. `deit_tiny_distilled`, ... have a distillation token with a head of its own
//! besides; their logits are the mean of both heads, as timm's are. Takes images, square or not,
//! whose edges are multiples of 16; the position embedding follows the size. A feature pyramid has
//! four maps, all at stride 16, after each quarter of the blocks.
//!
//! ```
//! use efficienttrain_models::{ModelOptions, create_model};
//!
//! let model = create_model("deit_small", &ModelOptions { input_size: [96, 96], ..ModelOptions::default() })?;
//! let (_, changes) = model.at_size([224, 224])?;
//! assert_eq!((changes[0].from, changes[0].to), ([6, 6], [14, 14]));
//! # Ok::<(), efficienttrain_models::Error>(())
//! ```

use super::options::{self, ModelOptions};
use crate::backbone::{Backbone, FeatureInfo, Model, ModelInfo, check_images, last};
use crate::graph::{Context, Op, Variable};
use crate::layers::{
    Attention, BlockIndex, Conv2d, ConvShape, LayerNorm, Linear, PreNormBlock, flatten, global_avg_pool,
    join_tokens, select_tokens, unflatten,
};
use crate::ops;
use crate::params::{Init, ParamBuilder, ParamId};
use crate::resample::Resample;
use crate::{Error, Family, Result};

/// Edge of a patch, in pixels.
pub(crate) const PATCH: usize = 16;
/// PyTorch's default would be 1e-5; all vision transformers of timm use this.
pub(crate) const EPS: f64 = 1e-6;
const INIT: Init = Init::TRANSFORMER;
const ZEROS: Option<Init> = Some(Init::Zeros);
/// Maps of the feature pyramid.
const LEVELS: usize = 4;

/// Width, heads and depth of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VitConfig {
    /// Channels of a token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks.
    pub depth: usize,
    /// Add a distillation token with its own head.
    pub distilled: bool,
}

/// A vision transformer with a linear head on its class token, and one on its distillation token if
/// it has one.
#[derive(Clone, Debug)]
pub struct VisionTransformer {
    info: ModelInfo,
    tokens: Vec<ParamId>,
    pos_embed: ParamId,
    patch_embed: Conv2d,
    blocks: Vec<Block>,
    norm: LayerNorm,
    heads: Vec<Linear>,
}

impl VisionTransformer {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is no multiple of the patch.
    pub fn new(name: &str, config: VitConfig, options: &ModelOptions) -> Result<Self> {
        let VitConfig { width, heads, depth, distilled } = config;
        let [rows, cols] = grid(name, options.input_size)?;
        let mut b = ParamBuilder::default();
        let names: &[&str] = if distilled { &["cls_token", "dist_token"] } else { &["cls_token"] };
        // Registered in timm's order: class token, positions, distillation token.
        let class = b.undecayed(names[0], &[1, 1, width], INIT);
        let pos_embed = b.undecayed("pos_embed", &[1, names.len() + rows * cols, width], INIT);
        let other = names[1..].iter().map(|name| b.undecayed(name, &[1, 1, width], INIT));
        let tokens = [class].into_iter().chain(other).collect();
        let patches = ConvShape::patches(options.in_channels, width, PATCH);
        let patch_embed = b.within("patch_embed", |b| b.within("proj", |b| Conv2d::plain(b, patches)));
        let block = |i| {
            b.layer(i + 1);
            b.within("blocks", |b| {
                b.within(i, |b| Block::new(b, width, heads, BlockIndex { index: i, depth }))
            })
        };
        let blocks = (0..depth).map(block).collect();
        b.layer(depth + 1);
        let norm = b.within("norm", |b| LayerNorm::new(b, width, EPS));
        let classifiers: &[&str] = if distilled { &["head", "head_dist"] } else { &["head"] };
        let classifier = |b: &mut ParamBuilder| Linear::new(b, width, options.num_classes, INIT, ZEROS);
        let heads = classifiers.iter().map(|name| b.within(name, classifier)).collect();
        let info = vec![FeatureInfo { channels: width, stride: PATCH }; LEVELS];
        let info = options.info(name, Family::Vit, b, classifiers, info);
        Ok(Self { info, tokens, pos_embed, patch_embed, blocks, norm, heads })
    }

    /// Tokens after each block that `keep` wants, and after the last.
    fn run(
        &self,
        cx: &mut Context,
        images: &Variable,
        mut keep: impl FnMut(usize, &Variable),
    ) -> Result<Variable> {
        check_images(self, images)?;
        let patches = self.patch_embed.forward(cx, images)?;
        let patches = flatten(cx, &patches)?;
        let tokens: Vec<Variable> = self.tokens.iter().map(|&id| cx.param(id)).collect();
        let position = cx.param(self.pos_embed);
        let mut x = join_tokens(cx, &patches, &tokens, &position)?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = cx.block(block, &x, Block::forward)?;
            keep(i, &x);
        }
        Ok(x)
    }
}

/// Rows and columns of patches.
fn grid(name: &str, size: [usize; 2]) -> Result<[usize; 2]> {
    options::grid(name, size, PATCH, "the edge of a patch")
}

impl Model for VisionTransformer {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn resampling(&self, size: [usize; 2]) -> Result<Vec<Resample>> {
        let (from, to) = (grid(self.name(), self.input_size())?, grid(self.name(), size)?);
        Ok(Resample::between(self.pos_embed, self.tokens.len(), from, to).into_iter().collect())
    }
}

impl Backbone for VisionTransformer {
    fn at_size(&self, size: [usize; 2]) -> Result<(Box<dyn Backbone>, Vec<Resample>)> {
        let changes = self.resampling(size)?;
        let info = self.info.at_size(size, &changes);
        Ok((Box::new(Self { info, ..self.clone() }), changes))
    }

    fn feature_maps(&self, cx: &mut Context, images: &Variable) -> Result<Vec<Variable>> {
        let (depth, mut levels) = (self.blocks.len(), Vec::new());
        self.run(cx, images, |i, x| {
            if (i + 1) * LEVELS % depth < LEVELS {
                levels.push(x.clone());
            }
        })?;
        let [rows, cols] = grid(self.name(), self.input_size())?;
        let map = |x: Variable| {
            let patches = select_tokens(cx, &x, self.tokens.len(), rows * cols)?;
            unflatten(cx, &patches, [rows, cols])
        };
        levels.into_iter().map(map).collect()
    }

    /// The class token, and the distillation token behind it if there is one: `[N, width]` or `[N,
    /// 2 width]`.
    fn features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let x = self.run(cx, images, |_, _| {})?;
        // Layer norm works token by token: only those that are read need it.
        let tokens = select_tokens(cx, &x, 0, self.tokens.len())?;
        let normed = self.norm.forward(cx, &tokens)?;
        let (n, length) = (normed.dims()[0], normed.dims()[1] * normed.dims()[2]);
        cx.reshape(&normed, &[n, length])
    }

    fn mean_features(&self, cx: &mut Context, images: &Variable) -> Result<Variable> {
        let map = last(self.feature_maps(cx, images)?)?;
        let map = self.norm.forward(cx, &map)?;
        global_avg_pool(cx, &map)
    }

    fn head(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        let [only] = self.heads.as_slice() else { return self.mean_of_heads(cx, features) };
        only.forward(cx, features)
    }
}

impl VisionTransformer {
    fn mean_of_heads(&self, cx: &mut Context, features: &Variable) -> Result<Variable> {
        let n = features.dims()[0];
        let width = features.tensor().elem_count() / n / self.tokens.len();
        let tokens = cx.reshape(features, &[n, self.tokens.len(), width])?;
        let mut logits = Vec::new();
        for (i, head) in self.heads.iter().enumerate() {
            let token = select_tokens(cx, &tokens, i, 1)?;
            let token = cx.reshape(&token, &[n, width])?;
            logits.push(head.forward(cx, &token)?);
        }
        let [class, distilled] = logits.as_slice() else {
            return Err(Error::shape("head", "one or two heads", &[self.heads.len()]));
        };
        mean(cx, class, distilled)
    }
}

/// The mean of two tensors.
fn mean(cx: &mut Context, x: &Variable, y: &Variable) -> Result<Variable> {
    let sum = crate::layers::add(cx, x, y)?;
    cx.apply(Op::Scale(0.5), &[&sum], x.dims(), |cx| {
        let half = ops::upload(&vec![0.5f32; sum.tensor().elem_count()], sum.dims(), &cx.device())?;
        ops::scale_elements(sum.tensor(), &half)
    })
}

/// Attention and perceptron.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    inner: PreNormBlock,
    attn: Attention,
}

impl Block {
    pub(crate) fn new(b: &mut ParamBuilder, width: usize, heads: usize, at: BlockIndex) -> Self {
        let attn = |b: &mut ParamBuilder| Attention::new(b, width, heads, INIT, true);
        let (inner, attn) = PreNormBlock::around(b, [width, 4 * width], EPS, INIT, at, attn);
        Self { inner, attn }
    }

    pub(crate) fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        self.inner.forward(cx, x, |cx, y| self.attn.forward(cx, y))
    }
}
