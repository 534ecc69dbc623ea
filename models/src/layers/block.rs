//! The shapes that families share: the pre-norm block of transformers, and stages of blocks on ever
//! coarser maps.

use super::{BlockIndex, Conv2d, LayerNorm, Mlp, Residual};
use crate::Result;
use crate::graph::{Context, Variable};
use crate::params::{Init, ParamBuilder};

/// A layer with one map or sequence as input and one as output.
pub trait Layer {
    /// Returns the layer's value for `x`.
    ///
    /// # Errors
    /// When `x` does not fit.
    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable>;
}

/// A token mixer and a perceptron, each on a residual branch behind a norm. The mixer itself is the
/// family's.
#[derive(Clone, Debug)]
pub struct PreNormBlock {
    /// Norm before the mixer.
    pub norm1: LayerNorm,
    /// Residual connection of the mixer.
    pub residual1: Residual,
    /// Norm before the perceptron.
    pub norm2: LayerNorm,
    /// The perceptron.
    pub mlp: Mlp,
    /// Residual connection of the perceptron.
    pub residual2: Residual,
    /// Position of the block, for stochastic depth.
    pub at: BlockIndex,
}

impl PreNormBlock {
    /// A block whose parameters are registered as `norm1`, `attn`, `norm2`, `mlp`; also gives the
    /// mixer that `attn` makes.
    pub fn around<M>(
        b: &mut ParamBuilder,
        [width, hidden]: [usize; 2],
        eps: f64,
        weight: Init,
        at: BlockIndex,
        attn: impl FnOnce(&mut ParamBuilder) -> M,
    ) -> (Self, M) {
        let norm1 = b.within("norm1", |b| LayerNorm::new(b, width, eps));
        let attn = b.within("attn", attn);
        let norm2 = b.within("norm2", |b| LayerNorm::new(b, width, eps));
        let mlp = b.within("mlp", |b| Mlp::new(b, width, hidden, weight));
        let (residual1, residual2) = (Residual::default(), Residual::default());
        (Self { norm1, residual1, norm2, mlp, residual2, at }, attn)
    }

    /// `x` to the same shape; `mix` is the token mixer.
    ///
    /// # Errors
    /// When the last dimension does not fit, or those of `mix`.
    pub fn forward(
        &self,
        cx: &mut Context,
        x: &Variable,
        mix: impl FnOnce(&mut Context, &Variable) -> Result<Variable>,
    ) -> Result<Variable> {
        let y = self.norm1.forward(cx, x)?;
        let y = mix(cx, &y)?;
        let x = self.residual1.forward(cx, x, &y, self.at, "attn")?;
        let y = self.norm2.forward(cx, &x)?;
        let y = self.mlp.forward(cx, &y)?;
        self.residual2.forward(cx, &x, &y, self.at, "mlp")
    }
}

/// A convolution that makes a map coarser, with a norm before it, behind it, or both.
#[derive(Clone, Debug)]
pub struct Downsample {
    /// Norm of what comes in.
    pub before: Option<LayerNorm>,
    /// The convolution.
    pub conv: Conv2d,
    /// Norm of what goes out.
    pub after: Option<LayerNorm>,
}

impl Layer for Downsample {
    fn forward(&self, cx: &mut Context, x: &Variable) -> Result<Variable> {
        let x = match &self.before {
            Some(norm) => norm.forward(cx, x)?,
            None => x.clone(),
        };
        let x = self.conv.forward(cx, &x)?;
        match &self.after {
            Some(norm) => norm.forward(cx, &x),
            None => Ok(x),
        }
    }
}

/// Runs stage after stage, each a downsampling layer and then blocks; returns the map after each.
///
/// # Errors
/// Those of the layers.
pub fn run_stages<D: Layer, B: Layer + Clone + Send + Sync + 'static>(
    cx: &mut Context,
    images: &Variable,
    downsample: &[D],
    stages: &[Vec<B>],
) -> Result<Vec<Variable>> {
    let mut x = images.clone();
    let mut maps = Vec::with_capacity(stages.len());
    for (downsample, blocks) in downsample.iter().zip(stages) {
        x = downsample.forward(cx, &x)?;
        for block in blocks {
            x = cx.block(block, &x, B::forward)?;
        }
        maps.push(x.clone());
    }
    Ok(maps)
}
