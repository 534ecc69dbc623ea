//! DeiT (Touvron et al., 2021): the plain vision transformer, 16x16 patches, class token, learned positions.
//!
//! | variant | width | heads | parameters (1000 classes) |
//! | --- | --- | --- | --- |
//! | `deit_tiny` | 192 | 3 | 5.7 M |
//! | `deit_small` | 384 | 6 | 22.1 M |
//! | `deit_base` | 768 | 12 | 86.6 M |
//!
//! Twelve blocks each. Takes pictures whose edges are multiples of 16; the position embedding follows the size.

use crate::backbone::{Backbone, Blueprint, check_pictures};
use crate::graph::{Act, Context};
use crate::layers::{Attention, Conv2d, LayerNorm, Linear, Mlp, add_branch};
use crate::ops;
use crate::params::{Init, ParamBuilder, ParamId};
use crate::registry::Options;
use crate::resample::Resample;
use crate::{Error, Family, Result};

/// Edge of a patch, in pixels.
const PATCH: usize = 16;
/// PyTorch's default would be 1e-5; all vision transformers of timm use this.
const EPS: f64 = 1e-6;
/// Initial values of linear layers, tokens and positions.
const INIT: Init = Init::TruncatedNormal { std: 0.02, limit: 2.0 };

/// Width, heads and depth of a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VitConfig {
    /// Channels of a token.
    pub width: usize,
    /// Attention heads.
    pub heads: usize,
    /// Blocks.
    pub depth: usize,
}

/// A vision transformer with a linear head on its class token.
#[derive(Debug)]
pub struct VisionTransformer {
    blueprint: Blueprint,
    cls_token: ParamId,
    pos_embed: ParamId,
    patch_embed: Conv2d,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

impl VisionTransformer {
    /// Makes the structure of a variant.
    ///
    /// # Errors
    /// When the input size is no multiple of the patch.
    pub fn new(name: &str, config: VitConfig, options: &Options) -> Result<Self> {
        let VitConfig { width, heads, depth } = config;
        let [rows, cols] = grid(name, options.input_size)?;
        let mut b = ParamBuilder::default();
        let cls_token = b.undecayed("cls_token", &[1, 1, width], INIT);
        let pos_embed = b.undecayed("pos_embed", &[1, 1 + rows * cols, width], INIT);
        let patch_embed =
            b.within("patch_embed", |b| b.within("proj", |b| Conv2d::patches(b, 3, width, PATCH)));
        let blocks = b
            .within("blocks", |b| (0..depth).map(|i| b.within(i, |b| Block::new(b, width, heads))).collect());
        let norm = b.within("norm", |b| LayerNorm::new(b, width, EPS));
        let head = b.within("head", |b| Linear::new(b, width, options.num_classes, INIT, Init::Zeros));
        Ok(Self {
            blueprint: options.blueprint(name, Family::Vit, b, "head"),
            cls_token,
            pos_embed,
            patch_embed,
            blocks,
            norm,
            head,
        })
    }
}

/// Rows and columns of patches.
fn grid(name: &str, [height, width]: [usize; 2]) -> Result<[usize; 2]> {
    if height == 0 || width == 0 || !height.is_multiple_of(PATCH) || !width.is_multiple_of(PATCH) {
        let reason = format!("both edges must be multiples of {PATCH}, the edge of a patch");
        return Err(Error::InputSize { model: name.into(), height, width, reason });
    }
    Ok([height / PATCH, width / PATCH])
}

impl Backbone for VisionTransformer {
    fn blueprint(&self) -> &Blueprint {
        &self.blueprint
    }

    fn set_input_size(&mut self, size: [usize; 2]) -> Result<Vec<Resample>> {
        let (from, to) = (grid(self.name(), self.input_size())?, grid(self.name(), size)?);
        self.blueprint.input_size = size;
        if from == to {
            return Ok(Vec::new());
        }
        self.blueprint.specs[self.pos_embed.index()].shape[1] = 1 + to[0] * to[1];
        Ok(vec![Resample { id: self.pos_embed, prefix: 1, from, to }])
    }

    fn features(&self, cx: &mut Context, pictures: &Act) -> Result<Act> {
        check_pictures(self, pictures)?;
        let patches = self.patch_embed.forward(cx, pictures)?;
        let &[n, rows, cols, width] = patches.dims() else {
            return Err(Error::shape("patch_embed", "patches [N, rows, cols, C]", patches.dims()));
        };
        let patches = cx.reshape(&patches, &[n, rows * cols, width])?;
        let (class, position) = (cx.param(self.cls_token), cx.param(self.pos_embed));
        let tokens = ops::join_tokens(patches.tensor(), class.tensor(), position.tensor())?;
        let mut x = cx.record(&[&patches, &class, &position], tokens);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(cx, &x, i, self.blocks.len())?;
        }
        // Layer norm works token by token: only the class token needs it.
        let class = cx.record(&[&x], ops::select_token(x.tensor(), 0)?);
        self.norm.forward(cx, &class)
    }

    fn head(&self, cx: &mut Context, features: &Act) -> Result<Act> {
        self.head.forward(cx, features)
    }
}

/// Pre-norm attention and perceptron, each on a residual branch.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(b: &mut ParamBuilder, width: usize, heads: usize) -> Self {
        Self {
            norm1: b.within("norm1", |b| LayerNorm::new(b, width, EPS)),
            attn: b.within("attn", |b| Attention::new(b, width, heads, INIT)),
            norm2: b.within("norm2", |b| LayerNorm::new(b, width, EPS)),
            mlp: b.within("mlp", |b| Mlp::new(b, width, 4 * width, INIT)),
        }
    }

    fn forward(&self, cx: &mut Context, x: &Act, index: usize, depth: usize) -> Result<Act> {
        let y = self.norm1.forward(cx, x)?;
        let y = self.attn.forward(cx, &y)?;
        let x = add_branch(cx, x, &y, (index, depth), "attn")?;
        let y = self.norm2.forward(cx, &x)?;
        let y = self.mlp.forward(cx, &y)?;
        add_branch(cx, &x, &y, (index, depth), "mlp")
    }
}
