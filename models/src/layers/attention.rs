//! Multi-head self-attention.

use super::Linear;
use crate::Result;
use crate::graph::{Act, Context};
use crate::ops;
use crate::params::{Init, ParamBuilder};

/// Self-attention over tokens, with parameters `qkv` and `proj` as timm's.
#[derive(Clone, Debug)]
pub struct Attention {
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

impl Attention {
    /// `heads` heads over `width` channels, which `heads` must divide.
    pub fn new(b: &mut ParamBuilder, width: usize, heads: usize, weight: Init) -> Self {
        let qkv = b.within("qkv", |b| Linear::new(b, width, 3 * width, weight, Init::Zeros));
        let proj = b.within("proj", |b| Linear::new(b, width, width, weight, Init::Zeros));
        Self { qkv, proj, heads }
    }

    /// `[B, L, C]` to the same shape.
    ///
    /// # Errors
    /// When the last dimension does not fit.
    pub fn forward(&self, cx: &mut Context, x: &Act) -> Result<Act> {
        let qkv = self.qkv.forward(cx, x)?;
        let mixed = cx.record(&[&qkv], ops::attention(qkv.tensor(), self.heads)?);
        self.proj.forward(cx, &mixed)
    }
}
